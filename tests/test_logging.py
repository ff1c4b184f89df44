"""Log output on real pipes."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from loguru import logger

from ai_proxy.logging import Access, Logs, StdlibBridge, access_line, printable, redact, setup

GUARD_S = 5

ENTRY = Access(
    at=1790000000.0,
    method="POST",
    target=b"/v1/chat/completions",
    status=200,
    request_id="r-1",
    service="chat",
    model="m",
    client="127.0.0.1:5000",
    sent_bytes=12,
    total_s=0.25,
    queue_s=0.0,
    ttfb_s=0.04,
    ending="done",
)


@dataclass
class Pipe:
    """A pipe that is read only when told."""

    ends: tuple[int, int] = field(default_factory=os.pipe)

    @property
    def write_end(self) -> int:
        return self.ends[1]

    def read(self) -> str:
        """All that was written, up to the end that closing the writer makes."""
        os.close(self.ends[1])
        with os.fdopen(self.ends[0], "rb") as reader:
            return reader.read().decode()

    def fill(self) -> None:
        """Write until the pipe takes no more."""
        os.set_blocking(self.write_end, False)
        try:
            while True:
                os.write(self.write_end, b"x" * 65536)
        except BlockingIOError:
            os.set_blocking(self.write_end, True)


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture(autouse=True)
def _undo_setup() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    logger.remove()
    root.setLevel(level)
    for bridge in [handler for handler in root.handlers if isinstance(handler, StdlibBridge)]:
        root.removeHandler(bridge)


def test_a_record_has_the_layout_of_the_guide_and_its_bound_ids(pipe: Pipe) -> None:
    logs = setup(fd=pipe.write_end)

    logger.bind(request_id="r-7", service="chat").info("started in {} s", 2)
    logs.close()

    time, level, place, request_id, service, message = pipe.read().rstrip("\n").split(" | ")
    assert len(time) == len("2026-01-01 00:00:00.000")
    assert level == "INFO    "
    assert place.split(":")[:2] == [__name__, "test_a_record_has_the_layout_of_the_guide_and_its_bound_ids"]
    assert (request_id, service, message) == ("r-7", "chat", "started in 2 s")


def test_records_below_the_level_are_not_written(pipe: Pipe) -> None:
    logs = setup("WARNING", fd=pipe.write_end)

    logger.info("quiet")
    logging.getLogger("lib").info("quiet")
    logs.access(ENTRY)
    logs.close()

    assert pipe.read() == ""


def test_the_standard_library_and_uvicorn_log_through_the_same_output(pipe: Pipe) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.addHandler(logging.NullHandler())
    logs = setup(fd=pipe.write_end)

    uvicorn.warning("port %s {is} taken", 80)
    logs.close()

    line = pipe.read()
    assert "uvicorn.error:test_the_standard_library_and_uvicorn_log" in line
    assert line.endswith("port 80 {is} taken\n")
    assert uvicorn.handlers == []


def test_setting_up_twice_writes_each_record_once(pipe: Pipe) -> None:
    setup(fd=pipe.write_end).close()
    logs = setup(fd=pipe.write_end)

    logging.getLogger("lib").warning("once")
    logs.close()

    assert pipe.read().count(" | lib:") == 1


def test_an_exception_is_written_with_its_traceback_and_without_values(pipe: Pipe) -> None:
    logs = setup(fd=pipe.write_end)
    prompt = "my private prompt"

    try:
        raise ValueError(len(prompt))
    except ValueError:
        logger.exception("it broke")
    logs.close()

    text = pipe.read()
    assert "Traceback" in text
    assert "ValueError: 17" in text
    assert prompt not in text


def test_json_records_are_one_object_a_line(pipe: Pipe) -> None:
    logs = setup(format="json", fd=pipe.write_end)

    logger.bind(service="chat", odd=object).warning("two\nlines")
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("it broke")
    logs.access(ENTRY)
    logs.close()

    warning, error, access = map(json.loads, pipe.read().splitlines())
    assert [datetime.fromisoformat(line["time"]).tzinfo is None for line in (warning, access)] == [False, False]
    assert (warning["level"], warning["message"], warning["service"]) == ("WARNING", "two\nlines", "chat")
    assert error["exception"] == "ValueError('bad')"
    assert error["traceback"].startswith("Traceback")
    assert __file__ in error["traceback"]
    assert (access["name"], access["status"], access["total_s"], access["model"]) == ("access", 200, 0.25, "m")


def test_json_stays_json_whatever_is_masked_or_cut_in_it(pipe: Pipe) -> None:
    logs = setup(format="json", fd=pipe.write_end)

    logger.bind(token=5, header="Bearer abc").info('{}, {{"password": "abc"}}', 'api_key="abc"')
    logger.info("x" * 100_000)
    logs.access(ENTRY._replace(model="m" * 100_000))
    logs.dropped = 1
    logs.close()

    text = pipe.read()
    masked, cut, access, dropped = map(json.loads, text.splitlines())
    assert "abc" not in text
    assert (masked["message"], masked["token"]) == ('api_key="***", {"password": "***"}', 5)
    assert len(cut["message"]) < 9000
    assert len(access["model"]) < 300
    assert dropped["message"] == "1 lines dropped"


def test_the_access_line_shows_no_query_and_cannot_be_forged() -> None:
    line = access_line(ENTRY._replace(target=b"/x?key=s3cret", model='m" end=done\nINFO', status=502, ttfb_s=None))

    assert "s3cret" not in line
    assert line.count("\n") == 1
    assert "| WARNING  | access | r-1 | chat | POST /x 502 " in line
    assert "ttfb=- " in line
    assert line.endswith('model="m\\" end=done\\nINFO"\n')


def test_raw_bytes_in_a_target_are_shown_escaped() -> None:
    assert " /caf\\\\xe9 " in access_line(ENTRY._replace(target=b"/caf\xe9\x07")).replace("\\x07", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("authorization: Bearer abc.def", "authorization: Bearer ***"),
        ('{"api_key": "abc"}', '{"api_key": "***"}'),
        ("HF_TOKEN is unset", "HF_TOKEN is unset"),
        ("--api-key=abc --port 1", "--api-key=*** --port 1"),
        ("password: hunter2", "password: ***"),
        ("HF_TOKEN=hf_abc", "HF_TOKEN=***"),
    ],
)
def test_masks_what_looks_like_a_credential(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_message_cannot_steer_the_terminal_nor_pass_for_a_second_record(pipe: Pipe) -> None:
    logs = setup(fd=pipe.write_end)

    logger.info("model {}", "\x1b[2J\n2026-01-01 | ERROR | forged")
    logs.close()

    first, second = pipe.read().splitlines()
    assert first.endswith("model \\x1b[2J")
    assert second.startswith("    2026")


def test_tabs_and_line_breaks_stay_readable() -> None:
    assert printable("a\tb\nc\x7f") == "a\tb\n    c\\x7f"


def test_an_endless_line_is_cut(pipe: Pipe) -> None:
    logs = setup(fd=pipe.write_end)

    logger.info("x" * 100_000)
    logs.close()

    text = pipe.read()
    assert len(text) < 9000
    assert text.endswith(" more\n")


def test_a_stalled_pipe_costs_lines_and_stops_nobody(pipe: Pipe) -> None:
    """Nobody reads: callers go on, what does not fit is dropped and counted, and the loss is told once read again."""
    pipe.fill()
    logs = Logs(pipe.write_end, limit=100)

    for _ in range(1000):
        logs.access(ENTRY)

    assert logs.dropped >= 800
    assert logs.written == 0

    reader = threading.Thread(target=lambda: texts.append(pipe_reader.read()))
    texts: list[bytes] = []
    with os.fdopen(pipe.ends[0], "rb") as pipe_reader:
        reader.start()
        logs.close(GUARD_S)
        os.close(pipe.write_end)
        reader.join(GUARD_S)
    assert texts[0].count(b"| access |") + logs.dropped == 1000
    assert f"{logs.dropped} lines dropped".encode() in texts[0]


def test_closing_gives_up_on_a_stalled_pipe_at_its_deadline(pipe: Pipe) -> None:
    pipe.fill()
    logs = Logs(pipe.write_end)
    logs.access(ENTRY)

    logs.close(deadline_s=0.01)

    assert logs.written == 0
    os.close(pipe.ends[0])  # ends the writer's write


def test_a_descriptor_that_is_non_blocking_loses_nothing(pipe: Pipe) -> None:
    pipe.fill()
    os.set_blocking(pipe.write_end, False)
    logs = Logs(pipe.write_end)
    logs.access(ENTRY)

    reader = threading.Thread(target=lambda: texts.append(pipe.read()))
    texts: list[str] = []
    os.read(pipe.ends[0], 65536)
    logs.close(GUARD_S)
    reader.start()
    reader.join(GUARD_S)

    assert texts[0].endswith('model="m"\n')
    assert (logs.written, logs.dropped) == (1, 0)


def test_a_closed_descriptor_counts_its_lines_as_dropped() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    logs = Logs(write_end)

    logs.access(ENTRY)
    logs.close()

    assert (logs.written, logs.dropped) == (0, 1)
    os.close(write_end)


def test_closing_twice_is_fine_and_an_owner_shows_itself(pipe: Pipe) -> None:
    logs = Logs(pipe.write_end)
    logs.access(ENTRY)

    logs.close()
    logs.close()

    assert repr(logs) == f"<Logs fd={pipe.write_end} waiting=0 written=1 dropped=0>"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise ValueError('fatal')"])
def test_what_waits_is_written_when_the_process_ends(ending: str) -> None:
    program = f"from ai_proxy.logging import *\nlogs = setup()\nlogger.info('last words')\n{ending}"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)

    assert "last words" in done.stderr


@pytest.mark.slow
def test_a_process_whose_stderr_is_stalled_still_ends(pipe: Pipe) -> None:
    pipe.fill()
    program = "import ai_proxy.logging as l; logs = l.Logs(2); [logs.record('x') for _ in range(20000)]; print(logs)"

    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=pipe.write_end,
        text=True,
        timeout=30,
        check=True,
    )

    assert "dropped=0" not in done.stdout
