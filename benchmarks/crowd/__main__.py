"""Measure a new request's latency in a crowd, and memory under endless streams; write JSON and a page.

Run as `python -m benchmarks.crowd`; needs taskset and two cores.
"""

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from benchmarks.crowd.clients import crowd, probe, read_slowly, send_on
from benchmarks.crowd.engine import serve
from benchmarks.crowd.report import page
from benchmarks.load.processes import LOAD_CORE, PROXY_CORE, cpu_s, free_port, pinned, proxy_command, rss_mb
from benchmarks.results import keep

_READ_BYTES_PER_S = 10_000
_FILES = 16_384
_REST_S = 3.0


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every part against one proxy."""
    engine = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 16)
    port = free_port()
    services = {"chat": {"url": f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}"}}
    command = proxy_command(folder, "crowd", port, services)
    running = pinned(command, PROXY_CORE, log=folder / "proxy.log", port=port)
    with running as pid:
        await asyncio.sleep(_REST_S)
        alone = await probe(port, options.probe_s)
        empty_mb = rss_mb(pid)
        read = await _growth(pid, read_slowly(port, "/chat/endless", options.seconds, _READ_BYTES_PER_S))
        sent = await _growth(pid, send_on(port, "/chat/sink", options.seconds))
        async with crowd(port, idle=options.idle, slow=options.slow):
            await asyncio.sleep(_REST_S)
            before_s, began = cpu_s(pid), time.monotonic()
            await asyncio.sleep(options.probe_s)
            idle_cpu = (cpu_s(pid) - before_s) / (time.monotonic() - began)
            among = await probe(port, options.probe_s)
            crowd_mb = rss_mb(pid)
    engine.close()
    return {
        "alone": alone._asdict(),
        "crowd": among._asdict(),
        "crowd_cpu_share": round(idle_cpu, 3),
        "rss_mb": {"empty": round(empty_mb, 1), "crowd": round(crowd_mb, 1)},
        "endless_response": read,
        "endless_upload": sent,
    }


async def _growth(pid: int, work: Awaitable[int]) -> dict[str, float]:
    """Memory before, and at most during, some work; and the bytes that it moved."""
    before = rss_mb(pid)
    task, worst = asyncio.ensure_future(work), before
    while not task.done():
        await asyncio.wait({task}, timeout=0.5)
        worst = max(worst, rss_mb(pid))
    return {"rss_before_mb": round(before, 1), "grew_mb": round(worst - before, 2), "bytes": await task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--idle", type=int, default=2000, help="connections that only sit there")
    add("--slow", type=int, default=500, help="connections that are slow: heads, bodies, readers")
    add("--probe-s", type=float, default=20, help="for which new requests are measured")
    add("--seconds", type=float, default=60, help="of each endless stream")
    add("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    os.sched_setaffinity(0, {LOAD_CORE})
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, max(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with tempfile.TemporaryDirectory(prefix="ai-proxy-crowd-") as folder:
        figures = asyncio.run(measure(options, Path(folder)))
    result = {
        "load_before": round(busy, 2),
        **{name: getattr(options, name) for name in ("idle", "slow", "probe_s", "seconds")},
        **figures,
    }
    keep(options.out, "crowd", result, page)


if __name__ == "__main__":
    main()
