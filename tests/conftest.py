"""What every test may use."""

import os
import signal
from typing import NoReturn

import pytest

pytest_plugins = ["tests.fixtures.docker", "tests.fixtures.nvml"]


def pytest_configure() -> None:
    """Undo what a background job inherits: what the tests start would ignore Ctrl-C otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def missing(reason: str) -> NoReturn:
    """Give up on a test for want of something real: a failure under CI, where nothing may be missing, else a skip."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason} (CI must not skip)")
    pytest.skip(reason)
