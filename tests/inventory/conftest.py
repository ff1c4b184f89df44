"""What these tests share: the log."""

from collections.abc import Iterator

import pytest
from loguru import logger


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What was logged, line by line."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]))
    yield lines
    logger.remove(sink)
