"""The data plane runs on uvloop; on asyncio's own loop its behaviour is the same. And whom its listeners may be."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.fakes.certificates import Authority, tls_of


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom clients believe."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def shown(authority: Authority) -> ssl.SSLContext:
    """For a listener."""
    return tls_of(authority).context


@pytest.fixture
def believed(authority: Authority) -> ssl.SSLContext:
    """For a client."""
    return authority.believer()
