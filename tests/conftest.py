"""What every test may use."""

import os
import signal
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.docker", "tests.fixtures.nvml"]


def pytest_configure() -> None:
    """Make every run the same, however it was started and whatever else the machine does."""
    # What the tests start would ignore Ctrl-C if they inherited that of a background job.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # Only a busy machine takes an example past a deadline.
    settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


def missing(reason: str) -> NoReturn:
    """Give up on a test for want of something real: a failure under CI, where nothing may be missing, else a skip."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason} (CI must not skip)")
    pytest.skip(reason)
