"""What the API's tests share."""

from collections.abc import AsyncIterator

import pytest

from tests.api.house import House, house_of


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Two services, `a` in a container and `b` as a process; nothing runs yet."""
    async with house_of() as house:
        yield house
