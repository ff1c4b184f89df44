"""While a replica serves: its end is noticed, its health looked after, its engine asked whether it works."""

import asyncio
from contextlib import suppress
from typing import Never

from ai_proxy.config.models import RuntimeKind
from ai_proxy.engines.registry import health_path_of, is_ready, profile_of
from ai_proxy.errors import StartFailed
from ai_proxy.services.first import first
from ai_proxy.services.owner import Owner
from ai_proxy.services.subject import Subject

WATCH_EVERY_S = 10.0
ASK_AGAIN_S = 0.1
FAILED_PROBES = 3


class Watch:
    """Watches one replica, life after life.

    Args:
        subject: The replica.
        owner: Is told what is seen.
        drain_timeout_s: How long open exchanges with an unhealthy replica may go on.
        every_s: Interval of the health checks.
    """

    def __init__(self, subject: Subject, owner: Owner, *, drain_timeout_s: float, every_s: float) -> None:
        self._subject = subject
        self._owner = owner
        self._drain_timeout_s = drain_timeout_s
        self._every_s = every_s
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Watch of {self._subject.key}>"

    def ask(self) -> None:
        """Have the engine tell at once whether it works, and if so soon again."""
        self._asked.set()

    async def run(self) -> Never:
        """Notice the end of a ready replica, that it stopped answering, and what its engine says of its work.

        Raises:
            StartFailed: It ended, or is unhealthy and has had its time to drain.
        """
        self._subject.tell("")
        await first(self._look_after(), self._follow_work(), self._subject.until_exit("while it was ready"))

    async def _look_after(self) -> Never:
        """Probe at intervals; a failed probe alone is no reason to act.

        Once the replica is unhealthy it takes nothing new, and what is open on it has `drain_timeout_s` to end.
        """
        subject, failed = self._subject, 0
        while True:
            await asyncio.sleep(self._every_s)
            config = subject.in_use
            if config.kind is RuntimeKind.EXTERNAL and config.health.path is None:
                continue
            finding = await subject.probe.health(subject.running, health_path_of(config), config.headers)
            failed = 0 if is_ready(subject.in_use, finding.status) else failed + 1
            # Asked each time: the answer counts from the last question that found something moving.
            quiet_s = self._owner.quiet_s(subject.key)
            if failed >= FAILED_PROBES and quiet_s >= (FAILED_PROBES - 1) * self._every_s:
                message = f"{subject.id} stopped answering its health check: {finding.detail}"
                failure = StartFailed(message, service=subject.id)
                self._owner.report_unhealthy(subject.key, failure)
                await asyncio.sleep(self._drain_timeout_s)
                raise failure

    async def _follow_work(self) -> Never:
        """Have the engine tell whether it works, at intervals and whenever the owner needs to know.

        One that does not answer has told nothing: what it last said stands, and its health says the rest. Engines
        rest a moment after a request's last byte, so the owner's question is put again soon, then ever more rarely.
        """
        clock = asyncio.get_running_loop().time
        pause_s = self._every_s
        while True:
            pause_s = ASK_AGAIN_S if self._asked.is_set() else min(2 * pause_s, self._every_s)
            self._asked.clear()
            asked_at = clock()
            if (busy := await self._works()) is not None:
                self._owner.report_work(self._subject.key, busy=busy, asked_at=asked_at)
                if not busy:
                    pause_s = self._every_s
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause_s)

    async def _works(self) -> bool | None:
        subject = self._subject
        question = profile_of(subject.in_use).busy
        return None if question is None else await subject.probe.busy(subject.running, question, subject.in_use.headers)
