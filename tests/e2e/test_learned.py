"""What one life of the proxy has learned, the next one knows."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.clients import asking, chat
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow


def test_the_figures_of_a_service_outlive_the_proxy(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, {"services": {"small": process(), "other": process()}}).start()
    proxy.post("/api/v1/service/small/start?wait=true")
    proxy.post("/api/v1/service/small/stop?wait=true")
    learned = proxy.service("small")["figures"]
    proxy.close()

    proxy.start()
    known, unknown = (proxy.service(it)["figures"] for it in ("small", "other"))
    proxy.close()

    assert learned["loads"] == 1
    assert learned["load_s"] > 0
    assert learned["stop_s"] is not None
    # The commands are the same, and with them what shapes a replica.
    assert known == unknown == learned


def test_figures_outlive_a_proxy_that_was_killed(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, {"services": {"small": process()}}).start()
    proxy.post("/api/v1/service/small/start?wait=true")
    until(lambda: _loads(tmp_path / "state" / "learned.db"))
    proxy.kill()

    proxy.start()
    assert proxy.service("small")["figures"]["loads"] == 1
    proxy.close()


async def test_what_was_learned_of_the_uses_outlives_the_proxy_and_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, {"services": {"small": process()}}).start()
    async with asking(proxy) as client:
        assert (await chat(client, "small")).status_code == 200
    proxy.close()
    uses = _memo(tmp_path / "state" / "learned.db")
    assert "small" in json.dumps(uses)

    proxy.start()
    assert "can't be read" not in proxy.log
    proxy.close()
    with closing(sqlite3.connect(tmp_path / "state" / "learned.db")) as db, db:
        db.execute("UPDATE memos SET value = '[1]'")
    proxy.start()
    assert "uses can't be read, and is learned anew" in proxy.log
    proxy.close()


def _memo(path: Path) -> object:
    with closing(sqlite3.connect(path)) as db:
        ((text,),) = db.execute("SELECT value FROM memos WHERE name = 'uses'")
        return json.loads(text)


def _loads(path: Path) -> int:
    """The loads that the file tells of."""
    with closing(sqlite3.connect(path)) as db:
        return sum(len(json.loads(text)["loads_s"]) for (text,) in db.execute("SELECT figures FROM figures"))
