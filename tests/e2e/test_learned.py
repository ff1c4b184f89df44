"""What one life of the proxy has learned, the next one knows."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

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


def _loads(path: Path) -> int:
    """The loads that the file tells of."""
    with closing(sqlite3.connect(path)) as db:
        return sum(len(json.loads(text)["loads_s"]) for (text,) in db.execute("SELECT figures FROM figures"))
