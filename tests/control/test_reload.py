"""A changed config: what it starts, ends, replaces and leaves alone."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.models import Config
from ai_proxy.control.plane import UnknownService
from ai_proxy.errors import Draining, NoRoom
from ai_proxy.events import ConfigApplied, ConfigRefused
from tests.fakes.fleet import Fleet, config_of

GUARD_S = 20
ONE = "services: {a: {image: x}}"


async def test_an_added_service_is_served() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        fleet.edit("services: {a: {image: x}, b: {command: serve}}")

        change = await fleet.plane.reload()

        assert change.added == ("b",)
        (await fleet.grant("b")).close()


async def test_a_removed_service_finishes_what_is_open_then_stops_and_is_forgotten() -> None:
    async with Fleet("services: {a: {image: x}, b: {image: y}}") as fleet:
        fleet.plane.boot()
        grant = await fleet.grant("a")
        fleet.edit("services: {b: {image: y}}")

        await fleet.plane.reload()

        assert fleet.docker.stops("a") == 0
        with pytest.raises(Draining):
            await fleet.grant("a")
        with pytest.raises(UnknownService, match="no service 'a'"):
            fleet.plane.view("a")
        grant.close()
        await fleet.until_gone("a")
        assert fleet.docker.running("a") == []


async def test_a_changed_service_that_is_busy_drains_before_it_is_replaced() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        grant = await fleet.grant("a")
        fleet.edit("services: {a: {image: newer}}")

        change = await fleet.plane.reload()

        assert change.restarts == ("a",)
        assert fleet.docker.stops("a") == 0
        grant.close()
        (await fleet.grant("a")).close()
        assert [spec.config.image for spec in fleet.docker.specs] == ["x", "newer"]


async def test_a_live_change_touches_no_replica() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        (await fleet.grant("a")).close()
        fleet.edit("services: {a: {image: x, limits: {max_in_flight: 1}}}")

        await fleet.plane.reload()
        grant = await fleet.grant("a")

        assert fleet.docker.stops("a") == 0
        live = fleet.plane.view("a").state.live
        assert live is not None
        assert live.limit == 1
        grant.close()


async def test_a_service_that_changes_its_runtime_is_stopped_by_the_one_that_started_it() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        (await fleet.grant("a")).close()
        fleet.edit("services: {a: {command: serve}}")

        await fleet.plane.reload()
        (await fleet.grant("a")).close()

        assert (fleet.docker.stops("a"), fleet.docker.running()) == (1, [])
        assert (fleet.process.starts("a"), fleet.process.stops("a")) == (1, 0)
        assert fleet.process.journal.index("adopt") < fleet.process.journal.index("start a")


async def test_a_service_that_comes_back_while_it_drains_goes_on_under_its_new_settings() -> None:
    async with Fleet("services: {a: {image: x}, b: {image: y}}") as fleet:
        fleet.plane.boot()
        grant = await fleet.grant("a")
        fleet.edit("services: {b: {image: y}}")
        await fleet.plane.reload()
        fleet.edit("services: {a: {image: newer}, b: {image: y}}")

        await fleet.plane.reload()
        waiting = asyncio.create_task(fleet.grant("a"))
        grant.close()
        (await waiting).close()

        assert [spec.config.image for spec in fleet.docker.specs] == ["x", "newer"]


async def test_a_preloaded_service_that_is_replaced_starts_again_by_itself() -> None:
    async with Fleet("services: {a: {image: x, preload: true}}") as fleet:
        fleet.plane.boot()
        await fleet.until("a", "ready")
        fleet.edit("services: {a: {image: newer, preload: true}}")

        await fleet.plane.reload()
        await fleet.docker.until("started a", 2)

        assert fleet.docker.specs[-1].config.image == "newer"


async def test_waiters_of_a_changed_service_get_the_new_one() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        fleet.docker.hold("a")
        waiting = asyncio.create_task(fleet.grant("a"))
        await fleet.docker.until("start a")
        fleet.edit("services: {a: {image: newer}}")

        await fleet.plane.reload()
        fleet.docker.release("a")
        (await waiting).close()

        assert fleet.docker.specs[-1].config.image == "newer"


async def test_a_faulty_file_changes_nothing_and_is_told() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        before = fleet.plane.config
        fleet.spoil()

        with pytest.raises(ConfigError):
            await fleet.plane.reload()

        assert fleet.plane.config is before
        assert "not a number" in fleet.seen(ConfigRefused)[0].error
        (await fleet.grant("a")).close()


async def test_what_a_reload_changed_is_told_in_words() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        fleet.edit("{log: {level: DEBUG}, services: {b: {image: x}}}")

        await fleet.plane.reload()

        summary = fleet.seen(ConfigApplied)[0].summary
        assert summary == "added b; removed a; set log.level (at the next start: log.level)"
        assert fleet.configs == [fleet.plane.config]


async def test_a_file_that_did_not_change_is_no_event() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()

        assert not await fleet.plane.reload()
        assert fleet.seen(ConfigApplied) == []


async def test_a_slow_reading_of_the_file_does_not_undo_a_later_one() -> None:
    async with Fleet(ONE) as fleet:
        fleet.plane.boot()
        read, go_on = threading.Event(), threading.Event()

        def slow() -> Config:
            read.set()
            go_on.wait(GUARD_S)
            return config_of("services: {a: {image: old}}")

        fleet.load = slow
        first = asyncio.create_task(fleet.plane.reload())
        await asyncio.to_thread(read.wait, GUARD_S)
        fleet.load = lambda: config_of("services: {a: {image: newest}}")
        await fleet.plane.reload()
        go_on.set()

        assert not await first
        assert fleet.plane.config.services["a"].image == "newest"


async def test_a_required_service_whose_file_goes_blocks_no_reload_and_is_waited_for(tmp_path: Path) -> None:
    (file := tmp_path / "b.gguf").touch()
    (path := tmp_path / "ai-proxy.yaml").write_text(
        "templates: {gguf: {image: x}}\n"
        "discover: [{glob: '*.gguf', extends: gguf}]\n"
        "services: {a: {image: x, requires: b}, c: {image: x, conflicts: b}}\n"
        "default_service: b\n"
    )
    async with Fleet("services: {}") as fleet:
        fleet.load = partial(load, path, {})
        fleet.plane.boot()
        await fleet.plane.reload()
        file.unlink()

        assert (await fleet.plane.reload()).removed == ("b",)
        with pytest.raises(NoRoom, match="it requires b, of which there is no service"):
            await fleet.grant("a")
        (await fleet.grant("c")).close()

        file.touch()
        assert (await fleet.plane.reload()).added == ("b",)
        (await fleet.grant("a")).close()
