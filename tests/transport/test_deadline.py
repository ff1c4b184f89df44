"""A deadline that is set anew for every wait."""

from collections.abc import Callable
from typing import Any

from ai_proxy.transport.deadline import Deadline


class Timer:
    """What the clock's loop returns for a callback."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop's time, moved by hand.

    Attributes:
        timers: All that were ever armed.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def advance(self, to: float) -> None:
        while due := [timer for timer in self.timers if timer.at <= to and not timer.cancelled]:
            timer = min(due, key=lambda timer: timer.at)
            self.now = timer.at
            timer.cancelled = True
            timer.callback()
        self.now = to


def deadline_on(clock: Clock) -> tuple[Deadline, list[float]]:
    fired: list[float] = []
    loop: Any = clock
    return Deadline(loop, lambda: fired.append(clock.now)), fired


def test_it_fires_once_when_it_is_due() -> None:
    clock = Clock()
    deadline, fired = deadline_on(clock)
    deadline.set(5)
    clock.advance(100)
    assert fired == [5]


def test_set_anew_it_fires_only_at_the_later_time() -> None:
    clock = Clock()
    deadline, fired = deadline_on(clock)
    deadline.set(5)
    clock.advance(4)
    deadline.set(5)
    clock.advance(100)
    assert fired == [9]


def test_set_to_an_earlier_time_it_fires_then() -> None:
    clock = Clock()
    deadline, fired = deadline_on(clock)
    deadline.set(600)
    deadline.set(5)
    clock.advance(1000)
    assert fired == [5]


def test_a_thousand_settings_in_a_row_arm_one_timer() -> None:
    clock = Clock()
    deadline, _ = deadline_on(clock)
    for _ in range(1000):
        clock.now += 0.001
        deadline.set(5)
    assert len(clock.timers) == 1


def test_cancelled_it_never_fires_and_can_be_set_again() -> None:
    clock = Clock()
    deadline, fired = deadline_on(clock)
    deadline.set(5)
    deadline.cancel()
    clock.advance(10)
    assert (fired, repr(deadline)) == ([], "<Deadline: none>")
    deadline.set(5)
    assert repr(deadline) == "<Deadline: 5.000s>"
    clock.advance(100)
    assert fired == [15]
