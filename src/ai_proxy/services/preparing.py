"""What a start can have done for it while others still make room.

Its image is fetched, its model is read from the disk, and once it is known where it will run, it is created. None of
this takes anything of a device, and nothing is left behind if the start never comes but an image and warm memory.
Whatever goes wrong is the start's to tell: a preparation never fails.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial

from loguru import logger

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import CreatesAhead, InstanceSpec, Progress, Runtime
from ai_proxy.services.read_ahead import read_ahead
from ai_proxy.services.subject import Subject
from ai_proxy.services.weights import weights_of

WARM_DEADLINE_S = 600.0


class Preparation:
    """What is done ahead of one replica's next start.

    Args:
        subject: The replica.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        # For the next start: what needs no room, and what was created for the room promised last
        self._usual: asyncio.Task[None] | None = None
        self._creation: asyncio.Task[None] | None = None
        self._room: Placement | None = None
        # Called off, and cleaning up
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Preparation of {self._subject.key}, {len(self._ending)} called off>"

    @property
    def ending(self) -> frozenset[asyncio.Task[None]]:
        """What was called off and still cleans up."""
        return frozenset(self._ending)

    def begin(self, room: Placement | None) -> None:
        """Do what needs no room, and create the replica for its room; what is done, or under way, is left alone."""
        subject = self._subject
        if self._usual is None:
            tell = partial(subject.progress, subject.id)
            self._usual = self._start(_prepare(subject.id, subject.config, subject.runtime, tell))
        if room is None or room == self._room or not isinstance(subject.runtime, CreatesAhead):
            return
        self._end(self._creation)
        self._room, self._creation = room, self._start(_create(subject.runtime, subject.spec(room)))

    def call_off(self) -> None:
        """End all that is not done, and remove what was created and not started. Idempotent."""
        self._end(self._usual)
        self._end(self._creation)
        self._usual = self._creation = self._room = None

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, name=f"{self._subject.key}: prepare")

    def _end(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.done():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _prepare(service: str, config: ServiceConfig, runtime: Runtime, progress: Progress) -> None:
    """Fetch the image and warm the page cache, side by side; returns when both are done, have failed or had their time.

    Cancelled, it ends the pull, unless a start has joined it, and the reading.
    """
    await asyncio.gather(_fetch(service, config, runtime, progress), _warm(service, config))


async def _create(runtime: CreatesAhead, spec: InstanceSpec) -> None:
    try:
        await runtime.create_ahead(spec)
    except CannotServe as failure:
        logger.bind(service=spec.service).debug("Not created ahead: {}", failure)


async def _fetch(service: str, config: ServiceConfig, runtime: Runtime, progress: Progress) -> None:
    try:
        await runtime.prepare(config, progress)
    except CannotServe as failure:
        logger.bind(service=service).debug("Not prepared: {}", failure)


async def _warm(service: str, config: ServiceConfig) -> None:
    try:
        async with asyncio.timeout(WARM_DEADLINE_S):
            read_mb = await in_thread(lambda stop: read_ahead(weights_of(service, config), stop))
    except TimeoutError:
        logger.bind(service=service).debug("Its model was not read to the end")
    except OSError as error:
        logger.bind(service=service).debug("Its model can't be read ahead: {}", error)
    else:
        logger.bind(service=service).debug("{} MiB of its model are in memory", read_mb)


async def in_thread[T](work: Callable[[threading.Event], T]) -> T:
    """Run blocking work in a thread of its own, which is told to stop when this is cancelled.

    It is not waited for then: a read from a dead network disk never returns, and nothing may hang on it.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result, error = None, None
        try:
            result = work(stop)
        except Exception as caught:  # noqa: BLE001  # it is raised where it is awaited
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="read ahead", daemon=True).start()
    try:
        return await done
    finally:
        stop.set()
