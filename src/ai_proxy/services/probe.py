"""How a replica is asked whether it is ready and whether it works: one short exchange each.

Probes have a client of their own, so that a busy data plane never delays them and they never take a connection from
it. Nothing is decided here; a finding says what was seen, in words that fit into an error message.
"""

from dataclasses import dataclass

import httpx

from ai_proxy.engines.profile import BusyProbe
from ai_proxy.runtimes.base import Instance

DEADLINE_S = 2.0
_QUOTED = 80


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
        transport: Carries the exchanges; the caller closes it.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._client = httpx.AsyncClient(
            transport=transport, timeout=DEADLINE_S, headers={"connection": "close"}, trust_env=False
        )

    def __repr__(self) -> str:
        return f"<Probe {self._client!r}>"

    async def health(self, instance: Instance, path: str) -> Finding:
        """Ask whether a replica is ready; a refused or reset connection is an answer, not an error."""
        try:
            answer = await self._client.get(url_of(instance, path))
        except httpx.TimeoutException:
            return Finding(0, f"{path} did not answer within {DEADLINE_S:g} s")
        except httpx.HTTPError as error:
            return Finding(0, f"{path} can't be reached ({type(error).__name__})")
        return Finding(answer.status_code, f"{path} answered {answer.status_code} {_excerpt(answer)}".strip())

    async def busy(self, instance: Instance, probe: BusyProbe) -> bool:
        """Ask whether an engine works; one that does not answer counts as idle, its health says the rest."""
        try:
            answer = await self._client.get(url_of(instance, probe.path))
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK and probe.reads(answer.content)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


def url_of(instance: Instance, path: str) -> str:
    """The URL of a path on a replica.

    Example:
        >>> url_of(Instance("x", "chat", "::1", 8080, base_path="/api"), "/health")
        'http://[::1]:8080/api/health'
    """
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    return f"{instance.scheme}://{host}:{instance.port}{instance.base_path}{path}"


def _excerpt(answer: httpx.Response) -> str:
    return " ".join(answer.text.split())[:_QUOTED]
