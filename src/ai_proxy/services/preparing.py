"""What a start can have done for it while others still make room: its image fetched, its model read from the disk.

Nothing here needs a device, and nothing is left behind if the start never comes but an image and warm memory. Whatever
goes wrong is the start's to tell: a preparation never fails.
"""

import asyncio
import threading
from collections.abc import Callable

from loguru import logger

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Progress, Runtime
from ai_proxy.services.read_ahead import read_ahead
from ai_proxy.services.weights import weights_of

WARM_DEADLINE_S = 600.0


async def prepare(service: str, config: ServiceConfig, runtime: Runtime, progress: Progress) -> None:
    """Fetch the image and warm the page cache, side by side; returns when both are done, have failed or had their time.

    Cancelled, it ends the pull, unless a start has joined it, and the reading.
    """
    await asyncio.gather(_fetch(service, config, runtime, progress), _warm(service, config))


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
