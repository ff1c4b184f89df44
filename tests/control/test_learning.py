"""The lives of replicas become figures."""

from itertools import pairwise
from pathlib import Path

import pytest

from ai_proxy.control.learned import Learned
from ai_proxy.control.learning import Learner
from ai_proxy.devices import Device, Placement
from ai_proxy.events import Progress, ServiceChanged
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.figures import Figures

CARD = Device("0", "GPU-a", 24_000, "RTX 4090")
TWIN = Device("1", "GPU-b", 24_000, "RTX 4090")
OTHER = Device("2", "GPU-c", 80_000, "A100")

START = ("queued", "starting", "loading", "ready")
STOP = ("ready", "stopping", "stopped")


class Watched:
    """A learner, and what it watches: one second passes with each move."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self.learned = Learned(path)
        self.instances: dict[str, Instance] = {}
        self.news: list[str] = []
        self.learner = Learner(
            self.learned, instance_of=self.instances.get, on_news=self.news.append, clock=lambda: self.now
        )

    def runs(self, *devices: Device, key: str = "chat") -> None:
        """Say what runs as a replica."""
        self.instances[key] = Instance(key, "chat", "127.0.0.1", 1, Placement(devices), spec_hash="h")

    def go(self, *path: str, key: str = "chat", level: int | None = None) -> None:
        """Let a replica go through these states."""
        for previous, state in pairwise(path):
            self.now += 1.0
            if state in {"stopped", "failed"}:
                self.instances.pop(key, None)
            self.learner.hear(ServiceChanged(0.0, key, state, previous, "", level=level))

    def figures(self, model: str = "RTX 4090") -> Figures | None:
        return self.learned.get("h", model)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    watched = Watched(tmp_path / "learned.db")
    watched.runs(CARD)
    return watched


def test_a_load_is_measured_from_its_placement_to_ready_and_a_stop_to_its_end(watched: Watched) -> None:
    watched.go(*START, "draining", "stopping", "stopped")

    assert watched.figures() == Figures(loads_s=(2.0,), stops_s=(1.0,))


def test_what_an_image_pull_takes_is_no_part_of_a_load(watched: Watched) -> None:
    watched.go("queued", "starting")
    watched.now += 600
    watched.learner.hear(Progress(0.0, "chat", "pulling x: 99 %"))
    watched.learner.hear(Progress(0.0, "chat", "creating container"))
    watched.go("starting", "loading", "ready")

    assert watched.figures() == Figures(loads_s=(2.0,))


def test_an_adopted_replica_teaches_no_load(watched: Watched) -> None:
    watched.go("stopped", "loading", "ready", "stopping", "stopped")

    assert watched.figures() == Figures(stops_s=(1.0,))


@pytest.mark.parametrize(
    "path", [("queued", "starting", "loading", "stopping", "stopped"), ("loading", "stopping", "failed")],
    ids=["not wanted", "broken"],
)  # fmt: skip
def test_a_life_that_never_was_ready_teaches_nothing(watched: Watched, path: tuple[str, ...]) -> None:
    watched.go("queued", "starting")
    watched.learner.measured({"chat": {"GPU-a": 900}})
    watched.go(*path)

    assert watched.figures() is None


def test_a_ready_replica_that_breaks_teaches_no_stop(watched: Watched) -> None:
    watched.go(*START, "stopping", "failed")

    assert watched.figures() == Figures(loads_s=(2.0,))


def test_each_level_of_sleep_is_measured_by_its_waking(watched: Watched) -> None:
    watched.go(*START)
    watched.go("ready", "sleeping", level=2)
    watched.go("sleeping", "sleeping", "loading", "ready")

    assert watched.figures() == Figures(loads_s=(2.0,), wakes_s={2: (1.0,)})


def test_the_peak_counts_once_it_was_ready_and_as_it_grows(watched: Watched) -> None:
    watched.go("queued", "starting", "loading")
    watched.learner.measured({"chat": {"GPU-a": 9000}})
    assert watched.figures() is None

    watched.go("loading", "ready")
    for held_mb in (7000, 9500, 8000):
        watched.learner.measured({"chat": {"GPU-a": held_mb}})

    assert watched.figures() == Figures(9500, (1.0 + 1.0,))
    assert watched.news[-2:] == ["chat", "chat"]


def test_of_several_gpus_of_a_model_the_fullest_counts_and_each_model_has_its_own(watched: Watched) -> None:
    watched.runs(CARD, TWIN, OTHER)
    watched.go(*START)
    watched.learner.measured({"chat": {"GPU-a": 7000, "GPU-b": 9000, "GPU-c": 500, "GPU-elsewhere": 1}})

    assert watched.figures() == Figures(9000, (2.0,))
    assert watched.figures("A100") == Figures(500, (2.0,))


def test_a_service_without_a_gpu_teaches_its_times(watched: Watched) -> None:
    watched.runs()
    watched.go(*START)

    assert watched.figures("") == Figures(loads_s=(2.0,))


def test_replicas_of_one_service_add_to_the_same_figures(watched: Watched) -> None:
    watched.runs(TWIN, key="chat#1")
    watched.go(*START)
    watched.go(*START, key="chat#1")
    watched.learner.measured({"chat": {"GPU-a": 7000}, "chat#1": {"GPU-b": 9000}})

    assert watched.figures() == Figures(9000, (2.0, 2.0))
    assert watched.news[-2:] == ["chat", "chat"]


def test_a_lease_teaches_nothing(watched: Watched) -> None:
    watched.runs(CARD, key="lease:x")
    watched.go(*START, key="lease:x")
    watched.learner.measured({"lease:x": {"GPU-a": 7000}})

    assert watched.figures() is None


def test_a_life_leaves_nothing_behind(watched: Watched) -> None:
    watched.go(*START, *STOP)

    assert repr(watched.learner) == "<Learner of 0 lives>"
