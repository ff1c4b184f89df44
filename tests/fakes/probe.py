"""A probe that asks nobody: it finds what a test says."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from ai_proxy.engines.profile import Call, Question
from ai_proxy.runtimes.base import Instance
from ai_proxy.services.probe import Finding, Probe


class FakeProbe(Probe):
    """Finds every replica ready and at rest unless told otherwise.

    Attributes:
        status: What the health check of a service answers.
        works: What a service's engine says of its work; None: nothing.
        answers: What other calls get, by path; 200 and nothing else unless told otherwise.
        hangs: Paths that never answer.
        calls: What was called, in order: method and path.
    """

    def __init__(self) -> None:
        self.status: dict[str, int] = defaultdict(lambda: 200)
        self.answers: dict[str, Finding] = {}
        self.hangs: set[str] = set()
        self.calls: list[str] = []
        self.works: dict[str, bool | None] = defaultdict(bool)

    async def health(self, instance: Instance, path: str, headers: Mapping[str, str] | None = None) -> Finding:
        status = self.status[instance.service]
        return Finding(status, f"{path} answered {status}")

    async def busy(self, instance: Instance, probe: Question, headers: Mapping[str, str] | None = None) -> bool | None:
        return self.works[instance.service]

    async def call(
        self,
        instance: Instance,
        call: Call,
        headers: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Finding:
        self.calls.append(f"{call.method} {call.path}")
        if call.path in self.hangs:
            await asyncio.sleep(deadline_s or 2)
            return Finding(0, f"{call.path} did not answer")
        return self.answers.get(call.path, Finding(200, f"{call.path} answered 200"))

    async def aclose(self) -> None:
        pass
