"""What the ledger says of devices beside what was measured."""

from ai_proxy.control.measuring import Picture, measured_of
from ai_proxy.control.usage import uses_of
from ai_proxy.devices import Placement
from ai_proxy.inventory.reading import Reading
from ai_proxy.metrics import DeviceUse
from ai_proxy.scheduler.ledger import Ledger
from tests.fakes.gpus import GPU, OTHER, reading


def test_each_device_and_memory_has_its_figures_as_far_as_they_are_known() -> None:
    ledger = Ledger([GPU, OTHER], 64_000)
    ledger.reserve("chat", Placement((GPU,), vram_mb=9000, memory_mb=2000))
    read = Reading(0.0, (reading(GPU, 11_000, {41: 8000, 77: 2000}),), lost=(OTHER,))
    picture = Picture(read, {41: "chat"}, measured_of(read, {41: "chat"}))

    assert uses_of(ledger, picture) == [
        DeviceUse("gpu0", 24_000, 9000, free_mb=15_000, used_mb=11_000, foreign_mb=3000),
        DeviceUse("gpu1", 12_000, 0, free_mb=12_000),
        DeviceUse("memory", 64_000, 2000, free_mb=62_000),
    ]


def test_what_is_overbooked_has_nothing_free() -> None:
    ledger = Ledger([GPU], 1000)
    for holder in ("a", "b"):
        ledger.reserve(holder, Placement((GPU,), vram_mb=20_000, memory_mb=900))

    assert [(use.reserved_mb, use.free_mb) for use in uses_of(ledger, None)] == [(40_000, 0), (1800, 0)]
