"""TLS in a config: what its sections mean, and what is said of files that can't be used."""

import ssl
from pathlib import Path

import pytest

from ai_proxy.config.certificates import complaint_about
from ai_proxy.config.diff import diff
from ai_proxy.config.load import inspect
from ai_proxy.config.models import Config
from ai_proxy.config.tls import ClientAuth, ServerTls
from tests.config.conftest import Faults, Load
from tests.fakes.certificates import Authority

REST = "\nservices: {a: {image: x}}"
PAIR = "{cert: ca-server.pem, key: ca-server.key"
FAULTS = {
    "a missing file": ("server: {tls: {cert: no.pem, key: ca-server.key}}", "server.tls.cert: can't read no.pem: No"),
    "a missing key": ("server: {tls: {cert: ca-server.pem, key: no.key}}", "server.tls.key: can't read no.key: No"),
    "a folder": ("server: {tls: {cert: ., key: ca-server.key}}", ": Is a directory; fix: correct the path"),
    "another's key": (
        "server: {tls: {cert: ca-server.pem, key: ca-other.key}}",
        "server.tls.key: ca-other.key is not the key of ca-server.pem",
    ),
    "no key in it": (
        "server: {tls: {cert: ca-server.pem, key: ca-server.pem}}",
        "server.tls.key: ca-server.pem holds no private key",
    ),
    "a key under a password": (
        "server: {tls: {cert: ca-server.pem, key: locked.key}}",
        "server.tls.key: locked.key has a password; fix: take it off",
    ),
    "no certificate": (
        "server: {tls: {cert: ca-server.key, key: ca-server.key}}",
        "server.tls.cert: ca-server.key holds no certificate",
    ),
    "no CA": (f"server: {{tls: {PAIR}, client_ca: ca-server.key}}}}", "server.tls.client_ca: ca-server.key holds no"),
    "nobody to ask for": (f"server: {{tls: {PAIR}, client_auth: optional}}}}", "client_auth without a client_ca"),
    "no key at all": ("server: {tls: {cert: ca-server.pem}}", "server.tls.key: this key is required"),
    "a URL in the clear": ("services: {b: {url: 'http://b', tls: {}}}", "services.b.tls: only a service with a url of"),
    "no URL": ("services: {b: {image: x, tls: {verify: false}}}", "services.b.tls: only a service with a url of https"),
    "a CA for nothing": (
        "services: {b: {url: 'https://b', tls: {ca: ca.pem, verify: false}}}",
        "ca without effect while verify is false",
    ),
    "no CA of a service": (
        "services: {b: {url: 'https://b', tls: {ca: no.pem}}}",
        "services.b.tls.ca: can't read no.pem",
    ),
    "half of a pair": (
        "services: {b: {url: 'https://b', tls: {client_key: ca-server.key}}}",
        "client_key without a client_cert",
    ),
    "two halves": (
        "services: {b: {url: 'https://b', tls: {client_cert: ca-server.pem, client_key: ca-other.key}}}",
        "services.b.tls.client_key: ca-other.key is not the key of ca-server.pem",
    ),
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue()
    authority.issue(name="other")
    locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    (tmp_path / "locked.key").write_text(locked)
    return authority


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
@pytest.mark.usefixtures("authority")
def test_a_fault_names_its_key_and_its_file(text: str, expected: str, faults_of: Faults) -> None:
    lines = faults_of(text if "services" in text else text + REST)

    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.usefixtures("authority")
def test_files_start_at_the_config_file(load_text: Load, tmp_path: Path) -> None:
    service = "services: {b: {url: 'https://b/v1', tls: {ca: ca.pem, client_cert: ca-server.pem}}}"
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().load_cert_chain(tmp_path / "ca-server.pem")
    (tmp_path / "ca-server.pem").write_bytes(
        (tmp_path / "ca-server.pem").read_bytes() + (tmp_path / "ca-server.key").read_bytes()
    )

    config = load_text(f"server: {{tls: {PAIR}, client_ca: ./ca.pem}}}}\n{service}")

    assert config.server.tls is not None
    assert config.server.tls.files == tuple(
        str(tmp_path / name) for name in ("ca-server.pem", "ca-server.key", "ca.pem")
    )
    assert config.server.tls.clients is ClientAuth.REQUIRED
    assert config.services["b"].tls is not None
    assert config.services["b"].tls.ca == str(tmp_path / "ca.pem")


def test_what_clients_will_not_like_is_no_fault_but_told(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(
        "server: {tls: {cert: ca-old.pem, key: ca-old.key}}\nservices: {b: {url: 'https://b', tls: {verify: false}}}"
    )
    authority.issue(name="old", expired=True)

    notes = inspect(path, {}).notes

    assert notes == (
        f"{tmp_path}/ca-old.pem: certificate has expired",
        "b: nobody checks its certificate (tls.verify: false)",
    )


def test_a_good_certificate_is_not_complained_about(authority: Authority) -> None:
    cert, key = authority.issue()

    assert complaint_about(ServerTls(cert=str(cert), key=str(key))) is None


def test_a_change_of_a_service_s_trust_replaces_its_connections_that_of_the_listener_waits_for_the_next_start() -> None:
    def with_tls(ca: str | None, cert: str) -> Config:
        service = {"url": "https://b", **({"tls": {"ca": ca}} if ca else {})}
        return Config.model_validate({"server": {"tls": {"cert": cert, "key": "k"}}, "services": {"b": service}})

    change = diff(with_tls(None, "a"), with_tls("x", "b"))

    assert change.restarts == ("b",)
    assert change.deferred == ("server.tls",)
