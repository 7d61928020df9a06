"""A batch of many tasks: the last ones have to be as fast as the first, and memory must not grow with them."""

import os
import statistics
import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result, Skipped
from benchmarks.measuring import own_python, place
from benchmarks.workspaces import make_workspace, read_report
from lorch_actors.processes import descendants

TITLE = "batch of 1,000 tasks with zero-delay agents"
COMMANDS_A_TASK = 3
SAMPLE_S = 0.5
SAMPLES_MIN = 16
KIB = 1024


def measure(*, quick: bool) -> Iterator[Result]:
    tasks = 100 if quick else 1000
    with place() as directory:
        root = make_workspace(directory / "w", tasks)
        report = directory / "report"
        memory = _run(root, report)
        _, came = read_report(report)
        starts = came[::COMMANDS_A_TASK]
        each_ms = [(after - before) / 1e6 for before, after in pairwise(starts)]
        window = max(5, tasks // 20)
        early, late = statistics.median(each_ms[5 : 5 + window]), statistics.median(each_ms[-window:])
        yield Figure(f"task {tasks}", 1000 / late, "tasks/s", "task 10", 1000 / early, 0.9, "at least")
        if len(memory) >= SAMPLES_MIN:
            yield Figure("memory of all, a task more", _slope(memory) / tasks * KIB, "KiB", "limit", 4.0, 1.0)
        else:
            yield Skipped("memory", "the batch was too short to tell growth from start-up")
        step = max(1, len(each_ms) // 20)
        steps = range(0, len(each_ms) - step + 1, step)
        points = [(float(at + step), statistics.median(each_ms[at : at + step])) for at in steps]
        yield Growth("batch", "tasks done", "ms a task", tuple(points))


def _run(root: Path, report: Path) -> list[float]:
    """Run to the end; return the memory of all our processes (MiB, shared pages in parts) now and then."""
    process = subprocess.Popen(
        own_python("run", "--all"),
        cwd=root,
        env={**os.environ, "ECHO_REPORT": str(report)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    samples = []
    over = threading.Event()

    def wait() -> None:
        process.wait()
        over.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not over.wait(SAMPLE_S):
        samples.append(tree_pss_mib(process.pid))
    waiting.join()
    if process.returncode != 0:
        raise RuntimeError(f"the batch ended with exit code {process.returncode}")
    return samples


def _slope(samples: list[float]) -> float:
    """Return how much the memory grew from the second quarter to the last one, scaled to the whole, in MiB."""
    quarter = max(1, len(samples) // 4)
    before, after = samples[quarter : 2 * quarter], samples[-quarter - 1 : -1]
    return (statistics.median(after or [0.0]) - statistics.median(before or [0.0])) * 4 / 3 if before and after else 0.0


def tree_pss_mib(pid: int) -> float:
    """Return the memory of a process and all below it in MiB; what they share is counted once."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / KIB
