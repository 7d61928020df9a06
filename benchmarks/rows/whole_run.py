"""A whole `run` of one task with three agents that answer at once: what there is to pay before any work is done."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import Spent, interpreter_s, own_python, place, run
from benchmarks.workspaces import ECHO, make_workspace, read_report

TITLE = "whole run of one task, three zero-delay agents"


def measure(*, quick: bool) -> Iterator[Result]:
    times = 5 if quick else 15
    with place() as directory:
        reference_ms = interpreter_s(times) * 1000
        runs = [_run(directory / f"w{number}", tasks=1) for number in range(times + 1)][1:]
        wall_ms = statistics.median(spent.wall_s for spent, _ in runs) * 1000
        cpu_ms = statistics.median(spent.cpu_s - agents_s for spent, agents_s in runs) * 1000
        yield Figure("wall", wall_ms, "ms", "bare interpreter", reference_ms, 30.0)
        yield Figure("CPU of our own processes", cpu_ms, "ms", "bare interpreter", reference_ms, 35.0)
        sizes = (1, 10) if quick else (1, 3, 10, 30, 100)
        points = [(float(tasks), _run(directory / f"n{tasks}", tasks)[0].wall_s) for tasks in sizes]
        yield Growth("whole run", "tasks", "wall, s", tuple(points))


def _run(root: Path, tasks: int) -> tuple[Spent, float]:
    """Return what a run took, and the CPU seconds of its agents in it."""
    make_workspace(root, tasks)
    report = root.with_suffix(".report")
    spent = run(own_python("run", "--all"), root, {"ECHO_REPORT": str(report)})
    if spent.code != 0:
        raise RuntimeError(f"the run ended with exit code {spent.code}: {sys.executable} {ECHO}")
    return spent, read_report(report)[0]
