"""Ending a replica so that its room is free: its runtime says so, its port is closed, its devices have let go of it.

The runtime is asked until it has done it. What comes after is bounded: who does not let go in time is named, and the
room is the owner's to write off.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from loguru import logger

from ai_proxy.config.models import RuntimeKind
from ai_proxy.runtimes.base import Instance
from ai_proxy.services.owner import Leftovers
from ai_proxy.services.subject import Subject

STOP_RETRY_S = 2.0
STOP_MARGIN_S = 30.0
CLOSED_WITHIN_S = 5.0
CONNECT_S = 0.25
"""An address where nobody is any more may not answer at all; somebody on this machine would have by then."""
RELEASED_WITHIN_S = 15.0
ASK_AGAIN_S = 0.1

type Released = Callable[[Instance], Awaitable[tuple[str, ...]]]
"""Names who still holds device memory of a replica that ended, each in a few words; empty once nobody does."""


async def nothing_to_ask(instance: Instance) -> tuple[str, ...]:  # noqa: ARG001  # it stands for one that looks
    """Answer for a machine whose devices can't be asked."""
    return ()


async def release(subject: Subject, released: Released) -> Leftovers | None:
    """End a replica, however often the runtime has to be asked, and see that nothing of it is left.

    Args:
        subject: The replica; without an instance there is nothing to do.
        released: Asks the devices.

    Returns:
        What is not free though its time is over.
    """
    instance = subject.instance
    if instance is None:
        return None
    await _stop(subject, instance)
    subject.instance = None
    if subject.in_use.kind is RuntimeKind.EXTERNAL or not instance.placement.devices:
        return None  # it runs on, or had nothing that could outlast it
    subject.tell("waiting for its memory")
    still_open, holders = await asyncio.gather(_until_closed(instance), _until_released(instance, released))
    if still_open:
        logger.bind(service=subject.id).warning("Something still answers on its port {}", instance.port)
    if not holders:
        return None
    words = f"{subject.id} has ended, but its memory is still held by {', '.join(holders)}"
    logger.bind(service=subject.id).error("{}", words)
    return Leftovers({device.uuid: instance.placement.vram_mb for device in instance.placement.devices}, words)


async def _stop(subject: Subject, instance: Instance) -> None:
    grace_s = subject.config.stop_grace_period
    while True:
        try:
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                return await subject.driver.stop(instance, grace_s)
        except Exception as error:  # noqa: BLE001  # whatever it is: its room is held until it is gone
            logger.bind(service=subject.id).warning("Can't stop it yet, will try again: {!r}", error)
            await asyncio.sleep(STOP_RETRY_S)


async def _until_closed(instance: Instance) -> bool:
    """Wait until nobody accepts connections any more; does somebody still?

    It says nothing of memory: another program may have taken the port, or another container the address.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSED_WITHIN_S):
            while True:
                if not await _accepts(instance):
                    return False
                await asyncio.sleep(ASK_AGAIN_S)
    return True


async def _accepts(instance: Instance) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(instance.host, instance.port)
    except OSError:  # refused, unreachable, or no answer in time
        return False
    writer.transport.abort()
    return True


async def _until_released(instance: Instance, released: Released) -> tuple[str, ...]:
    """Wait until the devices have let go; who still holds what after that?

    Devices that can't be asked have told of nobody.
    """
    holders: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(RELEASED_WITHIN_S):
            while True:
                holders = await released(instance)
                if not holders:
                    break
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        if not holders:
            logger.bind(service=instance.service).warning("Its devices don't tell whether its memory is free")
    except Exception:  # noqa: BLE001  # a library of a vendor; what it can't tell is not to keep the room for ever
        logger.bind(service=instance.service).exception("Its devices can't be asked whether its memory is free")
    return holders
