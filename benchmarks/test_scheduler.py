"""What the scheduler costs a request: a grant on a ready service and its return, and a cold start's decisions."""

import asyncio
from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tests.scheduler.fleets import gpus

from ai_proxy.config.models import ServiceConfig
from ai_proxy.events import EventBus
from ai_proxy.gate import RequestInfo
from ai_proxy.runtimes.base import Instance
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import SchedulerState
from ai_proxy.services.machine import Event
from ai_proxy.services.probe import Probe
from ai_proxy.services.service import Service

FLEETS = pytest.mark.parametrize("services", [10, 1000])


def fleet(services: int) -> SchedulerState:
    """So many services, each of which fits beside two others on one of eight GPUs; none runs."""
    state = SchedulerState(Ledger(gpus(*[24_000] * 8), 0))
    for number in range(services):
        spec = ServiceSpec(f"s{number}", Demand(1, vram_mb=8_000), idle_timeout_s=600.0)
        core.step(state, 0.0, do.Configured(spec))
    return state


def start(state: SchedulerState, service: str, now: float) -> None:
    """Everything that a service's cold start brings to the core, its waiter's grant and the end of that included."""
    core.step(state, now, do.Arrived(Waiter(1, service, now, now + 600)))
    core.step(state, now, do.Reported(service, Event.LAUNCHED, Instance("i", service, "127.0.0.1", 1)))
    core.step(state, now, do.Reported(service, Event.HEALTHY))
    live = state.ready[service]
    live.open -= 1
    live.last_used = now


@FLEETS
def test_grant_and_close(benchmark: BenchmarkFixture, services: int) -> None:
    async def build() -> Scheduler:
        loop = asyncio.get_running_loop()
        scheduler = Scheduler(
            SchedulerState(Ledger(gpus(*[24_000] * 8), 0)),
            EventBus(),
            clock=loop.time,
            wall_clock=loop.time,
            on_gone=lambda _: None,
            quiet=lambda _: 0.0,
        )
        config, probe = ServiceConfig(url="http://127.0.0.1:1"), Probe()

        def hands(service: str, number: int) -> Service:
            return Service(
                service,
                config,
                runtime=ExternalRuntime(),
                probe=probe,
                owner=scheduler,
                progress=lambda *_: None,
                replica=number,
            )

        for number in range(services):
            scheduler.add(ServiceSpec(f"s{number}", Demand(), idle_timeout_s=600.0), partial(hands, f"s{number}"))
        scheduler.start("s7")
        await scheduler.settled("s7")
        await probe.aclose()
        return scheduler

    request = RequestInfo("r", "s7", 0.0, lambda: None)
    with asyncio.Runner() as runner:
        scheduler = runner.run(build())

        def one() -> None:
            grant = scheduler.try_admit(request)
            assert grant is not None
            grant.close()

        benchmark(one)
        runner.run(scheduler.aclose())


@FLEETS
def test_cold_start_with_room(benchmark: BenchmarkFixture, services: int) -> None:
    def fresh() -> tuple[tuple[SchedulerState, str, float], dict[str, object]]:
        return (fleet(services), "s7", 1.0), {}

    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the plugin ships no types for it
        start, setup=fresh, rounds=100 if services < 100 else 20
    )


@FLEETS
def test_eviction_from_full_devices(benchmark: BenchmarkFixture, services: int) -> None:
    """A waiter arrives where every device is full of idle replicas: the planner chooses who leaves."""

    def full() -> tuple[tuple[SchedulerState, float, do.Event], dict[str, object]]:
        state = fleet(max(services, 25))
        for number in range(24):
            start(state, f"s{number}", float(number))
        return (state, 100.0, do.Arrived(Waiter(2, "s24", 100.0, 700.0))), {}

    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the plugin ships no types for it
        core.step, setup=full, rounds=30
    )
