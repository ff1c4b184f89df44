"""The lock that keeps two proxies of one name apart."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ai_proxy.control.lock import AlreadyRunning, InstanceLock

HOLDER = """
import sys, time
from pathlib import Path
from ai_proxy.control.lock import InstanceLock
lock = InstanceLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_proxy_of_the_name_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with InstanceLock(tmp_path), pytest.raises(AlreadyRunning, match=f"process {os.getpid()} is a proxy") as caught:
        InstanceLock(tmp_path)

    assert caught.value.pid == os.getpid()


def test_the_name_is_free_again_once_the_lock_was_let_go(tmp_path: Path) -> None:
    with InstanceLock(tmp_path) as lock:
        lock.close()

        InstanceLock(tmp_path).close()


def test_the_state_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with InstanceLock(tmp_path / "made" / "deep"):
        assert stat.S_IMODE((tmp_path / "made" / "deep").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "made" / "deep" / "lock").stat().st_mode) == 0o600


@pytest.mark.slow
def test_a_killed_proxy_leaves_no_lock_behind(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyRunning) as caught:
            InstanceLock(tmp_path)
        holder.kill()

    assert caught.value.pid == holder.pid
    InstanceLock(tmp_path).close()
