"""A service's hands while its engine falls asleep, sleeps and wakes."""

import os
from pathlib import Path
from typing import Any

import pytest

from ai_proxy.engines.profile import Call
from ai_proxy.runtimes.base import Exit, Instance
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.probe import Finding, Probe
from ai_proxy.services.service import Service
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.fakes.engine import argv
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.services.hands import PLACE, RecordingOwner, service_of, watched

VLLM: dict[str, Any] = {"command": "engine", "type": "vllm", "sleep": [1, 2], "stop_grace_period": 1}
CHAT = Call("POST", "/v1/chat/completions", b'{"model": "m"}')
YES = Finding(200, "", b'{"is_sleeping": true}')
NO = Finding(200, "", b'{"is_sleeping": false}')


class Bed:
    """A service whose replica is ready, and all around it."""

    def __init__(self) -> None:
        self.owner, self.runtime, self.probe = RecordingOwner(), FakeRuntime(), FakeProbe()
        self.probe.answers["/is_sleeping"] = YES
        self.service: Service

    async def make(self, **keys: Any) -> Service:
        self.service = await watched(self.owner, self.runtime, self.probe, **{**VLLM, **keys})
        self.probe.calls.clear()
        return self.service

    async def asleep(self, level: int = 1) -> Service:
        await self.make()
        self.service.run(Action.SLEEP, PLACE, level)
        assert await self.owner.next() is Event.SLEPT
        return self.service


@virtual_time
async def test_an_engine_is_told_to_sleep_and_says_that_it_does() -> None:
    bed = Bed()
    service = await bed.asleep(level=1)
    assert bed.probe.calls == ["POST /sleep?level=1", "GET /is_sleeping"]
    await service.aclose()


@virtual_time
async def test_waking_from_the_deepest_sleep_reads_the_weights_again_before_anything_else_is_allocated() -> None:
    bed = Bed()
    service = await bed.asleep(level=2)
    bed.probe.calls.clear()
    service.run(Action.WAKE, PLACE)
    assert await bed.owner.next() is Event.HEALTHY
    assert bed.probe.calls == [
        "POST /wake_up?tags=weights",
        "POST /collective_rpc",
        "POST /wake_up?tags=kv_cache",
        "POST /reset_prefix_cache",
    ]
    await service.aclose()


@virtual_time
async def test_an_engine_sleeps_only_once_it_says_so() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.answers["/is_sleeping"] = NO
    service.run(Action.SLEEP, PLACE, 1)
    await pause()
    assert bed.owner.reports.empty()
    bed.probe.answers["/is_sleeping"] = YES
    assert await bed.owner.next() is Event.SLEPT
    await service.aclose()


@virtual_time
async def test_an_engine_that_can_not_be_asked_is_believed() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.answers["/is_sleeping"] = Finding(404, "/is_sleeping answered 404")
    service.run(Action.SLEEP, PLACE, 1)
    assert await bed.owner.next() is Event.SLEPT
    await service.aclose()


@virtual_time
async def test_an_engine_without_sleep_mode_is_to_stop_since_its_room_is_needed() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.answers["/sleep?level=1"] = Finding(404, "/sleep?level=1 answered 404")
    service.run(Action.SLEEP, PLACE, 1)
    event, _, failure = await bed.owner.next_whole()
    assert (event, str(failure)) == (Event.UNWANTED, "small: /sleep?level=1 answered 404")
    await service.aclose()


@pytest.mark.parametrize("hung", ["/sleep?level=1", "/is_sleeping"])
@virtual_time
async def test_an_engine_that_does_not_fall_asleep_in_time_is_to_stop(hung: str) -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.hangs.add(hung)
    began = this_loop().now
    service.run(Action.SLEEP, PLACE, 1)
    event, _, failure = await bed.owner.next_whole(within_s=100)
    assert (event, str(failure)) == (Event.UNWANTED, "small could not be put to sleep within 60 s")
    assert this_loop().now - began == pytest.approx(60)
    await service.aclose()


@virtual_time
async def test_the_end_of_a_sleeper_is_noticed() -> None:
    bed = Bed()
    service = await bed.asleep()
    await pause()
    bed.runtime.exit("small", Exit(code=5))
    assert str(await bed.owner.failure()) == "small exited with code 5 while it slept"
    await service.aclose()


@virtual_time
async def test_an_engine_that_dies_while_it_falls_asleep_is_broken() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.hangs.add("/sleep?level=1")
    service.run(Action.SLEEP, PLACE, 1)
    await pause()
    bed.runtime.exit("small", Exit(signal=9))
    assert str(await bed.owner.failure()) == "small killed by signal 9 while it fell asleep"
    await service.aclose()


@virtual_time
async def test_an_engine_that_is_wanted_before_it_sleeps_is_let_sleep_and_then_woken() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.answers["/is_sleeping"] = NO
    service.run(Action.SLEEP, PLACE, 1)
    await pause()
    service.run(Action.WAKE, PLACE)
    await pause()
    assert "POST /wake_up" not in bed.probe.calls
    bed.probe.answers["/is_sleeping"] = YES
    assert await bed.owner.next() is Event.HEALTHY
    assert bed.owner.reports.empty()
    await service.aclose()


@virtual_time
async def test_a_stop_ends_a_sleeper_at_once() -> None:
    bed = Bed()
    service = await bed.asleep()
    service.run(Action.STOP, PLACE)
    assert await bed.owner.next() is Event.GONE
    assert bed.runtime.running() == []
    await service.aclose()


