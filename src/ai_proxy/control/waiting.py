"""What a request waits for, in words for its client: what its service is doing, how far it is, how long it may take.

Read from the fleet as it is at that moment. Clients are told of their own service only: neither of others, nor of
images and devices.
"""

import re
from math import ceil
from typing import Final

from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.waits import least_wait_s
from ai_proxy.services.machine import State

_VERBS: Final = {
    State.QUEUED: "waiting for room for {}",
    State.LOADING: "loading {}",
    State.READY: "waiting for {}",
    State.SLEEPING: "waking {}",
}
_SHARE: Final = re.compile(r"\d{1,3} %")


def waiting_for(scheduler: Scheduler, service: str, now: float) -> str:
    """Say what a request for a service waits for.

    Args:
        scheduler: Owns the fleet's state.
        service: For what it waits.
        now: The scheduler's clock.
    """
    found = scheduler.find(service)
    if found is None:
        return words(service, State.STOPPED)
    doing = next((hands.doing for hands in scheduler.hands(service) if hands.doing), "")
    wait_s = least_wait_s(scheduler.state, found, now)
    return words(service, found.state, doing=doing, wait_s=wait_s, load_s=found.figures.load_s or 0.0)


def words(service: str, state: State, *, doing: str = "", wait_s: float = 0.0, load_s: float = 0.0) -> str:
    """Put it in words.

    Args:
        service: What the request waits for.
        state: Where its nearest replica is.
        doing: What a start is doing, in words that are not for clients.
        wait_s: How long it takes at least, as far as that is known; 0 where it is not.
        load_s: How long a load takes, likewise.

    Example:
        >>> words("chat", State.LOADING, wait_s=11.8, load_s=20.0), words("chat", State.QUEUED)
        ('loading chat, 41 %, about 12 s', 'waiting for room for chat')
        >>> words("chat", State.STARTING, doing="pulling registry.lan/llm: 41 % of 5,120 MB")
        'pulling chat, 41 %'
    """
    if state is State.STARTING and doing.startswith("pulling"):
        share = _SHARE.search(doing)
        return f"pulling {service}, {share[0]}" if share is not None else f"pulling {service}"
    parts = [_VERBS.get(state, "starting {}").format(service)]
    if state is State.LOADING and 0.0 < wait_s < load_s:
        parts.append(f"{round((1 - wait_s / load_s) * 100)} %")
    if wait_s:
        parts.append(f"about {ceil(wait_s)} s")
    return ", ".join(parts)
