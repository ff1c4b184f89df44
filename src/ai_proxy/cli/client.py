"""A small client of the management API, for the command line: finds the proxy, words its errors."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ai_proxy.cli.failure import Failure
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.paths import find_config

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 3.0
ANSWER_S = 7200.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what a server listens on is not where to reach it


class Client:
    """Talks to one proxy.

    Args:
        url: Where it listens, if the user said so.
        config: The config file to find it by, if the user named one.
    """

    def __init__(self, url: str | None, config: Path | None) -> None:
        self._url = (url or _url_of(config)).rstrip("/")
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._http = httpx.Client(base_url=f"{self._url}/api/v1", timeout=timeout, trust_env=False)

    def __repr__(self) -> str:
        return f"<Client of {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        """The JSON that GET answers."""
        return self._send("GET", path, {}).json()

    def post(self, path: str, params: Mapping[str, str]) -> Any:
        """The JSON that POST answers."""
        return self._send("POST", path, params).json()

    def text(self, path: str, params: Mapping[str, str]) -> str:
        """The text that GET answers."""
        return self._send("GET", path, params).text

    def events(self, path: str, params: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The server-sent events that GET answers: their kinds and data, until the proxy ends them."""
        try:
            with self._http.stream("GET", path, params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    raise Failure(_detail(answer))
                kind = ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _send(self, method: str, path: str, params: Mapping[str, str]) -> httpx.Response:
        try:
            answer = self._http.request(method, path, params=params)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if not answer.is_success:
            raise Failure(_detail(answer))
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> Failure:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Failure(f"no proxy answers at {self._url}: start one with `ai-proxy serve`, or say --url")
        return Failure(f"the proxy at {self._url} broke off: {type(error).__name__}")


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url} answered {answer.status_code}: is that an ai-proxy?"


def _url_of(config: Path | None) -> str:
    """Where the proxy of a config file listens; the default if there is no file to find it by."""
    try:
        server = load(find_config(config, os.environ, Path.cwd()), os.environ).server
    except ConfigError as error:
        if config is not None:
            raise Failure(str(error)) from None
        return DEFAULT_URL
    host = _EVERYWHERE.get(server.host, server.host)
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"
