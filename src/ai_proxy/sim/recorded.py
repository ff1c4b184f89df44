"""Reads traces that were recorded: CSV or JSON lines, gzipped or not.

A row has a time (`at`, `timestamp`: seconds or ISO 8601), perhaps a service (`service`, `model`) and perhaps how long
it took (`service_time_s`, `duration_s`, `duration`) or how many tokens it made (`tokens`, `generatedtokens`). Rows
without a service get one from `traces.sessions`. A line that can't be read is a fault that names its number.
"""

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ai_proxy.sim.traces import Request, sessions

TIMES = ("at", "timestamp", "time")
SERVICES = ("service", "model")
DURATIONS = ("service_time_s", "duration_s", "duration")
TOKENS = ("tokens", "generatedtokens", "generated_tokens", "output_tokens")
TOKENS_PER_S = 50.0
DEFAULT_WORK_S = 3.0


class BadTrace(ValueError):
    """A trace can't be read; the message names the file, the line and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a recorded trace.

    Attributes:
        at: Seconds, on whatever clock the recorder had.
        service: Who was asked for; empty where the trace does not say.
        service_time_s: How long the work took.
        line: Where it stands in the file, from 1.
    """

    at: float
    service: str
    service_time_s: float
    line: int = 0


def read_trace(
    path: Path,
    services: Sequence[str] = (),
    *,
    seed: int = 0,
    stretch: float = 1.0,
    tokens_per_s: float = TOKENS_PER_S,
    resolve: Callable[[str], str] = str,
) -> list[Request]:
    """Read a trace and let it begin at 0.

    Args:
        path: `.csv` or `.jsonl`, perhaps with `.gz` behind.
        services: Who may stand for rows that name no service.
        seed: What those draws start from.
        stretch: Factor on the times between arrivals; 24 makes a day of an hour.
        tokens_per_s: How fast an engine is, for rows that count tokens instead of seconds.
        resolve: From what a row names to the service; raises ValueError for a name that nobody knows.

    Returns:
        The requests in order of time.

    Raises:
        BadTrace: A line is not as described above, there is none, or rows lack a service and `services` is empty.
        OSError: The file can't be read.
    """
    rows = sorted(read_rows(path, tokens_per_s), key=lambda row: row.at)
    if not rows:
        raise BadTrace(f"{path}: no rows")
    begin = rows[0].at
    if all(row.service for row in rows):
        names = _resolved(path, rows, resolve)
        return [Request((row.at - begin) * stretch, names[row.service], row.service_time_s) for row in rows]
    if any(row.service for row in rows):
        raise BadTrace(f"{path}: some rows name a service and some do not")
    if not services:
        raise BadTrace(f"{path}: its rows name no service; say which there are")
    return sessions([((row.at - begin) * stretch, row.service_time_s) for row in rows], services, seed)


def read_rows(path: Path, tokens_per_s: float = TOKENS_PER_S) -> list[Row]:
    """Read the lines of a trace as they stand.

    Args:
        path: As in `read_trace`.
        tokens_per_s: As in `read_trace`.

    Returns:
        One row a line, in the file's order.

    Raises:
        BadTrace: A line can't be read.
        OSError: The file can't be read.
    """
    rows: list[Row] = []
    with _text(path) as stream:
        try:
            is_csv = ".csv" in (suffix.lower() for suffix in path.suffixes)
            rows.extend(_row(record, tokens_per_s) for record in _records(stream, is_csv=is_csv))
        except _BadLine as bad:
            raise BadTrace(f"{path}, line {bad.number}: {bad}") from None
        except (UnicodeDecodeError, EOFError) as fault:
            raise BadTrace(f"{path}, after {len(rows)} rows: {fault}") from None
    return rows


def _resolved(path: Path, rows: Iterable[Row], resolve: Callable[[str], str]) -> Mapping[str, str]:
    """The service that each name stands for."""
    names: dict[str, str] = {}
    for row in rows:
        if row.service not in names:
            try:
                names[row.service] = resolve(row.service)
            except ValueError as fault:
                raise BadTrace(f"{path}, line {row.line}: {fault}") from None
    return names


@dataclass(frozen=True, slots=True)
class _Record:
    number: int
    fields: Mapping[str, object]


class _BadLine(ValueError):
    def __init__(self, number: int, problem: object) -> None:
        super().__init__(str(problem))
        self.number = number


def _text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _records(stream: Iterable[str], *, is_csv: bool) -> Iterator[_Record]:
    if not is_csv:
        yield from (_json_record(number, line) for number, line in enumerate(stream, 1) if line.strip())
        return
    rows = csv.DictReader(stream, strict=True)
    try:
        for row in rows:
            if None in row or None in row.values():
                raise _BadLine(rows.line_num, "it has not as many columns as the first line")
            yield _Record(rows.line_num, {name.strip().lower(): value.strip() for name, value in row.items()})
    except csv.Error as fault:
        raise _BadLine(rows.line_num, fault) from None


def _json_record(number: int, line: str) -> _Record:
    try:
        fields = json.loads(line)
    except ValueError as fault:
        raise _BadLine(number, fault) from None
    if not isinstance(fields, dict):
        raise _BadLine(number, "it is no JSON object")
    return _Record(number, {name.lower(): value for name, value in fields.items()})


def _row(record: _Record, tokens_per_s: float) -> Row:
    fields = record.fields
    try:
        at = _seconds(_first(fields, TIMES))
        if (duration := _first(fields, DURATIONS)) is not None:
            work_s = _number(duration)
        elif (tokens := _first(fields, TOKENS)) is not None:
            work_s = _number(tokens) / tokens_per_s
        else:
            work_s = DEFAULT_WORK_S
        if work_s < 0:
            raise ValueError("its duration is negative")
    except ValueError as fault:
        raise _BadLine(record.number, fault) from None
    return Row(at, str(_first(fields, SERVICES) or ""), work_s, record.number)


def _first(fields: Mapping[str, object], names: Sequence[str]) -> object:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _seconds(value: object) -> float:
    if value is None:
        raise ValueError(f"it has no time; one of {', '.join(TIMES)} is needed")
    try:
        return _number(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither seconds nor an ISO 8601 time") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number
