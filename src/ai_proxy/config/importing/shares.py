"""large-model-proxy's resources as ours: VRAM, host memory, and capacities for the rest.

Pure. Its names are the user's own; what they mean is told from how they are written, and said in a remark.
"""

import re
from collections.abc import Mapping

from ai_proxy.config.importing.draft import Draft, Left, ServiceDraft

_VRAM = re.compile(r"v(?:ideo)?[-_ ]?ram|gpu.*(?:mem|ram)", re.IGNORECASE)
_RAM = re.compile(r"(?:host|system|cpu)?[-_ ]?(?:ram|mem(?:ory)?)(?:[-_ ]?mb)?", re.IGNORECASE)
_INDEX = re.compile(r"(?:-i|--id)[ =](\d+)")
_LEAST_MB = 1000
"""Less than that of a memory is another unit than MiB."""


class Shares:
    """What there is, and what services take of it.

    Args:
        available: `ResourcesAvailable`.
        draft: Gets remarks, and what is not carried over.
    """

    def __init__(self, available: Mapping[str, object], draft: Draft) -> None:
        amounts = {name: _amount(value) for name, value in available.items()}
        in_mb = {name for name, amount in amounts.items() if amount is None or amount >= _LEAST_MB}
        vram = [name for name in amounts if name in in_mb and _VRAM.search(name)]
        self._vram = _indices(vram, available)
        self._memory = [name for name in amounts if name in in_mb and _RAM.fullmatch(name) and name not in vram]
        self._rest = {name: amount for name, amount in amounts.items() if name not in {*vram, *self._memory}}
        self._memory_mb = next((amounts[name] for name in self._memory if amounts[name]), None)
        for name, value in available.items():
            if isinstance(value, dict) and value.get("CheckCommand") and name in self._rest:
                path = f"ResourcesAvailable.{name}.CheckCommand"
                draft.left.append(Left(path, "only GPUs and memory are measured", "write how much there is of it"))
        self._remark(draft)

    def __repr__(self) -> str:
        return f"<Shares vram={self._vram} memory={self._memory} rest={self._rest}>"

    def top(self) -> dict[str, object]:
        """The keys outside the services."""
        top: dict[str, object] = {}
        if self._memory_mb:
            top["memory_mb"] = self._memory_mb
        if capacities := {name: amount for name, amount in self._rest.items() if amount}:
            top["capacities"] = capacities
        return top

    def read(self, service: ServiceDraft, required: Mapping[str, object]) -> None:
        """Write what a service takes."""
        amounts = {name: amount for name, value in required.items() if (amount := _amount(value))}
        vram = {name: amount for name, amount in amounts.items() if name in self._vram}
        if vram:
            self._read_vram(service, vram)
        else:
            service.put("resources.gpus", 0)
            service.remarks.append("It takes no VRAM there, so it sees no GPU here.")
        for name, amount in amounts.items():
            if name in self._memory:
                service.put("resources.min_memory_mb", amount)
            elif self._rest.get(name):
                service.put(f"resources.{name}", amount)
            elif name not in self._vram:
                fix = "write it under capacities, and here under resources"
                service.leave(f"ResourceRequirements.{name}", "how much there is of it is not known", fix)

    def _read_vram(self, service: ServiceDraft, vram: Mapping[str, int]) -> None:
        if len(self._vram) > 1:
            service.put("resources.gpus", [self._vram[name] for name in vram])
        service.put("resources.vram_required_mb", max(vram.values()))
        if len(set(vram.values())) > 1:
            service.remarks.append("vram_required_mb holds for each of its GPUs, so it is the largest.")

    def _remark(self, draft: Draft) -> None:
        if len(self._vram) == 1:
            (name,) = self._vram
            draft.remarks.append(f"{name} is the VRAM of any GPU here; how much there is, the GPU says itself.")
        elif self._vram:
            named = ", ".join(f"{name} is GPU {index}" for name, index in self._vram.items())
            draft.remarks.append(f"Of the VRAM, {named}: see whether these are nvidia-smi's indices.")
        if self._rest:
            draft.remarks.append(f"Taken as capacities of your own: {', '.join(self._rest)}.")


def _amount(value: object) -> int | None:
    """How much there is; None where that is measured."""
    if isinstance(value, dict):
        value = value.get("Amount")
    return value if isinstance(value, int) and value > 0 else None


def _indices(names: list[str], available: Mapping[str, object]) -> dict[str, str]:
    """The GPU that each name means: as its check says, else by the number in it, counted from the least."""
    numbers = {
        name: int(found[0]) if (found := re.findall(r"\d+", name)) else place for place, name in enumerate(names)
    }
    least = min(numbers.values(), default=0)
    indices = {}
    for name in names:
        value = available[name]
        check = str(value.get("CheckCommand", "")) if isinstance(value, dict) else ""
        told = _INDEX.search(check)
        indices[name] = told[1] if told else str(numbers[name] - least)
    return indices
