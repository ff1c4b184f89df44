"""The control plane from its boot on: what it takes over, what it ends, whom it lets wait."""

import asyncio
from dataclasses import replace

import pytest

from ai_proxy.config.models import RuntimeKind
from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.events import RuntimeChanged
from tests.fakes.fleet import Fleet

TWO = "services: {a: {image: x}, b: {image: y}}"


async def test_a_replica_of_the_same_settings_is_adopted_without_a_start() -> None:
    async with Fleet(TWO, left={"a": TWO}) as fleet:
        fleet.plane.boot()

        grant = await fleet.grant("a")

        assert (fleet.docker.starts("a"), fleet.docker.stops("a")) == (0, 0)
        assert fleet.moves("a") == ["loading", "ready"]
        assert fleet.plane.view("a").state.live is not None
        grant.close()


async def test_l11_a_replica_of_other_settings_is_stopped_before_anything_starts() -> None:
    async with Fleet(TWO, left={"a": "services: {a: {image: older}}"}) as fleet:
        fleet.plane.boot()

        (await fleet.grant("b")).close()
        (await fleet.grant("a")).close()

        journal = fleet.docker.journal
        assert journal.index("stopped a") < journal.index("start b")
        assert journal.index("stopped a") < journal.index("start a")


async def test_l11_a_replica_that_no_service_needs_is_stopped() -> None:
    async with Fleet("services: {b: {image: y}}", left={"a": TWO}) as fleet:
        fleet.plane.boot()

        await fleet.docker.until("stopped a")

        assert fleet.docker.running("a") == []


async def test_l11_a_replica_in_a_runtime_that_the_config_no_longer_uses_is_found_and_stopped() -> None:
    async with Fleet("services: {}", left={"a": TWO}) as fleet:
        fleet.plane.boot([RuntimeKind.DOCKER])

        await fleet.docker.until("stopped a")

        assert fleet.docker.running("a") == []


async def test_an_adopted_replica_serves_while_another_one_does_not_stop() -> None:
    async with Fleet(TWO, left={"a": TWO, "b": "services: {b: {image: older}}"}) as fleet:
        fleet.docker.ignore_stop("b")
        fleet.plane.boot()

        (await fleet.grant("a")).close()

        assert fleet.docker.starts("b") == 0


async def test_while_its_runtime_does_not_answer_a_request_gets_the_cause_and_later_the_adopted_replica() -> None:
    async with Fleet(TWO, left={"a": TWO}) as fleet:
        fleet.docker.adopt_failure = RuntimeUnavailable("the Docker engine does not answer")
        fleet.plane.boot()

        with pytest.raises(RuntimeUnavailable, match="does not answer") as caught:
            await fleet.grant("a")
        fleet.docker.adopt_failure = None
        await fleet.until("a", "ready")

        assert caught.value.retry_after_s
        assert fleet.docker.starts("a") == 0
        assert [event.available for event in fleet.seen(RuntimeChanged)] == [False, True]


async def test_a_request_waits_for_a_runtime_that_is_slow_to_tell_what_runs() -> None:
    async with Fleet(TWO, left={"a": TWO}) as fleet:
        fleet.plane.boot()  # the adoption has had no turn yet
        waiting = asyncio.create_task(fleet.grant("a"))

        (await waiting).close()

        assert fleet.docker.starts("a") == 0


async def test_a_runtime_that_does_not_answer_holds_no_service_of_another() -> None:
    async with Fleet("services: {a: {image: x}, b: {command: serve}}") as fleet:
        fleet.docker.adopt_failure = RuntimeUnavailable("the Docker engine does not answer")
        fleet.plane.boot()

        (await fleet.grant("b")).close()

        assert fleet.process.starts("b") == 1


async def test_a_runtime_that_fails_in_a_way_it_does_not_name_strands_nobody() -> None:
    async with Fleet(TWO) as fleet:
        fleet.docker.adopt_failure = ValueError("a bug")
        fleet.plane.boot()

        with pytest.raises(RuntimeUnavailable, match="a bug"):
            await fleet.grant("a")


async def test_a_leftover_that_can_not_be_stopped_yet_is_tried_again_and_nobody_waits_for_it() -> None:
    async with Fleet(TWO, left={"a": "services: {a: {image: older}}"}) as fleet:
        fleet.docker.fail_stop("a", RuntimeUnavailable("the Docker engine is gone"), OSError("a bug"))
        fleet.plane.boot()
        await fleet.docker.until("stop a")

        with pytest.raises(RuntimeUnavailable, match="the Docker engine is gone"):
            await fleet.grant("b")
        fleet.plane.start("b")
        await fleet.until("b", "ready")

        assert (fleet.docker.stops("a"), fleet.docker.running("a")) == (3, [])


async def test_of_two_replicas_of_one_service_one_is_adopted_and_the_other_stopped() -> None:
    async with Fleet(TWO, left={"a": TWO}) as fleet:
        (first,) = fleet.docker._adopts
        fleet.docker._adopts = (first, replace(first, id="twin"))
        fleet.plane.boot()

        (await fleet.grant("a")).close()
        await fleet.docker.until("stopped a")

        assert len(fleet.docker.running("a")) == 1


async def test_a_service_added_while_its_runtime_does_not_answer_is_served_once_it_does() -> None:
    async with Fleet("services: {a: {image: x}}", left={"b": TWO}) as fleet:
        fleet.docker.adopt_failure = RuntimeUnavailable("the Docker engine does not answer")
        fleet.plane.boot()
        await fleet.docker.until("adopt")
        fleet.edit(TWO)
        await fleet.plane.reload()

        with pytest.raises(RuntimeUnavailable):
            await fleet.grant("b")
        fleet.docker.adopt_failure = None
        await fleet.until("b", "ready")

        assert (fleet.docker.starts("b"), fleet.docker.stops("b")) == (0, 0)


async def test_a_preloaded_service_starts_by_itself() -> None:
    async with Fleet("services: {a: {image: x, preload: true}, b: {image: y}}") as fleet:
        fleet.plane.boot()

        await fleet.until("a", "ready")

        assert fleet.docker.starts("b") == 0


@pytest.mark.parametrize(("on_exit", "kept"), [("stop", []), ("keep", ["a"])])
async def test_at_the_end_only_containers_that_are_to_be_kept_stay(on_exit: str, kept: list[str]) -> None:
    text = f"{{server: {{on_exit: {on_exit}}}, services: {{a: {{image: x}}, b: {{command: serve}}}}}}"
    async with Fleet(text) as fleet:
        fleet.plane.boot()
        (await fleet.grant("a")).close()
        (await fleet.grant("b")).close()

        await fleet.plane.aclose()

        assert [instance.service for instance in fleet.docker.running()] == kept
        assert fleet.process.running() == []
        assert fleet.docker.journal[-1] == fleet.process.journal[-1] == "close"
