"""The comparison as a readable page."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.policies.verdict import FLOOR, OURS, Verdict, label


def page(about: Mapping[str, Any], verdict: Verdict, policies: Sequence[str], plot: str) -> str:
    """Write the page."""
    setting = (
        f"`{about['command']}`, {about['duration_s']:.0f} s on {about['machine']}. {about['cases']} traces of a day "
        f"({about['seeds']} seeds; 16 services of 4–40 GB on one or two GPUs, which they oversubscribe 1.5, 2.5 and 4 "
        "times; a load takes 3 s + size / 1.5 GB/s), each under all policies, in the simulator, which runs the real "
        f"scheduler. {about['recorded']}"
    )
    figure = (
        "The figure is the total time of cold starts: each from the first request that waited for a service that was "
        "not ready to its grant, so that queueing for room counts too. The clairvoyant knows the trace; it is a "
        "heuristic floor."
    )
    bars = [f"| {bar.demand} | {bar.figure} | {'met' if bar.met else '**missed**'} |" for bar in verdict.bars]
    lines = [
        f"# Policies of eviction, {about['date']}",
        "",
        setting,
        "",
        figure,
        "",
        "## Bars",
        "",
        "| demanded | figure | |",
        "| --- | --- | --- |",
        *bars,
        "",
        *_failing(verdict),
        "## Total time of cold starts, as a multiple of the clairvoyant's",
        "",
        f"![Ratios by case]({plot})",
        "",
        f"| | {' | '.join(policies)} | clairvoyant, s |",
        f"| --- | {' | '.join('--:' for _ in policies)} | --: |",
    ]
    for name, cell in verdict.totals.items():
        best = min((policy for policy in policies if policy != FLOOR), key=lambda policy: cell[policy])
        ratios = [
            f"**{cell[it] / cell[FLOOR]:.2f}**" if it == best else f"{cell[it] / cell[FLOOR]:.2f}" for it in policies
        ]
        lines.append(f"| {label(name)} | {' | '.join(ratios)} | {cell[FLOOR]:,.0f} |")
    means = [f"{verdict.means[policy]:.3f}" for policy in policies]
    lines.append(f"| **geometric mean** | {' | '.join(means)} | |")
    return "\n".join([*lines, "", "In bold: the best of a case but for the clairvoyant.", ""])


def _failing(verdict: Verdict) -> list[str]:
    over, count = verdict.single_runs
    said = [f"Of {count} single runs (one seed each), {over} are beyond 1.05 times their own best fixed policy.", ""]
    if verdict.failing:
        said += ["Cases beyond it:", ""]
        said += [f"- {label(name)}: {ratio:.3f} × {policy}" for name, policy, ratio in verdict.failing]
        said.append("")
    return said


def summary(verdict: Verdict) -> str:
    """A line for each bar, for the terminal."""
    lines = [f"{'met   ' if bar.met else 'MISSED'} {bar.demand}: {bar.figure}" for bar in verdict.bars]
    lines += [f"       beyond: {label(name)}, {ratio:.3f} × {policy}" for name, policy, ratio in verdict.failing]
    ranking = sorted(verdict.means.items(), key=lambda item: (item[0] != OURS, item[1]))
    return "\n".join([*lines, "means to the floor: " + ", ".join(f"{name} {mean:.3f}" for name, mean in ranking)])
