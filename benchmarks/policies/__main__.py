"""Compare policies of eviction in the simulator; write JSON, a page and a plot into bench-results/.

Run as `python -m benchmarks.policies`; exits 1 if a bar is missed.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.policies.cases import RECORDED, Case, cases, run
from benchmarks.policies.plot import plot
from benchmarks.policies.report import page, summary
from benchmarks.policies.verdict import FLOOR, OURS, judge

from ai_proxy.sim.policies import POLICIES
from ai_proxy.sim.traces import GENERATORS

CITATION = "The trace azure is an hour of AzureLLMInferenceDataset2023 (Azure Public Dataset, CC-BY 4.0), stretched."


def measure(grid: list[Case], policies: tuple[str, ...], options: argparse.Namespace) -> dict[Case, Any]:
    """Run the grid, a trace a job."""
    runs: dict[Case, Any] = {}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(run, case, policies, options.recorded) for case in grid]):
            case, reports = job.result()
            runs[case] = reports
            print(f"\r{len(runs)} of {len(grid)} traces", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {case: runs[case] for case in grid}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", type=int, default=10)
    add("--processes", type=int, default=2)
    add("--generators", nargs="*", default=[*GENERATORS, RECORDED])
    add("--recorded", type=Path, help="the recorded trace: the dataset's csv.gz; without it its cases are left out")
    add("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    policies = (OURS, *(policy for policy in POLICIES if policy != FLOOR), FLOOR)
    generators = list(options.generators)
    cited = CITATION
    if RECORDED in generators and options.recorded is None:
        generators.remove(RECORDED)
        cited = "No recorded trace was given: its cases were left out."
        print(cited, file=sys.stderr)
    grid = cases(generators, options.seeds)
    began = time.monotonic()
    runs = measure(grid, policies, options)
    now = datetime.now(UTC)
    about = {
        "date": now.date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.policies", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, Linux {platform.release()}, CPython {platform.python_version()}",
        "processes": options.processes,
        "duration_s": round(time.monotonic() - began, 1),
        "seeds": options.seeds,
        "cases": len(grid),
        "recorded": cited if RECORDED in options.generators else "",
    }
    verdict = judge(runs, policies)
    options.out.mkdir(exist_ok=True)
    stem = options.out / f"{now:%Y-%m-%dT%H%M}-policies"
    rows = [
        {"generator": case.generator, "oversubscription": case.oversubscription, "seed": case.seed, "reports": reports}
        for case, reports in runs.items()
    ]
    stem.with_suffix(".json").write_text(json.dumps({**about, "runs": rows}, separators=(",", ":")) + "\n")
    stem.with_suffix(".svg").write_text(plot(verdict, policies))
    stem.with_suffix(".md").write_text(page(about, verdict, policies, f"{stem.name}.svg"))
    print(f"{summary(verdict)}\n{about['command']}: {about['duration_s']:.0f} s on {about['machine']}; {stem}.md")
    return int(not all(bar.met for bar in verdict.bars))


if __name__ == "__main__":
    sys.exit(main())
