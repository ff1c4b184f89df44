"""What the devices say, and what of it is others' use: the accounting between the ledger and what is measured. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Measured:
    """One look at all devices.

    Attributes:
        used_mb: What is not free of each device's capacity, by UUID; a device of which nothing is known is not in it.
        held_mb: What each replica holds, by its key and the device's UUID; nothing is not in it. One that has ended
            is in it for as long as its memory is not back.
        unknown: Keys of replicas that may hold more than `held_mb` says.
        lost: UUIDs of devices that were there and do not answer any more.
    """

    used_mb: Mapping[str, int] = field(default_factory=dict)
    held_mb: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    def foreign_mb(self, uuid: str, charges: Mapping[str, int]) -> int | None:
        """What others than our replicas use of a device.

        A replica that is not measured is taken to use what it is charged.

        Args:
            uuid: The device.
            charges: What each holder on it that has started is charged there.

        Returns:
            MiB; None where nothing is known of the device.

        Example:
            >>> measured = Measured({"GPU-a": 12_000}, {"chat": {"GPU-a": 5_000}}, unknown=frozenset({"tts"}))
            >>> measured.foreign_mb("GPU-a", {"chat": 9_000, "tts": 4_000})
            3000
            >>> measured.foreign_mb("GPU-a", {"chat": 9_000})
            7000
        """
        used_mb = self.used_mb.get(uuid)
        if used_mb is None:
            return None
        ours_mb = {key: held.get(uuid, 0) for key, held in self.held_mb.items()}
        for key in self.unknown & charges.keys():
            ours_mb[key] = max(charges[key], ours_mb.get(key, 0))
        return max(0, used_mb - sum(ours_mb.values()))
