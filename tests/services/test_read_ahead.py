"""Reading ahead: in pieces, as far as memory goes, until told to stop."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_proxy.services.read_ahead import CHUNK_BYTES, available_bytes, read_ahead

MIB = 1024 * 1024


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of two and a half pieces each."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(CHUNK_BYTES * 5 // 2)
    return paths


def test_all_files_are_read_where_there_is_room(files: list[Path]) -> None:
    assert read_ahead(files, threading.Event(), limit_bytes=1 << 40) == 40


def test_no_more_is_read_than_memory_holds(files: list[Path]) -> None:
    assert read_ahead(files, threading.Event(), limit_bytes=30 * MIB) == 30
    assert read_ahead(files, threading.Event(), limit_bytes=0) == 0


def test_a_stop_ends_it(files: list[Path]) -> None:
    stop = threading.Event()

    def named() -> Iterator[Path]:
        yield files[0]
        stop.set()
        yield files[1]

    assert read_ahead(named(), stop, limit_bytes=1 << 40) == 20


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ahead([tmp_path / "gone"], threading.Event(), limit_bytes=1)


def test_no_file_is_left_open(files: list[Path]) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    read_ahead(files, threading.Event())
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_available_memory_is_the_kernels_figure(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:      64 kB\n")
    assert available_bytes(meminfo) == 64 * 1024
    assert available_bytes() > 0
