"""Putting an engine to sleep and waking it: its profile's calls, each under a deadline, and its own word for it.

Either may fail, and then the replica is to stop: asleep by half it would serve nobody and hold what others wait for.
"""

import asyncio

from ai_proxy.engines.profile import Call, EachOf, Question, SleepLevel
from ai_proxy.engines.registry import profile_of, sleep_levels_of, start_timeout_of
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.services.loading import until_ready
from ai_proxy.services.subject import Subject

SLEEP_DEADLINE_S = 60.0
"""Weights that go to the host's memory take seconds, tens of them where its pages are not pinned yet."""
ASK_AGAIN_S = 0.1
FOREVER_S = 86_400.0
"""Of one call: what bounds it is the deadline of them all."""


class RungFailed(Exception):
    """An engine does not sleep or does not wake: the next rung down the ladder is to stop it.

    Attributes:
        cause: What came of it.
    """

    def __init__(self, cause: CannotServe) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def fall_asleep(subject: Subject, number: int) -> None:
    """Have an engine give its room back.

    Args:
        subject: The replica; nothing is open on it.
        number: The level's.

    Raises:
        RungFailed: It can't, or did not in time.
    """
    level = _level(subject, number)
    subject.tell(f"falling asleep, level {number}")
    try:
        async with asyncio.timeout(SLEEP_DEADLINE_S):
            for call in level.calls:
                await _say(subject, call)
            await _until_asleep(subject, level)
    except TimeoutError:
        message = f"{subject.id} could not be put to sleep within {SLEEP_DEADLINE_S:g} s"
        raise RungFailed(StartFailed(message, service=subject.id)) from None
    subject.tell("")


async def wake(subject: Subject, number: int) -> None:
    """Have an engine take its room again and wait until it is ready, all in the time that a start has.

    Args:
        subject: The replica.
        number: Of the level at which it sleeps.

    Raises:
        RungFailed: It did not.
    """
    level = _level(subject, number)
    subject.tell("waking up")
    timeout_s = start_timeout_of(subject.config)
    try:
        async with asyncio.timeout(timeout_s):
            for call in level.wake_calls:
                await _say(subject, call)
            await until_ready(subject)
    except TimeoutError:
        message = f"{subject.id} did not wake within {timeout_s:g} s (health.start_timeout_s)"
        raise RungFailed(StartFailed(message, service=subject.id)) from None
    except StartFailed as failure:
        raise RungFailed(failure) from None


async def refuse_sleeper(subject: Subject) -> None:
    """See that a replica of a former life is not asleep: nobody knows whether the room that it gave back is free.

    Raises:
        RungFailed: It is.
    """
    questions = {level.asleep for level in sleep_levels_of(subject.in_use) if level.wake_calls and level.asleep}
    for question in questions:
        if await _is_asleep(subject, question):
            raise RungFailed(StartFailed(f"{subject.id} was found asleep", service=subject.id))


def _level(subject: Subject, number: int) -> SleepLevel:
    """What the engine in use knows by that number, whether or not its config still offers it."""
    for level in profile_of(subject.in_use).sleep:
        if level.level == number:
            return level
    raise RungFailed(StartFailed(f"{subject.id} has no level {number} of sleep", service=subject.id))


async def _say(subject: Subject, said: Call | EachOf) -> None:
    """Make a call, or those that follow from what the engine says; each has to be answered with a 2xx."""
    calls: tuple[Call, ...] = (said,) if isinstance(said, Call) else await _read_calls(subject, said)
    for call in calls:
        found = await subject.probe.call(subject.running, call, subject.in_use.headers, FOREVER_S)
        if not found.is_success:
            raise RungFailed(StartFailed(f"{subject.id}: {found.detail}", service=subject.id))


async def _read_calls(subject: Subject, each: EachOf) -> tuple[Call, ...]:
    found = await subject.probe.call(subject.running, Call("GET", each.path), subject.in_use.headers)
    try:
        return each.calls(found.body)
    except ValueError:
        raise RungFailed(StartFailed(f"{subject.id}: {found.detail}", service=subject.id)) from None


async def _until_asleep(subject: Subject, level: SleepLevel) -> None:
    """Wait until the engine says that it sleeps; one that can't be asked is believed."""
    while level.asleep is not None:
        if await _is_asleep(subject, level.asleep) is not False:
            return
        await asyncio.sleep(ASK_AGAIN_S)


async def _is_asleep(subject: Subject, question: Question) -> bool | None:
    """What the engine says; None where it can't be asked this way."""
    try:
        return await subject.probe.asks(subject.running, question, subject.in_use.headers) or False
    except ValueError:
        return None
