"""A runtime that does as it is told: it starts nothing, and misbehaves on order.

runtime = FakeRuntime()
runtime.hold("a")                   starts of `a` block until `release("a")`
runtime.fail("a", StartFailed(…))   its next start fails
runtime.ignore_stop("a")            `stop` blocks until `exit("a")`; `obey_stop("a")` undoes it
runtime.fail_stop("a", OSError())   its next stop fails
runtime.exit("a", Exit(code=1))     its replicas end by themselves
runtime.may_prepare.clear()         preparations block until it is set
runtime.prepare_failure = …         they fail
runtime.heal("a")                   all of that is undone
runtime.serve("a", host, port)      the address its replicas get
runtime.own("a", 41, 42)            the processes that its replicas are; not told if this was not called
runtime.readers                     how many read an output now
runtime.starts("a"), runtime.stops("a"), runtime.journal, await runtime.until("started a")
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from ai_proxy.config.models import ServiceConfig
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Progress

GUARD_S = 20


@dataclass(slots=True)
class _Orders:
    """What was ordered for one service."""

    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[Exception] = field(default_factory=list)
    stop_failures: list[Exception] = field(default_factory=list)
    ignores_stop: bool = False
    address: tuple[str, int] = ("127.0.0.1", 1)
    pids: frozenset[int] | None = None

    def __post_init__(self) -> None:
        self.may_start.set()


@dataclass(slots=True)
class _Replica:
    instance: Instance
    ended: "asyncio.Future[Exit]"
    lines: list[str] = field(default_factory=list)
    log_failure: Exception | None = None
    said: asyncio.Event = field(default_factory=asyncio.Event)


class FakeRuntime:
    """A programmable runtime.

    Args:
        adopts: Running replicas that `adopt` finds.
    """

    def __init__(self, adopts: Sequence[Instance] = ()) -> None:
        self._orders: dict[str, _Orders] = {}
        self._replicas: dict[str, _Replica] = {}
        self._adopts = tuple(adopts)
        self._count = 0
        self._wrote = asyncio.Event()
        self.journal: list[str] = []
        self.specs: list[InstanceSpec] = []
        self.readers = 0
        self.adopt_failure: Exception | None = None
        self.prepare_failure: Exception | None = None
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()

    def __repr__(self) -> str:
        return f"FakeRuntime(running={[replica.instance.id for replica in self._running()]})"

    # Orders.

    def hold(self, service: str) -> None:
        """Let starts block."""
        self._of(service).may_start.clear()

    def release(self, service: str) -> None:
        """Let held starts go on."""
        self._of(service).may_start.set()

    def fail(self, service: str, *failures: Exception) -> None:
        """Let the next starts fail, one by one."""
        self._of(service).failures.extend(failures)

    def ignore_stop(self, service: str) -> None:
        """Let stops block until the replica exits."""
        self._of(service).ignores_stop = True

    def serve(self, service: str, host: str, port: int) -> None:
        """Give replicas an address where something answers."""
        self._of(service).address = (host, port)

    def own(self, service: str, *pids: int) -> None:
        """Let replicas be these processes."""
        self._of(service).pids = frozenset(pids)

    def obey_stop(self, service: str) -> None:
        """Let stops end the replica again."""
        self._of(service).ignores_stop = False

    def fail_stop(self, service: str, *failures: Exception) -> None:
        """Let the next stops fail, one by one."""
        self._of(service).stop_failures.extend(failures)

    def heal(self, service: str) -> None:
        """Undo every order but the address."""
        orders = self._of(service)
        orders.may_start.set()
        orders.failures.clear()
        orders.stop_failures.clear()
        orders.ignores_stop = False

    def exit(self, service: str, outcome: Exit = Exit(code=0)) -> None:  # noqa: B008 - frozen
        """End all replicas of a service."""
        for replica in self._running(service):
            self._end(replica, outcome)

    def say(self, service: str, line: str) -> None:
        """Let all replicas of a service write a line."""
        for replica in self._running(service):
            replica.lines.append(line)
            replica.said.set()

    def break_logs(self, service: str, failure: Exception) -> None:
        """Let whoever reads the output of a service fail."""
        for replica in self._running(service):
            replica.log_failure = failure
            replica.said.set()

    # What happened.

    def starts(self, service: str) -> int:
        """How many starts were asked for."""
        return self.journal.count(f"start {service}")

    def stops(self, service: str) -> int:
        """How many stops were asked for."""
        return self.journal.count(f"stop {service}")

    def running(self, service: str | None = None) -> list[Instance]:
        """The replicas that run."""
        return [replica.instance for replica in self._running(service)]

    def has_ended(self, instance: Instance) -> bool:
        """Whether a replica was here and is no more."""
        replica = self._replicas.get(instance.id)
        return replica is not None and replica.instance is instance and replica.ended.done()

    async def until(self, entry: str, count: int = 1) -> None:
        """Wait until the journal holds an entry so many times."""
        async with asyncio.timeout(GUARD_S):
            while self.journal.count(entry) < count:
                self._wrote.clear()
                await self._wrote.wait()

    # The runtime.

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        self._note("prepare")
        progress("preparing")
        try:
            await self.may_prepare.wait()
        except asyncio.CancelledError:
            self._note("cancelled prepare")
            raise
        if self.prepare_failure is not None:
            raise self.prepare_failure
        self._note("prepared")

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        orders = self._of(spec.service)
        self._note(f"start {spec.service}")
        self.specs.append(spec)
        progress("starting")
        try:
            await orders.may_start.wait()
        except asyncio.CancelledError:
            self._note(f"cancelled {spec.service}")
            raise
        if orders.failures:
            self._note(f"failed {spec.service}")
            raise orders.failures.pop(0)
        self._count += 1
        host, port = orders.address
        instance = Instance(
            id=f"fake-{self._count}",
            service=spec.service,
            host=host,
            port=port,
            placement=spec.placement,
            spec_hash=spec.spec_hash,
            replica=spec.replica,
        )
        self._add(instance)
        self._note(f"started {spec.service}")
        return instance

    async def stop(self, instance: Instance, grace_s: float) -> None:
        self._note(f"stop {instance.service}")
        if failures := self._of(instance.service).stop_failures:
            raise failures.pop(0)
        replica = self._replicas.get(instance.id)
        if replica is None:
            return
        if not self._of(instance.service).ignores_stop:
            self._end(replica, Exit(code=0))
        await asyncio.shield(replica.ended)
        self._note(f"stopped {instance.service}")

    async def wait(self, instance: Instance) -> Exit:
        replica = self._replicas.get(instance.id)
        return Exit() if replica is None else await asyncio.shield(replica.ended)

    async def adopt(self) -> Sequence[Instance]:
        self._note("adopt")
        if self.adopt_failure is not None:
            raise self.adopt_failure
        for instance in self._adopts:
            self._add(instance)
        return self._adopts

    async def logs(self, instance: Instance, *, follow: bool) -> AsyncIterator[str]:
        replica = self._replicas.get(instance.id)
        position = 0
        self.readers += 1
        try:
            while replica is not None:
                replica.said.clear()
                is_last = replica.ended.done() or not follow
                for line in replica.lines[position:]:
                    position += 1
                    yield line
                if replica.log_failure is not None:
                    raise replica.log_failure
                if is_last:
                    return
                await replica.said.wait()
        finally:
            self.readers -= 1

    async def pids(self, instance: Instance) -> frozenset[int] | None:
        return self._of(instance.service).pids

    async def aclose(self) -> None:
        self._note("close")

    def _of(self, service: str) -> _Orders:
        return self._orders.setdefault(service, _Orders())

    def _running(self, service: str | None = None) -> list[_Replica]:
        live = [replica for replica in self._replicas.values() if not replica.ended.done()]
        return [replica for replica in live if service in {None, replica.instance.service}]

    def _add(self, instance: Instance) -> None:
        self._replicas[instance.id] = _Replica(instance, asyncio.get_running_loop().create_future())

    def _end(self, replica: _Replica, outcome: Exit) -> None:
        if not replica.ended.done():
            replica.ended.set_result(outcome)
            replica.said.set()
            self._note(f"exit {replica.instance.service}")

    def _note(self, entry: str) -> None:
        self.journal.append(entry)
        self._wrote.set()
