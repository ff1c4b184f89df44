"""A small client of the management API, for the command line: finds the proxy, words its errors."""

import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from ai_proxy.cli.failure import CONFIG_FAULT, Failure
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.paths import find_config

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "AI_PROXY_KEY"
CERT_VARIABLE = "AI_PROXY_CERT"
CONNECT_S = 3.0
ANSWER_S = 30.0
WAIT_S = 7200
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what a server listens on is not where to reach it


class Refusal(Failure):
    """The proxy answered that it will not do what it was asked.

    Args:
        message: What the user reads.
        http_status: The answer's status.
    """

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Client:
    """Talks to one proxy.

    Args:
        url: Where it listens, if the user said so.
        config: The config file to find it by, if the user named one.

    Raises:
        Failure: Nothing says where it listens.
    """

    def __init__(self, url: str | None, config: Path | None) -> None:
        self._url = (url or _url_of(config)).rstrip("/")
        if "://" not in self._url:
            self._url = f"http://{self._url}"
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise Failure(f"{KEY_VARIABLE} holds no key: a key is letters and digits on one line")
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        trust = _trust() if self._url.startswith("https://") else True
        try:
            self._http = httpx.Client(
                base_url=f"{self._url}/api/v1", headers=headers, timeout=timeout, trust_env=False, verify=trust
            )
        except httpx.InvalidURL as error:
            raise Failure(f"{url} is no URL ({error}): write one like {DEFAULT_URL}") from None

    def __repr__(self) -> str:
        return f"<Client of {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        """The JSON that GET answers."""
        return _json(self._send("GET", path))

    def act(self, service: str, verb: str, *, wait: bool) -> Any:
        """Have a service start, stop or restart; with `wait`, until that is done."""
        params = {"wait": "true", "timeout_s": str(WAIT_S)} if wait else {}
        return _json(self._send("POST", f"{_path_of(service)}/{verb}", params, WAIT_S if wait else 0))

    def reload(self) -> Any:
        """Have the config file read again; what changed."""
        return _json(self._send("POST", "/config/reload"))

    def plan(self, service: str) -> Any:
        """What would happen if a service were to start."""
        return _json(self._send("POST", "/plan", body={"start": service}))

    def story(self, request: str) -> Any:
        """Where a request has waited, and why."""
        return self.get(f"/requests/{quote(request, safe='')}")

    def take_lease(self, wish: Mapping[str, Any]) -> Any:
        """Take a lease, waiting for as long as the wish says."""
        return _json(self._send("POST", "/leases", extra_s=wish["wait_s"], body=wish))

    def renew_lease(self, lease: str, pids: Sequence[int], answer_s: float) -> None:
        """Send a heartbeat for a lease, and tell who uses its room."""
        self._send("PUT", f"/leases/{lease}", extra_s=answer_s - ANSWER_S, body={"pids": list(pids)})

    def end_lease(self, lease: str) -> None:
        """Give a lease back."""
        self._send("DELETE", f"/leases/{lease}")

    def logs(self, service: str, tail: int) -> str:
        """The last lines of a service's output."""
        return self._send("GET", f"{_path_of(service)}/logs", {"tail": str(tail)}).text

    def follow_logs(self, service: str, tail: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The last lines of a service's output, and all that come, as events."""
        return self._events(f"{_path_of(service)}/logs", {"follow": "true", "tail": str(tail)})

    def follow_events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens from now on: kinds and data, until the proxy ends."""
        return self._events("/events", {})

    def _events(self, path: str, params: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with self._http.stream("GET", path, params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refusal(answer)
                kind = ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        extra_s: float = 0,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        timeout = httpx.Timeout(ANSWER_S + extra_s, connect=CONNECT_S)
        try:
            answer = self._http.request(method, path, params=params, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if not answer.is_success:
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: httpx.Response) -> Refusal:
        said = _detail(answer)
        if answer.status_code == 401 and self._key:
            said = f"the key in {KEY_VARIABLE} does not open management at {self._url}"
        elif answer.status_code == 401:
            said = f"the proxy at {self._url} asks for a management key: set {KEY_VARIABLE} to one"
        return Refusal(said, answer.status_code)

    def _unreachable(self, error: httpx.HTTPError) -> Failure:
        match error:
            case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return Failure(
                    f"the certificate at {self._url} is not accepted: say --url with a name that it bears, and set "
                    f"SSL_CERT_FILE to its CA ({str(error).partition('failed: ')[2] or error})"
                )
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return Failure(f"no proxy answers at {self._url}: start one with `ai-proxy serve`, or say --url")
            case httpx.ReadTimeout():
                return Failure(f"the proxy at {self._url} did not answer in time")
            case httpx.UnsupportedProtocol():
                return Failure(f"{self._url} is no URL of a proxy: write one like {DEFAULT_URL}")
            case _:
                is_https = self._url.startswith("https://")
                hint = f"set {CERT_VARIABLE} if it asks for a certificate" if is_https else "does it speak https?"
                return Failure(f"the proxy at {self._url} broke off ({type(error).__name__}); {hint}")


def _trust() -> ssl.SSLContext:
    """Whom to believe to be the proxy, and what to show to it."""
    context = ssl.create_default_context()  # the system's CAs, or those that SSL_CERT_FILE names; takes its time
    if own := os.environ.get(CERT_VARIABLE):
        try:
            context.load_cert_chain(own, password="")
        except OSError as error:
            fix = "write a PEM file with a certificate and its key, without a password"
            raise Failure(f"{CERT_VARIABLE}: can't use {own} ({error.strerror or error}): {fix}") from None
    return context


def _path_of(service: str) -> str:
    return f"/service/{quote(service, safe='')}"


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Failure(f"{answer.url} did not answer JSON: is that an ai-proxy?") from None


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}: is that an ai-proxy?"


def _url_of(config: Path | None) -> str:
    """Where the proxy of a config file takes orders; the default if there is no file to find it by."""
    try:
        path = find_config(config, os.environ, Path.cwd())
    except ConfigError:
        return DEFAULT_URL
    try:
        settings = load(path, os.environ)
    except ConfigError as error:
        raise Failure(
            f"{error}\nThe file does not tell where the proxy listens: mend it, or say --url", CONFIG_FAULT
        ) from None
    named, port = settings.management.address or (settings.server.host, settings.server.port)
    if not port:
        raise Failure(f"{path} leaves the choice of a port to the system: say --url")
    host = _EVERYWHERE.get(named, named)
    scheme = "http" if settings.server.tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
