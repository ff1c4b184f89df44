"""Small JSON requests: as many as one core can send (wrk), and one after the other for the latency."""

import re
import socket
import subprocess
import time
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from benchmarks.load.processes import LOAD_CORE

PROMPT = '{"model":"chat","messages":[{"role":"user","content":"' + "b" * 500 + '"}],"stream":false}'
_PATH = "/v1/chat/completions"
_LUA = 'wrk.method="POST"; wrk.headers["Content-Type"]="application/json"; wrk.body=%r'


class Throughput(NamedTuple):
    """What a closed loop of many connections got."""

    requests: int
    per_s: float
    p50_us: float
    p99_us: float


class Latency(NamedTuple):
    """What one connection got, one request after the other."""

    p50_us: float
    p99_us: float


def flood(port: int, folder: Path, *, connections: int, seconds: int) -> Throughput:
    """Send as fast as answers come.

    Raises:
        RuntimeError: An answer was not 2xx, or a connection broke.
    """
    script = folder / "post.lua"
    script.write_text(_LUA % PROMPT)
    url = f"http://127.0.0.1:{port}{_PATH}"
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", *options, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    count = int(_find(r"(\d+) requests in", said)[0])
    per_s = float(_find(r"Requests/sec:\s+([\d.]+)", said)[0])
    return Throughput(count, per_s, _us(_find(r"50%\s+([\d.]+)(\w+)", said)), _us(_find(r"99%\s+([\d.]+)(\w+)", said)))


def one_by_one(port: int, *, count: int) -> Latency:
    """Send requests one after the other on one connection."""
    head = f"POST {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    data = f"{head}Content-Length: {len(PROMPT)}\r\n\r\n{PROMPT}".encode()
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(data)
            answer = connection.recv(65536)
            while not answer.endswith(b"}]}"):
                answer += connection.recv(65536)
            took.append((time.perf_counter() - began) * 1e6)
    cuts = quantiles(took[count // 10 :], n=100)
    return Latency(cuts[49], cuts[98])


def _find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(text)
    return found.groups()


def _us(figure: tuple[str, ...]) -> float:
    value, unit = figure
    return float(value) * {"us": 1.0, "ms": 1e3, "s": 1e6}[unit]
