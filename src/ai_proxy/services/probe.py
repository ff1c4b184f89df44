"""How a replica is asked whether it is ready and whether it works: one short exchange each.

Probes have a pool of their own, so that a busy data plane never delays them and they never take a connection from
it. Nothing is decided here; a finding says what was seen, in words that fit into an error message.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import httpx

from ai_proxy.engines.profile import BusyProbe
from ai_proxy.routing.base_path import join_path
from ai_proxy.runtimes.base import Instance
from ai_proxy.transport.adapter import PooledTransport
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.pool import Pool

DEADLINE_S = 2.0
MAX_BODY_BYTES = 4 * 1024 * 1024  # `/slots` shows the prompts of some llama-server versions
_QUOTED = 80
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finding:
    """What a health check saw.

    Attributes:
        status: What it answered; 0 if it did not.
        detail: What came back, for people.
    """

    status: int
    detail: str


class Probe:
    """Asks replicas over HTTP, each time on a connection of its own.

    Args:
        deadline_s: For each exchange as a whole.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._pool = Pool(limits=Limits(idle_expiry_s=0))
        self._client = httpx.AsyncClient(
            transport=PooledTransport(self._pool),
            timeout=deadline_s,
            headers={"connection": "close"},
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"<Probe {self._pool!r}>"

    async def health(self, instance: Instance, path: str, headers: Mapping[str, str] = _NO_HEADERS) -> Finding:
        """Ask whether a replica is ready; a refused or reset connection is an answer, not an error.

        Args:
            instance: Whom to ask.
            path: Its health path.
            headers: The service's own headers, a key for one, which every request to it carries.
        """
        try:
            status, body = await self._get(url_of(instance, path), headers)
        except (TimeoutError, httpx.TimeoutException):
            return Finding(0, f"{path} did not answer within {self._deadline_s:g} s")
        except httpx.HTTPError as error:
            return Finding(0, f"{path} can't be reached ({type(error).__name__})")
        return Finding(status, f"{path} answered {status} {_excerpt(body)}".strip())

    async def busy(self, instance: Instance, probe: BusyProbe, headers: Mapping[str, str] = _NO_HEADERS) -> bool | None:
        """Ask whether an engine works; one that can't be asked this way, by its own answer, counts as idle.

        Returns:
            What it said; None if it did not answer, be it that it works too hard to.
        """
        try:
            status, body = await self._get(url_of(instance, probe.path), headers)
        except (TimeoutError, httpx.HTTPError):
            return None
        try:
            return status == httpx.codes.OK and probe.reads(body)
        except ValueError:
            return False

    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """One exchange, bounded as a whole in time and in size: httpx's own timeouts begin anew at each byte."""
        body = bytearray()
        async with asyncio.timeout(self._deadline_s), self._client.stream("GET", url, headers=headers) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    break
        return answer.status_code, bytes(body[:MAX_BODY_BYTES])

    async def aclose(self) -> None:
        """Close the client and its pool."""
        await self._client.aclose()
        await self._pool.aclose()


def url_of(instance: Instance, path: str) -> str:
    """The URL of a path on a replica.

    Example:
        >>> url_of(Instance("x", "chat", "::1", 8080, base_path="/api"), "/health")
        'http://[::1]:8080/api/health'
    """
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    target = join_path(instance.base_path.encode(), path.encode()).decode()
    return f"{instance.scheme}://{host}:{instance.port}{target}"


def _excerpt(body: bytes) -> str:
    return " ".join(body[: 4 * _QUOTED].decode(errors="replace").split())[:_QUOTED]
