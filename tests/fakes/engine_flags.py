"""The flags of the fake engine."""

import argparse
from pathlib import Path


def parse(arguments: list[str], about: str | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0: any free one; it prints `listening on HOST:PORT`")
    add("--model", help="answer 404 to any other model name")
    add("--echo", action="store_true", help="answer all but /health as /fake/echo does")
    add("--chunks", type=int, default=3, help="tokens of an answer")
    add("--interval", type=float, default=0.0, help="seconds before each token")
    add("--end-file", type=Path, help="no token more once this file exists")
    add("--first-byte-after", type=float, default=0.0, help="seconds before an answer's head")
    add("--listen-after", type=float, default=0.0, help="seconds before it listens at all")
    add("--ready-after", type=float, default=0.0, help="seconds of 503 `Loading model`")
    add("--ready-file", type=Path, help="503 until this file exists")
    add("--hang", action="store_true", help="accept connections, never answer")
    add("--exit-after", type=float, help="end by itself after so many seconds; 0: before it listens")
    add("--exit-code", type=int, default=0, help="status of --exit-after")
    add("--ignore-sigterm", action="store_true")
    add("--term-delay", type=float, default=0.0, help="seconds from SIGTERM to the end (exit status 0)")
    add("--spawn", action="store_true", help="start a child that lives on; prints `child PID`")
    add("--spawn-daemon", action="store_true", help="start a child in a session of its own, parent gone; as above")
    add("--child-ignores-sigterm", action="store_true")
    add("--say", action="append", default=[], help="print this line to stderr first; may repeat")
    add("--print-env", action="store_true", help="print `env {…}` as JSON")
    add("--enable-sleep-mode", action="store_true", help="let `/sleep` do something, as vLLM's")
    add("--vram", action="append", default=[], metavar="UUID:MIB", help="hold so much of a GPU in $NVML_STUB")
    add("--keeps", type=int, default=0, metavar="MIB", help="of each GPU, asleep")
    add("--flood", action="store_true", help="print without end, as fast as it goes")
    return parser.parse_args(arguments)
