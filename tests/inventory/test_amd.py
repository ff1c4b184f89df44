"""AMD's GPUs in a tree of files made like the kernel's."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ai_proxy.devices import Device, Vendor
from ai_proxy.inventory.amd import Amdgpu
from ai_proxy.inventory.reading import DeviceReading, ProcessUse

MIB = 1024 * 1024
FULL = {
    "unique_id": "7c2b1d6e9a7b4c32",
    "product_name": "Radeon RX 7900 XTX",
    "mem_info_vram_used": 1200 * MIB + 1,
    "gpu_busy_percent": 42,
    "hwmon/hwmon3/temp1_input": 61000,
    "hwmon/hwmon3/power1_average": 185_000_000,
}


class Tree:
    """A `/sys` of cards."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def card(self, number: int, bus: str, total_mb: int, files: Mapping[str, object] | None = None) -> None:
        """Plug a card in; it is `cardN`, with a render device of 128 + N."""
        device = self.root / f"devices/0000:{bus}:00.0"
        always = {"vendor": "0x1002", "mem_info_vram_total": total_mb * MIB, "mem_info_vram_used": 0}
        self.write(device, {**always, **(files or {})})
        (device / f"drm/renderD{128 + number}").mkdir(parents=True)
        link = self.root / f"class/drm/card{number}/device"
        link.parent.mkdir(parents=True)
        link.symlink_to(device)
        (self.root / f"class/drm/card{number}-HDMI-A-1").mkdir()

    def compute(self, number: int, gpu_id: int, **used: int) -> None:
        """Have the compute driver know a card; `used` are bytes by `pNNN`."""
        node = self.root / f"class/kfd/kfd/topology/nodes/{number + 1}"
        self.write(node, {"gpu_id": gpu_id, "properties": f"simd_count 96\ndrm_render_minor {128 + number}"})
        (self.root / "class/kfd/kfd/proc").mkdir(exist_ok=True)
        for process, size in used.items():
            self.write(self.root / f"class/kfd/kfd/proc/{process[1:]}", {f"vram_{gpu_id}": size})

    @staticmethod
    def write(directory: Path, files: Mapping[str, object]) -> None:
        """Write each of these."""
        for name, value in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(f"{value}\n")

    def read(self) -> tuple[DeviceReading, ...]:
        """What is found."""
        return Amdgpu(self.root, name_of=lambda pid: f"p{pid}").read().devices


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_reads_all_that_the_kernel_tells_of_a_gpu(tree: Tree) -> None:
    tree.card(0, "03", 24560, FULL)
    assert tree.read() == (
        DeviceReading(
            Device("amd0", "GPU-7c2b1d6e9a7b4c32", 24560, "Radeon RX 7900 XTX", Vendor.AMD),
            total_mb=24560,
            used_mb=1201,
            utilisation_percent=42,
            temperature_c=61,
            power_w=185,
        ),
    )


def test_what_a_card_has_no_file_for_is_unknown(tree: Tree) -> None:
    tree.card(0, "03", 12272)
    assert tree.read() == (DeviceReading(Device("amd0", "0000:03:00.0", 12272, "AMD GPU", Vendor.AMD), 12272, 0),)


def test_gpus_are_numbered_by_their_place_on_the_bus(tree: Tree) -> None:
    tree.card(0, "0b", 12272)
    tree.card(1, "03", 24560)
    assert [(it.device.id, it.total_mb) for it in tree.read()] == [("amd0", 24560), ("amd1", 12272)]


@pytest.mark.parametrize(
    ("total_mb", "files", "taken"),
    [(512, {}, 0), (4096, {}, 0), (65536, {}, 1), (4080, {"unique_id": "7c"}, 1), (24560, {"vendor": "0x8086"}, 0)],
    ids=["a processor's graphics", "with much of it", "with very much of it", "a small card", "another vendor's"],
)
def test_what_models_can_not_use_is_not_taken(tree: Tree, total_mb: int, files: dict[str, str], taken: int) -> None:
    tree.card(0, "03", total_mb, files)
    assert len(tree.read()) == taken


def test_who_computes_on_which_card_is_told(tree: Tree) -> None:
    for number, bus in enumerate(("03", "0b")):
        tree.card(number, bus, 24560)
    tree.compute(0, 777, p41=900 * MIB, p42=0)
    tree.compute(1, 888, p41=MIB // 2)
    assert [it.processes for it in tree.read()] == [(ProcessUse(41, "p41", 900),), (ProcessUse(41, "p41", 1),)]


def test_a_card_that_can_not_be_read_is_named_and_the_others_are_read(tree: Tree) -> None:
    tree.card(0, "03", 24560, {"mem_info_vram_used": "?"})
    tree.card(1, "0b", 12272)
    found = Amdgpu(tree.root).read()
    assert [it.device.id for it in found.devices] == ["amd1"]
    assert found.problems[0].startswith("GPU amd0 can't be used: ")


def test_a_machine_without_such_cards_has_none(tree: Tree) -> None:
    assert Amdgpu(tree.root).read().devices == ()
    assert repr(Amdgpu(Path("/sys"))) == "<Amdgpu under /sys>"
