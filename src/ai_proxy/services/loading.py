"""From an address to a replica that serves: its health is asked until it is good, it has ended, or its time is over."""

import asyncio

from ai_proxy.config.models import RuntimeKind
from ai_proxy.engines.registry import health_path_of, is_ready, start_timeout_of
from ai_proxy.errors import StartFailed
from ai_proxy.services.first import first
from ai_proxy.services.subject import Subject

PROBE_EVERY_S = 0.1
LATE = 3 / 4
"""Of a start-up deadline: a log that stands still from then on tells a replica that is stuck from one that is slow."""


async def load(subject: Subject) -> None:
    """Wait until a replica is ready.

    Raises:
        StartFailed: It has exited or had its time.
    """
    if subject.config.kind is RuntimeKind.EXTERNAL and subject.config.health.path is None:
        return
    subject.tell("loading")
    await first(until_ready(subject), subject.until_exit("while it was loading"))


async def until_ready(subject: Subject) -> None:
    """Ask a replica for its health until it is ready.

    Raises:
        StartFailed: It had its time.
    """
    clock, late_tail = asyncio.get_running_loop().time, None
    began = clock()
    while True:
        # Read each time: who sees a model load slowly may give it longer.
        config = subject.config
        timeout_s = start_timeout_of(config)
        seen = await subject.probe.health(subject.running, health_path_of(config), config.headers)
        if is_ready(config, seen.status):
            return
        if clock() >= began + timeout_s:
            break
        if late_tail is None and clock() >= began + LATE * timeout_s:
            late_tail = await subject.log_tail()
        await asyncio.sleep(PROBE_EVERY_S)
    tail = await subject.log_tail()
    message = f"{subject.id} was not ready within {timeout_s:g} s (health.start_timeout_s): {seen.detail}"
    if late_tail is not None and subject.config.kind is not RuntimeKind.EXTERNAL:
        moved = "has not moved" if tail == late_tail else "still moved"
        message += f"; its log {moved} in the last {timeout_s * (1 - LATE):g} s"
    raise StartFailed(message, log_tail=tail, service=subject.id)
