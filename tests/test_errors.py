"""Errors as values: one cause, told to many."""

import pytest

from ai_proxy.errors import ProxyError, StartFailed
from ai_proxy.runtimes.docker.engine import EngineRefused


@pytest.mark.parametrize("error", [StartFailed("broke", log_tail=("last words",)), EngineRefused(500, "no")])
def test_a_renewed_error_keeps_its_cause_whatever_made_it(error: ProxyError) -> None:
    renewed = error.renewed(service="chat", retry_after_s=2.0)
    assert type(renewed) is type(error)
    assert vars(renewed) == {**vars(error), "service": "chat", "retry_after_s": 2.0}
    assert str(renewed) == str(error)
    assert error.service is None
