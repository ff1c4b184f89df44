"""How a replica is asked whether it is ready and whether it works, and told to sleep or wake: one exchange each.

Probes have a pool of their own, so that a busy data plane never delays them and they never take a connection from
it. Nothing is decided here; a finding says what was seen, in words that fit into an error message.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from ai_proxy.engines.profile import Call, Question
from ai_proxy.runtimes.base import Instance
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.pool import Pool

if TYPE_CHECKING:
    from ai_proxy.services.client import Client

DEADLINE_S = 2.0
_QUOTED = 80
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of an exchange.

    Attributes:
        status: What was answered; 0 if nothing was.
        detail: What came back, for people.
        body: What came back, cut where it is too long.
    """

    status: int
    detail: str
    body: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        """Whether the answer was a 2xx."""
        return 200 <= self.status < 300


class Probe:
    """Asks replicas over HTTP, each time on a connection of its own.

    Args:
        deadline_s: For each exchange as a whole.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._pool = Pool(limits=Limits(idle_expiry_s=0))
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"<Probe {self._pool!r}>"

    async def health(self, instance: Instance, path: str, headers: Mapping[str, str] = _NO_HEADERS) -> Finding:
        """Ask whether a replica is ready; a refused or reset connection is an answer, not an error.

        Args:
            instance: Whom to ask.
            path: Its health path.
            headers: The service's own headers, a key for one, which every request to it carries.
        """
        return await self.call(instance, Call("GET", path), headers)

    async def asks(
        self, instance: Instance, question: Question, headers: Mapping[str, str] = _NO_HEADERS
    ) -> bool | None:
        """Put a question to an engine.

        Returns:
            What it said; None if it did not answer, be it that it works too hard to.

        Raises:
            ValueError: It can't be asked this way, by its own answer.
        """
        found = await self.call(instance, Call("GET", question.path), headers)
        if found.status == 0:
            return None
        if found.status != HTTPStatus.OK:
            raise ValueError(found.detail)
        return question.reads(found.body)

    async def busy(self, instance: Instance, probe: Question, headers: Mapping[str, str] = _NO_HEADERS) -> bool | None:
        """Ask whether an engine works; one that can't be asked this way counts as idle.

        Returns:
            What it said; None if it did not answer.
        """
        try:
            return await self.asks(instance, probe, headers)
        except ValueError:
            return False

    async def call(
        self,
        instance: Instance,
        call: Call,
        headers: Mapping[str, str] = _NO_HEADERS,
        deadline_s: float | None = None,
    ) -> Finding:
        """Have one exchange with a replica; whatever goes wrong is a finding.

        Args:
            instance: Whom to call.
            call: What to say.
            headers: The service's own headers.
            deadline_s: For the exchange as a whole; else the probe's.
        """
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        client = self._client
        if client is None:
            client = self._client = await asyncio.to_thread(_connect, self._pool)
        try:
            async with asyncio.timeout(deadline_s):
                status, body = await client.exchange(instance, call, headers, deadline_s)
        except TimeoutError:
            return Finding(0, f"{call.path} did not answer within {deadline_s:g} s")
        except ConnectionError as error:
            return Finding(0, f"{call.path} can't be reached ({error})")
        return Finding(status, f"{call.path} answered {status} {_excerpt(body)}".strip(), body)

    async def aclose(self) -> None:
        """Close the client and its pool."""
        if self._client is not None:
            await self._client.aclose()
        await self._pool.aclose()


def _connect(pool: Pool) -> "Client":
    # httpx takes a tenth of a second to import: nobody waits for that before the first probe, nor does the loop then.
    from ai_proxy.services.client import Client  # noqa: PLC0415

    return Client(pool)


def _excerpt(body: bytes) -> str:
    return " ".join(body[: 4 * _QUOTED].decode(errors="replace").split())[:_QUOTED]
