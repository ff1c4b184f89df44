"""AMD's GPUs, as the kernel's driver shows them under `/sys`: no library, no root rights.

Memory, load, heat and power are files of each card; who uses a card is told by the compute driver (`kfd`), which knows
no programs that only draw. Everything here blocks, for as long as reading some small files takes.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ai_proxy.devices import AMD_PREFIX, Device, Vendor
from ai_proxy.inventory.host import process_name
from ai_proxy.inventory.reading import MIB, DeviceReading, Found, ProcessUse

SYS = Path("/sys")
VENDOR_ID = "0x1002"
INTEGRATED_MB = 4096
"""A GPU without an id of its own and with no more memory than this is a processor's graphics: not for models."""

_MILLIDEGREES = 1000
_MICROWATTS = 1_000_000


class Amdgpu:
    """AMD's GPUs.

    Args:
        root: Where sysfs is mounted.
        name_of: Tells what a process is called.
    """

    vendor = Vendor.AMD

    def __init__(self, root: Path = SYS, name_of: Callable[[int], str] = process_name) -> None:
        self._root = root
        self._name_of = name_of

    def __repr__(self) -> str:
        return f"<Amdgpu under {self._root}>"

    def read(self) -> Found:
        """Read all GPUs, numbered by their place on the bus as AMD's own tools do."""
        read, problems = [], []
        for index, (card, total_mb) in enumerate(_cards(self._root)):
            try:
                read.append(self._measured(index, card, total_mb))
            except (OSError, ValueError) as error:
                problems.append(f"GPU {AMD_PREFIX}{index} can't be used: {error}")
        return Found(tuple(read), tuple(problems))

    def close(self) -> None:
        """Nothing is open between readings."""

    def _measured(self, index: int, card: Path, total_mb: int) -> DeviceReading:
        device_id = f"{AMD_PREFIX}{index}"
        unique_id = _text(card / "unique_id")
        uuid = f"GPU-{unique_id}" if unique_id else card.resolve().name
        name = _text(card / "product_name") or "AMD GPU"
        power_uw = _sensor(card, "power1_average", "power1_input")
        temperature = _sensor(card, "temp1_input")
        return DeviceReading(
            Device(device_id, uuid, total_mb, name, Vendor.AMD),
            total_mb=total_mb,
            used_mb=-(-int((card / "mem_info_vram_used").read_text(encoding="ascii")) // MIB),
            processes=self._processes(card),
            utilisation_percent=_number(card / "gpu_busy_percent"),
            temperature_c=None if temperature is None else temperature // _MILLIDEGREES,
            power_w=None if power_uw is None else power_uw / _MICROWATTS,
        )

    def _processes(self, card: Path) -> tuple[ProcessUse, ...] | None:
        kfd = self._root / "class/kfd/kfd"
        gpu_id = _compute_id(kfd, card)
        if gpu_id is None or not (kfd / "proc").is_dir():
            return None
        used = {int(it.parent.name): _number(it) for it in (kfd / "proc").glob(f"[0-9]*/vram_{gpu_id}")}
        return tuple(ProcessUse(pid, self._name_of(pid), -(-size // MIB)) for pid, size in used.items() if size)


def _cards(root: Path) -> list[tuple[Path, int]]:
    """The device directory and the memory of each GPU that models could use, in the bus's order."""
    found = []
    for entry in (root / "class/drm").glob("card*"):
        card = entry / "device"
        if not entry.name.removeprefix("card").isdigit() or _text(card / "vendor") != VENDOR_ID:
            continue
        total_mb = (_number(card / "mem_info_vram_total") or 0) // MIB
        if total_mb > INTEGRATED_MB or (total_mb and _text(card / "unique_id")):
            found.append((card, total_mb))
    return sorted(found, key=lambda it: it[0].resolve())


def _compute_id(kfd: Path, card: Path) -> int | None:
    """The number by which the compute driver knows a card: its node names the card's render device."""
    minors = {int(it.name.removeprefix("renderD")) for it in (card / "drm").glob("renderD*")}
    for node in (kfd / "topology/nodes").glob("[0-9]*"):
        properties = dict(_pairs(node / "properties"))
        if minors & {int(properties.get("drm_render_minor", -1))}:
            return _number(node / "gpu_id")
    return None


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        yield key, value


def _sensor(card: Path, *names: str) -> int | None:
    files = (file for name in names for file in sorted(card.glob(f"hwmon/hwmon*/{name}")))
    return next((value for file in files if (value := _number(file)) is not None), None)


def _number(file: Path) -> int | None:
    with suppress(ValueError):
        return int(_text(file))
    return None


def _text(file: Path) -> str:
    """What a file says; sysfs has a file only for what a card can tell, and some can't be read while it sleeps."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
