"""What a grant tells of the wait for it."""

import pytest

from ai_proxy.devices import Placement
from ai_proxy.gate import RequestInfo
from ai_proxy.scheduler.grants import Grants, OpenGrant
from ai_proxy.scheduler.state import Live, ServiceState
from ai_proxy.transport.origin import Origin
from tests.scheduler.world import spec


@pytest.mark.parametrize(
    ("since", "placed_at", "ready_at", "start_s"),
    [
        pytest.param(10.0, 15.0, 22.0, 7.0, id="it waited for room, then for the start"),
        pytest.param(10.0, 4.0, 22.0, 12.0, id="it came while another's start was under way"),
        pytest.param(10.0, 2.0, 9.0, 0.0, id="it waited for a place on a replica that was ready"),
    ],
)
def test_a_start_counts_from_its_room_or_from_the_request(
    since: float, placed_at: float, ready_at: float, start_s: float
) -> None:
    live = Live(ServiceState(spec("a")).replicas[0], Placement(()), 1, placed_at, ready_at=ready_at)
    request = RequestInfo("r", "a", since, lambda: None)

    assert OpenGrant(Grants(lambda _: None), request, live, Origin("http", "h", 1), b"").start_s == start_s


def test_a_grant_that_is_given_back_twice_is_given_back_once() -> None:
    returned: list[Live] = []
    grants = Grants(returned.append)
    live = Live(ServiceState(spec("a")).replicas[0], Placement(()), 1)
    grant = OpenGrant(grants, RequestInfo("r", "a", 0.0, lambda: None), live, Origin("http", "h", 1), b"")
    assert list(grants.open) == [grant]

    grant.close()
    grant.close()
    assert (list(grants.open), returned) == ([], [live])
