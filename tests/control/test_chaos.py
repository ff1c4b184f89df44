"""Everything at once: requests, reloads, operators, crashes and runtimes that fail, in a random order on virtual time.

Whatever came: every request has its answer in time, nothing that somebody uses is ended, what runs is what the config
means, and nothing is left at the end.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_proxy.config.models import Config, RuntimeKind
from ai_proxy.control.learned import Learned
from ai_proxy.control.plane import ControlPlane
from ai_proxy.devices import Device
from ai_proxy.errors import CannotServe, NoRoom, RuntimeUnavailable, StartFailed
from ai_proxy.events import Event, EventBus, ServiceChanged
from ai_proxy.gate import RequestInfo
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.runtimes.base import Exit
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.scheduler.grants import OpenGrant
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.state import SchedulerState
from ai_proxy.services.machine import SETTLED, State
from tests.fakes.clock import run
from tests.fakes.fleet import config_of
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime

SERVICES = "abcd"
GPU = Device("0", "GPU-a", 10_000)
LONGEST_WAIT_S = 100.0
LONGEST_REQUEST_S = 40.0


class Chaos:
    """A control plane of two programmable runtimes and one GPU, and whatever may happen to it."""

    def __init__(self, seed: int) -> None:
        loop = asyncio.get_running_loop()
        self.random = random.Random(seed)
        self.docker, self.process, self.probe = FakeRuntime(), FakeRuntime(), FakeProbe()
        self.requests: set[asyncio.Task[None]] = set()
        self.held = set[OpenGrant]()
        self.ended_in_use: list[ServiceChanged] = []
        self.draining_since: dict[str, float] = {}
        bus = EventBus()
        bus.listen(self.see)
        self.scheduler = Scheduler(
            SchedulerState(Ledger([GPU], 64_000)),
            bus,
            clock=loop.time,
            wall_clock=loop.time,
            on_gone=lambda _: None,
            quiet=lambda _: 1000.0,
        )
        if self._once_in(2):
            self.docker.adopt_failure = RuntimeUnavailable("not yet")
        config = self.any_config()
        self.plane = ControlPlane(
            config,
            load=lambda: config,
            scheduler=self.scheduler,
            runtimes={
                RuntimeKind.DOCKER: lambda: self.docker,
                RuntimeKind.PROCESS: lambda: self.process,
                RuntimeKind.EXTERNAL: ExternalRuntime,
            },
            probe=self.probe,
            devices=(GPU,),
            monitor=Monitor(()),
            learned=Learned(Path("never opened")),
            bus=bus,
            clock=loop.time,
            wall_clock=loop.time,
            on_config=lambda _: None,
        )

    def any_config(self) -> Config:
        return config_of(
            yaml.safe_dump({"services": {it: self._any_service() for it in SERVICES if self._once_in(1.2)}})
        )

    def _any_service(self) -> dict[str, Any]:
        choice = self.random.choice
        common = {
            "type": choice(["comfyui", "generic"]),
            "idle_timeout_s": choice([None, 5, 60]),
            "pinned": self._once_in(6),
            "preload": self._once_in(6),
            "limits": {"max_in_flight": choice([None, 1, 2])},
        }
        if self._once_in(4):
            return {**common, "url": "http://127.0.0.1:1"}
        needs = {"gpus": 1, "vram_required_mb": choice([3_000, 8_000])}
        return {**common, choice(["image", "command"]): choice("xy"), "resources": needs, "stop_grace_period": 1}

    def _once_in(self, times: float) -> bool:
        return self.random.random() < 1 / times

    # What may happen

    def happen(self) -> None:
        """One thing of many."""
        weights, whats = zip(*self._happenings(), strict=True)
        self.random.choices(whats, weights)[0]()

    def _happenings(self) -> list[tuple[int, Callable[[], object]]]:
        """What may happen, and how often."""
        choice = self.random.choice
        service, runtime = choice(SERVICES), choice([self.docker, self.process])
        return [
            (25, lambda: self.requests.add(asyncio.create_task(self.request(service)))),
            (2, self.lose_a_client),
            (3, lambda: self.plane.apply(self.any_config())),
            (3, lambda: self.order(service)),
            (3, lambda: runtime.exit(service, Exit(code=1))),
            (3, lambda: runtime.fail(service, choice([StartFailed("no"), ValueError("no")]))),
            (2, lambda: runtime.fail_stop(service, choice([RuntimeUnavailable("no"), OSError("no")]))),
            (2, lambda: runtime.hold(service)),
            (3, lambda: runtime.release(service)),
            (2, lambda: setattr(runtime, "adopt_failure", choice([None, RuntimeUnavailable("no")]))),
            (2, lambda: self.probe.status.update({service: choice([200, 503])})),
            (2, lambda: self.probe.works.update({service: choice([True, False, None])})),
        ]

    def lose_a_client(self) -> None:
        if self.requests:
            self.random.choice(sorted(self.requests, key=asyncio.Task.get_name)).cancel()

    def order(self, service: str) -> None:
        if service in self.plane.config.services:
            self.random.choice([self.plane.start, self.plane.stop, self.plane.restart])(service)

    async def request(self, service: str) -> None:
        """A client: an error is an answer too, but not one that comes too late."""
        clock = asyncio.get_running_loop().time
        began, max_wait_s = clock(), self.random.choice([1.0, 20.0, LONGEST_WAIT_S])
        try:
            grant = await self.scheduler.admit(RequestInfo("r", service, began, lambda: None, max_wait_s))
        except CannotServe:
            return
        finally:
            assert clock() <= began + max_wait_s
        self.held.add(grant)
        try:
            await asyncio.sleep(self.random.choice([0.0, 0.5, 10.0, LONGEST_REQUEST_S]))
        finally:
            self.held.remove(grant)
            grant.close()

    # How it must be

    def see(self, event: Event) -> None:
        """Note a replica that is stopped or put to sleep in spite of its open grants: nobody's work is cut for room."""
        if not isinstance(event, ServiceChanged):
            return
        if event.state == State.DRAINING:
            self.draining_since[event.service] = event.at
        if event.state in {State.STOPPING, State.SLEEPING} and not self._may_be_cut(event):
            live = self.scheduler.state.replicas[event.service].live
            if live is not None and (live.open or any(grant.live is live for grant in self.held)):
                self.ended_in_use.append(event)

    def _may_be_cut(self, event: ServiceChanged) -> bool:
        """Whether it is dead, has been unhealthy for as long as what is open on it may last, or all come to an end."""
        replica = self.scheduler.state.replicas[event.service]
        if self.scheduler.state.closing or replica.live is None or replica.live.instance is None:
            return True
        if any(runtime.has_ended(replica.live.instance) for runtime in (self.docker, self.process)):
            return True
        drained_s = event.at - self.draining_since.get(event.service, event.at)
        return replica.broken and drained_s >= self.plane.config.server.drain_timeout_s

    def check(self) -> None:
        """At no moment does a replica run twice, is more of the GPU given away than there is, or work cut short."""
        assert self.ended_in_use == []
        running = self.docker.running() + self.process.running()
        assert len({(it.service, it.replica) for it in running}) == len(running)
        assert sum(self.scheduler.state.ledger.holders_on(GPU.uuid).values()) <= GPU.vram_mb

    # How it must end

    async def calm_down(self) -> None:
        """Everything works again; then every request ends, and everything comes to rest."""
        for runtime in (self.docker, self.process):
            runtime.adopt_failure = None
            for service in SERVICES:
                runtime.heal(service)
        self.probe.status.clear()
        self.probe.works.clear()
        await self.answered()
        await asyncio.sleep(700)
        self.check()
        assert list(self.scheduler.requests()) == []
        assert {replica.state for replica in self.scheduler.state.replicas.values()} <= SETTLED

    async def answered(self) -> None:
        async with asyncio.timeout(LONGEST_WAIT_S + LONGEST_REQUEST_S + 1):
            ends = await asyncio.gather(*self.requests, return_exceptions=True)
        assert [end for end in ends if end is not None and not isinstance(end, asyncio.CancelledError)] == []

    def check_what_runs(self) -> None:
        """It is known, and runs where the config means it to."""
        services, replicas = self.plane.config.services, self.scheduler.state.replicas
        assert set(replicas) == set(services)
        for kind, runtime in ((RuntimeKind.DOCKER, self.docker), (RuntimeKind.PROCESS, self.process)):
            live = {it for it, replica in replicas.items() if replica.live is not None and services[it].kind is kind}
            assert {instance.service for instance in runtime.running()} == live

    async def check_who_is_served(self) -> None:
        """Everybody, but where a pinned service holds the room."""
        for service in self.plane.config.services:
            now = asyncio.get_running_loop().time()
            with suppress(NoRoom):
                (await self.scheduler.admit(RequestInfo("r", service, now, lambda: None, 400.0))).close()

    async def close(self) -> None:
        await self.plane.aclose()
        await self.answered()
        self.check()
        assert self.docker.running() + self.process.running() == []
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def live(seed: int, happenings: int) -> Chaos:
    chaos = Chaos(seed)
    chaos.plane.boot()
    for _ in range(happenings):
        chaos.happen()
        chaos.check()
        await asyncio.sleep(chaos.random.choice([0.0, 0.0, 0.05, 1.0, 7.0, 40.0]))
        chaos.check()
    return chaos


@pytest.mark.parametrize("seed", range(12))
def test_when_all_that_went_wrong_is_over_everybody_is_served_again(seed: int) -> None:
    async def story() -> None:
        chaos = await live(seed, 120)
        await chaos.calm_down()
        chaos.check_what_runs()
        await chaos.check_who_is_served()
        await chaos.close()

    run(story())


@pytest.mark.parametrize("seed", range(20))
def test_at_any_moment_the_end_answers_everybody_and_leaves_nothing(seed: int) -> None:
    async def story() -> None:
        chaos = await live(seed, 5 + 2 * seed)
        await chaos.close()

    run(story())