@virtual_time
async def test_a_stop_of_one_that_is_to_wake_waits_for_nothing_else_and_nothing_else_is_reported() -> None:
    bed = Bed()
    service = await bed.make()
    bed.probe.hangs.add("/sleep?level=1")
    service.run(Action.SLEEP, PLACE, 1)
    await pause()
    service.run(Action.WAKE, PLACE)
    service.run(Action.STOP, PLACE)
    assert await bed.owner.next() is Event.GONE
    await pause()
    assert bed.owner.reports.empty()
    await service.aclose()


@virtual_time
async def test_an_engine_that_refuses_to_wake_is_to_stop_so_that_those_who_wait_get_a_fresh_one() -> None:
    bed = Bed()
    service = await bed.asleep()
    bed.probe.answers["/wake_up"] = Finding(500, "/wake_up answered 500 out of memory")
    service.run(Action.WAKE, PLACE)
    event, _, failure = await bed.owner.next_whole()
    assert (event, str(failure)) == (Event.UNWANTED, "small: /wake_up answered 500 out of memory")
    await service.aclose()


@pytest.mark.parametrize("how", ["hangs", "unhealthy"])
@virtual_time
async def test_waking_takes_no_longer_than_a_start_may(how: str) -> None:
    bed = Bed()
    service = await bed.make(health={"start_timeout_s": 50})
    service.run(Action.SLEEP, PLACE, 1)
    await bed.owner.next()
    if how == "hangs":
        bed.probe.hangs.add("/wake_up")
    else:
        bed.probe.status["small"] = 503
    began = this_loop().now
    service.run(Action.WAKE, PLACE)
    assert (await bed.owner.next_whole(within_s=60))[0] is Event.UNWANTED
    assert this_loop().now - began == pytest.approx(50, abs=0.2)
    await service.aclose()


@virtual_time
async def test_a_level_that_the_config_no_longer_offers_is_still_woken_from() -> None:
    bed = Bed()
    service = await bed.asleep(level=2)
    service.configure(service.config.model_copy(update={"sleep": "off"}), bed.runtime)
    service.run(Action.WAKE, PLACE)
    assert await bed.owner.next() is Event.HEALTHY
    await service.aclose()


@virtual_time
async def test_a_sleeper_of_a_former_life_is_to_stop_since_its_room_may_be_anothers() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    runtime = FakeRuntime([Instance("old", "small", "127.0.0.1", 1)])
    (instance,) = await runtime.adopt()
    service = service_of(owner, runtime, probe, **VLLM)
    service.adopt(instance)
    assert await owner.next() is Event.ADOPTED
    probe.answers["/is_sleeping"] = YES
    service.run(Action.PROBE, PLACE)
    event, _, failure = await owner.next_whole()
    assert (event, str(failure)) == (Event.UNWANTED, "small was found asleep")
    await service.aclose()


@virtual_time
async def test_a_server_that_loads_at_a_request_is_awake_without_a_call() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    service.run(Action.SLEEP, PLACE, 1)
    assert await owner.next() is Event.SLEPT
    service.run(Action.WAKE, PLACE)
    assert await owner.next() is Event.HEALTHY
    assert probe.calls == ["POST /free"]
    await service.aclose()


@virtual_time
async def test_each_model_that_a_server_has_loaded_is_unloaded() -> None:
    bed = Bed()
    service = await bed.make(type="ollama", sleep="auto")
    bed.probe.answers["/api/ps"] = Finding(200, "", b'{"models": [{"name": "a"}, {"name": "b"}]}')
    service.run(Action.SLEEP, PLACE, 1)
    await pause()
    assert bed.probe.calls[:3] == ["GET /api/ps", "POST /api/generate", "POST /api/generate"]
    assert bed.owner.reports.empty()
    bed.probe.answers["/api/ps"] = Finding(200, "", b'{"models": []}')
    assert await bed.owner.next() is Event.SLEPT
    await service.aclose()


# A real engine in a real process


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 2])
async def test_an_engine_gives_its_memory_back_and_is_itself_again_when_it_wakes(tmp_path: Path, level: int) -> None:
    stub = tmp_path / "gpus"
    stub.write_text("GPU-a|RTX 4090|24564|100|0|40|20000|7:100\n")
    owner, probe = RecordingOwner(), Probe()
    runtime = ProcessRuntime(tmp_path, {**os.environ, "NVML_STUB": str(stub)})
    command = argv("--port", "{port}", "--enable-sleep-mode", "--vram", "GPU-a:20000", "--keeps", "700")
    keys = {**VLLM, "command": command, "environment": {"VLLM_SERVER_DEV_MODE": "1"}, "stop_grace_period": 5}
    service = service_of(owner, runtime, probe, **keys)
    for action in (Action.LAUNCH, Action.PROBE):
        service.run(action, PLACE)
        await owner.next()
    assert service.instance is not None
    pid = service.instance.id
    service.run(Action.WATCH, PLACE)
    assert stub.read_text().split("|")[3] == "20100"
    service.run(Action.SLEEP, PLACE, level)
    assert await owner.next() is Event.SLEPT
    assert stub.read_text() == f"GPU-a|RTX 4090|24564|800|0|40|20000|7:100,{pid}:700\n"
    service.run(Action.WAKE, PLACE)
    assert await owner.next() is Event.HEALTHY
    assert stub.read_text().split("|")[3] == "20100"
    answer = await probe.call(service.instance, CHAT)
    assert b"token0" in answer.body
    service.run(Action.STOP, PLACE)
    assert await owner.next() is Event.GONE
    assert stub.read_text() == "GPU-a|RTX 4090|24564|100|0|40|20000|7:100\n"
    await service.aclose()
    await runtime.aclose()
    await probe.aclose()
