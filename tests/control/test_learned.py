"""What is learned outlives the proxy, whatever becomes of the file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from loguru import logger

from ai_proxy.control.learned import Learned
from ai_proxy.scheduler.figures import Figures

GUARD_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.db"


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    written: list[str] = []
    sink = logger.add(lambda line: written.append(str(line)), level="WARNING", format="{message}")
    yield written
    logger.remove(sink)


@asynccontextmanager
async def life(
    path: Path, *, limit: int = 10, gather_s: float = 0.0, memo_every_s: float = 60.0
) -> AsyncIterator[Learned]:
    """One life of the proxy."""
    learned = Learned(path, limit=limit, gather_s=gather_s, memo_every_s=memo_every_s)
    await learned.open()
    try:
        yield learned
    finally:
        await learned.aclose()


def rows(path: Path) -> list[tuple[str, str]]:
    """What a reader of the file sees."""
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute("SELECT spec_hash, device FROM figures").fetchall())


async def until_written(path: Path, count: int) -> None:
    async with asyncio.timeout(GUARD_S):
        while len(rows(path)) < count:
            await asyncio.sleep(0.01)


async def test_the_next_life_knows_what_this_one_has_learned(path: Path) -> None:
    seen = Figures(17_310, (12.5, 11.0), (2.0,), {1: (0.5,), 2: (3.0,)})
    async with life(path) as learned:
        learned.note("h", "RTX 4090", lambda _: seen)

    async with life(path) as learned:
        assert learned.get("h", "RTX 4090") == seen
        assert learned.get("h", "A100") is None


async def test_what_is_noted_is_written_while_the_proxy_lives(path: Path) -> None:
    async with life(path) as learned:
        learned.note("h", "", lambda figures: figures.with_load(3.0))

        await until_written(path, 1)


async def test_a_finding_that_is_no_news_is_told_as_such(path: Path) -> None:
    learned = Learned(path)

    assert learned.note("h", "", lambda figures: figures.with_peak(900))
    assert not learned.note("h", "", lambda figures: figures.with_peak(800))


async def test_a_service_is_known_over_all_models_of_gpu_that_it_ran_on(path: Path) -> None:
    learned = Learned(path)
    learned.note("h", "RTX 4090", lambda figures: figures.with_peak(900))
    learned.note("h", "A100", lambda figures: figures.with_peak(950))
    learned.note("other", "A100", lambda figures: figures.with_peak(5000))

    assert learned.over_all("h") == Figures(950)
    assert learned.over_all("unknown") is None


async def test_those_noted_longest_ago_are_forgotten_first_in_memory_and_in_the_file(path: Path) -> None:
    async with life(path, limit=2) as learned:
        for name in ("a", "b", "a", "c"):
            learned.note(name, "", lambda figures: figures.with_load(1.0))

        assert learned.over_all("b") is None
    assert rows(path) == [("a", ""), ("c", "")]

    async with life(path, limit=1) as learned:
        assert learned.over_all("a") is None
        assert learned.over_all("c") is not None
    assert rows(path) == [("c", "")]


async def test_a_memo_is_asked_for_at_the_end_and_given_back_in_the_next_life(path: Path) -> None:
    async with life(path) as learned:
        learned.keep("arrivals", lambda: {"chat": [1.5, 2]})
        assert learned.memo("arrivals") is None

    async with life(path) as learned:
        assert learned.memo("arrivals") == {"chat": [1.5, 2]}


async def test_a_memo_is_written_every_few_minutes_though_nothing_is_noted(path: Path) -> None:
    asked = asyncio.Event()
    async with life(path, memo_every_s=0.01) as learned:
        learned.keep("arrivals", asked.set)

        async with asyncio.timeout(GUARD_S):
            await asked.wait()


async def test_a_memo_that_fails_costs_no_figures(path: Path, warnings: list[str]) -> None:
    async with life(path) as learned:
        learned.keep("arrivals", lambda: 1 / 0)
        learned.note("h", "", lambda figures: figures.with_load(1.0))
        async with asyncio.timeout(GUARD_S):
            while not warnings:
                await asyncio.sleep(0.01)
        learned.keep("arrivals", lambda: None)

    assert rows(path) == [("h", "")]


@pytest.mark.parametrize("content", [b"this is no database, " * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_l16_a_file_that_is_no_database_is_moved_aside_and_everything_learned_anew(
    path: Path, warnings: list[str], content: bytes
) -> None:
    path.write_bytes(content)

    async with life(path) as learned:
        learned.note("h", "", lambda figures: figures.with_load(1.0))

    assert path.with_name("learned.db.spoilt").read_bytes() == content
    assert rows(path) == [("h", "")]
    assert len(warnings) == 1
    assert "learned.db.spoilt" in warnings[0]


@pytest.mark.parametrize(
    "damage",
    [
        "PRAGMA user_version = 99",
        "DROP TABLE figures",
        "UPDATE figures SET figures = '{'",
        "UPDATE figures SET figures = '[]'",
    ],
    ids=["another version", "no table", "no JSON", "other JSON"],
)
async def test_a_database_of_another_form_is_moved_aside(path: Path, warnings: list[str], damage: str) -> None:
    async with life(path) as learned:
        learned.note("h", "", lambda figures: figures.with_load(1.0))
    with closing(sqlite3.connect(path, autocommit=True)) as db:
        db.execute(damage)

    async with life(path) as learned:
        assert learned.over_all("h") is None
        learned.note("new", "", lambda figures: figures.with_load(1.0))

    assert rows(path) == [("new", "")]
    assert len(warnings) == 1


async def test_a_file_that_is_spoilt_meanwhile_is_written_anew_with_all_that_is_known(
    path: Path, warnings: list[str]
) -> None:
    async with life(path) as learned:
        learned.note("first", "", lambda figures: figures.with_load(1.0))
        await until_written(path, 1)
        with closing(sqlite3.connect(path, autocommit=True)) as db:
            db.execute("DROP TABLE figures")

        learned.note("second", "", lambda figures: figures.with_load(1.0))

    assert rows(path) == [("first", ""), ("second", "")]
    assert len(warnings) == 1


async def test_l16_where_nothing_can_be_written_it_is_learned_for_this_life(
    tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "missing" / "learned.db"

    async with life(path) as learned:
        learned.note("h", "", lambda figures: figures.with_load(1.0))
        assert learned.over_all("h") is not None

    assert len(warnings) == 2
    assert "Can't read" in warnings[0]
    assert "Can't write" in warnings[1]


@pytest.mark.slow
async def test_a_database_that_somebody_locks_is_written_once_it_is_free(path: Path, warnings: list[str]) -> None:
    async with life(path, gather_s=0.0, memo_every_s=0.01) as learned:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            learned.note("h", "", lambda figures: figures.with_load(1.0))
            async with asyncio.timeout(GUARD_S):
                while not warnings:
                    await asyncio.sleep(0.01)
            db.execute("ROLLBACK")

        await until_written(path, 1)
