"""Watches the machine's GPUs: one thread reads them, the event loop hears of each reading.

Owns that thread, which alone talks to drivers, and the latest reading. A driver that hangs holds up the thread and
nobody else: figures that are too old count as unknown, which is said once, as is their return. It does not know who
the processes on a GPU belong to, nor what follows from anything it reads.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, Queue

from loguru import logger

from ai_proxy.devices import Device
from ai_proxy.inventory.reading import Found, Reading, Source, as_declared

EVERY_S = 1.0
IDLE_EVERY_S = 30.0
"""Between two looks at a machine that has no GPU; a driver may be loaded later."""
STALE_AFTER_S = 5.0
HURRIED_S = 0.1
CLOSE_DEADLINE_S = 1.0


class Monitor:
    """The latest reading of all GPUs, kept fresh.

    Args:
        sources: Where GPUs are read.
        declared: The GPUs that the config lists; None where all that is found is used.
        every_s: Between two readings.
        stale_after_s: Without a reading for this long, nothing is known.
        clock: Monotonic seconds, read in the thread.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        declared: tuple[Device, ...] | None = None,
        every_s: float = EVERY_S,
        stale_after_s: float = STALE_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # For life
        self.clock = clock
        self._sources = tuple(sources)
        self._declared = declared
        self._every_s = every_s
        self._stale_after_s = stale_after_s
        # The thread's: what was read at first and at any time, by UUID; and what it is told: read at once, or end.
        self._first: dict[str, Device] | None = None
        self._seen: dict[str, Device] = {}
        # No SimpleQueue: its `get` waits for ever if a signal comes and its timeout is over before it can go on.
        self._orders: Queue[bool] = Queue()
        # The loop's, from `start` on
        self.latest: Reading | None = None
        """None before the first reading and while nothing has been heard for too long."""
        self._before = Reading(began_at=0.0)
        self._is_stale = False
        self._turn: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        known = "nothing known" if self.latest is None else f"{len(self.latest.devices)} GPUs"
        return f"<Monitor of {self._sources}: {known}>"

    def start(self) -> None:
        """Begin to read; idempotent, and nothing to do where the config says that there is no GPU."""
        if self._ended is not None or self._declared == ():
            return
        loop = asyncio.get_running_loop()
        self._ended, self._turn = loop.create_future(), loop.create_future()
        self._timer = loop.call_later(self._stale_after_s, self._go_stale)
        # A daemon: a call into a driver that hangs never returns, and must not keep the process from ending.
        threading.Thread(target=self._run, args=(loop, self._ended), name="inventory", daemon=True).start()

    def hurry(self) -> None:
        """Have the next reading done at once."""
        if self._orders.empty():
            self._orders.put(True)

    async def other_than(self, seen: Reading | None) -> Reading | None:
        """Wait until what is known is not this any more; None when it has become too old. The caller sets the deadline.

        Before `start`, and where there is nothing to read, nothing ever comes.
        """
        while self.latest is seen:
            if self._turn is None:
                self._turn = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._turn)
        return self.latest

    async def aclose(self) -> None:
        """End the thread; one that hangs in a driver is left behind."""
        if self._timer is not None:
            self._timer.cancel()
        self._orders.put(False)
        if self._ended is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ended), CLOSE_DEADLINE_S)

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
        with suppress(RuntimeError):  # the loop was closed while a driver kept us
            while True:
                reading = self._read()
                pause_s = self._every_s if self._seen else IDLE_EVERY_S
                loop.call_soon_threadsafe(self._take, reading, pause_s)
                if not self._goes_on(pause_s):
                    break
            for source in self._sources:
                source.close()
            loop.call_soon_threadsafe(_settle, ended)

    def _goes_on(self, pause_s: float) -> bool:
        """Wait for the next reading's time, or for an order that comes before."""
        try:
            is_wanted = self._orders.get(timeout=pause_s)
        except Empty:
            return True
        if is_wanted:
            time.sleep(HURRIED_S)  # who waits for memory to come free hurries again and again
        return is_wanted

    def _read(self) -> Reading:
        began_at = self.clock()
        told = [(source.vendor, _found(source)) for source in self._sources]
        devices = tuple(device for _, found in told for device in found.devices)
        if self._declared is not None:
            devices = as_declared(devices, self._declared)
        present = {it.device.uuid: it.device for it in devices}
        silent = {vendor for vendor, found in told if found.is_silent}
        lost = [it for uuid, it in self._seen.items() if uuid not in present and it.vendor not in silent]
        self._seen |= present
        if self._first is None or self._declared is not None:
            self._first = self._seen.copy()
        added = tuple(device for uuid, device in present.items() if uuid not in self._first)
        problems = tuple(problem for _, found in told for problem in found.problems)
        return Reading(began_at, devices, tuple(lost), added, problems)

    # On the loop

    def _take(self, reading: Reading, pause_s: float) -> None:
        if self._is_stale:
            logger.info("The GPUs' drivers answer again")
        for notice in notices(self._before, reading):
            logger.warning(notice)
        self._is_stale, self._before = False, reading
        self._change(reading)
        if self._timer is not None:
            self._timer.cancel()
        stale_after_s = self._stale_after_s + pause_s - self._every_s
        self._timer = asyncio.get_running_loop().call_later(stale_after_s, self._go_stale)

    def _go_stale(self) -> None:
        self._is_stale = True
        logger.warning(
            "The GPUs' drivers have not answered for {:g} s: what is used of the GPUs is not known", self._stale_after_s
        )
        self._change(None)

    def _change(self, latest: Reading | None) -> None:
        self.latest = latest
        turn, self._turn = self._turn, None
        if turn is not None:
            _settle(turn)


def notices(before: Reading, now: Reading) -> list[str]:
    """What to tell of the way from one reading to the next.

    Example:
        >>> gpu = Device("0", "GPU-a", 24576, "RTX 4090")
        >>> notices(Reading(0.0), Reading(1.0, lost=(gpu,)))
        ['GPU 0 (RTX 4090) is lost: nothing can start on it until its driver shows it again']
        >>> notices(Reading(1.0, lost=(gpu,)), Reading(2.0))
        ['GPU 0 (RTX 4090) is back']
    """
    problems = [problem for problem in now.problems if problem not in before.problems]
    lost = [device for device in now.lost if device not in before.lost]
    back = [device for device in before.lost if device not in now.lost]
    added = [device for device in now.added if device not in before.added]
    return [
        *problems,
        *(f"{_named(it)} is lost: nothing can start on it until its driver shows it again" for it in lost),
        *(f"{_named(it)} is back" for it in back),
        *(f"{_named(it)} has appeared: it is used from the proxy's next start on" for it in added),
    ]


def _named(device: Device) -> str:
    return f"GPU {device.id} ({device.name or device.uuid})"


def _found(source: Source) -> Found:
    try:
        return source.read()
    except Exception as error:  # noqa: BLE001  # the thread must go on, whatever a driver does
        return Found(problems=(f"{source!r} failed: {error!r}",), is_silent=True)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
