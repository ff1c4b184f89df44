"""What one life of the proxy has learned, the next one knows."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.e2e.clients import asking, chat
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow


async def test_figures_and_uses_outlive_the_proxy_and_what_can_not_be_read_is_said(serve: Serve) -> None:
    proxy = serve({"services": {"small": process(), "other": process()}})
    async with asking(proxy) as client:
        assert (await chat(client, "small")).status_code == 200
    proxy.post("/api/v1/service/small/stop?wait=true")
    learned = proxy.service("small")["figures"]
    proxy.close()
    with _database(proxy) as db:
        ((uses,),) = db.execute("SELECT value FROM memos WHERE name = 'uses'")
    assert "small" in uses
    assert learned["loads"] == 1
    assert learned["load_s"] > 0
    assert learned["stop_s"] is not None

    proxy.start()
    # The commands are the same, and with them what shapes a replica.
    assert proxy.service("small")["figures"] == proxy.service("other")["figures"] == learned
    proxy.close()
    assert "can't be read" not in proxy.log

    with _database(proxy) as db:
        db.execute("UPDATE memos SET value = '[1]'")
    proxy.start()
    proxy.close()
    assert "uses can't be read, and is learned anew" in proxy.log


def test_figures_outlive_a_proxy_that_was_killed(serve: Serve) -> None:
    proxy = serve({"services": {"small": process()}})
    proxy.post("/api/v1/service/small/start?wait=true")
    until(lambda: _loads(proxy))
    proxy.kill()

    proxy.start()
    assert proxy.service("small")["figures"]["loads"] == 1


@contextmanager
def _database(proxy: Proxy) -> Iterator[sqlite3.Connection]:
    """What it has learned, as it lies on the disk."""
    with closing(sqlite3.connect(proxy.folder / "state" / "learned.db")) as db, db:
        yield db


def _loads(proxy: Proxy) -> int:
    """The loads that the file tells of."""
    with _database(proxy) as db:
        return sum(len(json.loads(text)["loads_s"]) for (text,) in db.execute("SELECT figures FROM figures"))
