"""A proxy that speaks https, as its users meet it: an SDK, the command line, a certificate that is renewed."""

import ssl
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import openai
import pytest

from tests.cli.shell import run
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until
from tests.fakes.certificates import Authority

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, authority: Authority) -> Proxy:
    """Its listeners speak https, and a service of it is itself, reached by https."""
    cert, key = map(str, authority.issue())
    settings = {
        "server": {"tls": {"cert": cert, "key": key}},
        "management": {"port": 0},
        "services": {"small": process()},
    }
    proxy = serve_module(settings)
    itself = {
        "url": f"https://localhost:{proxy.port}/small",
        "tls": {"ca": str(authority.file)},
        "models": ["again"],
    }
    proxy.configure({**settings, "services": {"small": process(), "again": itself}})
    until(lambda: "added again" in proxy.log, lambda: proxy.log)
    return proxy


def test_an_sdk_that_knows_the_authority_streams(proxy: Proxy, authority: Authority) -> None:
    with (
        openai.DefaultHttpxClient(verify=authority.believer()) as http,
        openai.OpenAI(base_url=f"https://localhost:{proxy.port}/v1", api_key="x", http_client=http) as client,
    ):
        for model in ("small", "again"):
            chunks = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_command_line_finds_it_by_its_url_and_the_authority_s_file(
    proxy: Proxy, authority: Authority, tmp_path: Path
) -> None:
    port = next(line for line in proxy.log.splitlines() if "Management listens on https://" in line).rsplit(":", 1)[1]
    url = f"https://localhost:{port}"

    assert "small" in run(tmp_path, "ps", AI_PROXY_URL=url, SSL_CERT_FILE=str(authority.file)).out
    refused = run(tmp_path, "ps", AI_PROXY_URL=url)
    assert f"the certificate at {url} is not accepted" in refused.err
    assert "set SSL_CERT_FILE to its CA" in refused.err


def test_who_speaks_no_tls_gets_no_answer(proxy: Proxy) -> None:
    with pytest.raises((URLError, OSError)):
        urlopen(f"http://127.0.0.1:{proxy.port}/health", timeout=20)


def test_a_renewed_certificate_is_shown_without_a_restart_a_broken_one_never(
    proxy: Proxy, authority: Authority
) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("localhost", proxy.port), ca_certs=str(authority.file))

    before = shown()
    key = authority.issue().key
    until(lambda: shown() != before, lambda: proxy.log)
    renewed = shown()

    key.write_bytes(b"")
    until(lambda: "New certificates are not used" in proxy.log and "holds no private key" in proxy.log, proxy.log)
    assert shown() == renewed
