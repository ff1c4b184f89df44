"""Those who wait for one service, by class: whose turn is next, and how urgent the service is for their sake.

Pure. Who waits at all, and for whose sake room is made, is the state's knowledge (`state.py`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for its service.

    Attributes:
        id: Its number; the younger has the higher one.
        may_swap: Others may be made to leave, and its service be started, for its sake.
        priority: Rank of its class; None: that of its service.
    """

    id: int
    service: str
    since: float
    deadline: float
    may_swap: bool = True
    priority: int | None = None


class Lines:
    """Waiters, in one line for each class.

    Example:
        >>> lines = Lines()
        >>> for waiter in (Waiter(1, "chat", 0.0, 60.0), Waiter(2, "chat", 5.0, 60.0, priority=2)):
        ...     lines.join(waiter)
        >>> lines.urgency, lines.next(1, 9.0, 30.0).id, lines.next(1, 30.0, 30.0).id
        (2, 2, 1)
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        # A few at most, however many wait: each is oldest first, and none is empty.
        self._lines: dict[tuple[bool, int | None], dict[int, Waiter]] = {}

    def __repr__(self) -> str:
        return f"<Lines of {[len(line) for line in self._lines.values()]}>"

    @property
    def urgency(self) -> int:
        """The highest class that was said, of those for whose sake room is made; -1 for none."""
        return max((rank for may_swap, rank in self._lines if may_swap and rank is not None), default=-1)

    def join(self, waiter: Waiter) -> None:
        """Put one at the end of its line."""
        self._lines.setdefault((waiter.may_swap, waiter.priority), {})[waiter.id] = waiter

    def part(self, waiter: Waiter) -> None:
        """Take one out; a no-op for one that is not there."""
        key = waiter.may_swap, waiter.priority
        line = self._lines.get(key)
        if line is not None:
            line.pop(waiter.id, None)
            if not line:
                del self._lines[key]

    def next(self, own: int, now: float, claim_after_s: float) -> Waiter:
        """Say who is served next; somebody must wait.

        1. Whoever is the oldest of all and waits for so long that nobody may overtake.
        2. The highest class, and of that the oldest.

        Args:
            own: The service's class, which is that of those who have none.
            now: The owner's clock.
            claim_after_s: Who has waited for so long is not overtaken.
        """
        heads = [next(iter(line.values())) for line in self._lines.values()]
        oldest = min(heads, key=lambda waiter: waiter.id)
        if len(heads) == 1 or now >= oldest.since + claim_after_s:
            return oldest
        return min(heads, key=lambda waiter: (-(own if waiter.priority is None else waiter.priority), waiter.id))
