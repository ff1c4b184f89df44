"""How long the end of the proxy may take: for the services to stop, and for what holds them to let go."""

import asyncio
from collections.abc import Coroutine

from loguru import logger

from ai_proxy.config.models import Config

STOP_MARGIN_S = 60.0
CLOSE_DEADLINE_S = 10.0


def stop_deadline_s(config: Config) -> float:
    """How long all services may take to stop: as long as the most patient of them, and a margin for the runtimes.

    Example:
        >>> stop_deadline_s(Config(services={"a": {"image": "x"}, "b": {"image": "x", "stop_grace_period": "3m"}}))
        240.0
    """
    return STOP_MARGIN_S + max((service.stop_grace_period for service in config.services.values()), default=0.0)


async def in_time(closing: Coroutine[None, None, None], what: str) -> None:
    """Wait for something to be released, but not for ever; what is left behind is found at the next start."""
    try:
        async with asyncio.timeout(CLOSE_DEADLINE_S):
            await closing
    except Exception:  # noqa: BLE001  # the others must be released all the same
        logger.exception("Could not release {} in time", what)
