"""One durable command cycle, in a steady loop of agents that answer at once.

A cycle: a command is in the ledger and on the disk, its agent gets it and answers, the answer is on the disk and found
true, the next command is decided on. Measured where it counts: between the moments at which agents get commands.
"""

import statistics
from collections.abc import Iterator
from itertools import pairwise

from benchmarks import peers
from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import append_and_sync_s, own_python, place, run
from benchmarks.workspaces import make_workspace, read_report

TITLE = "one durable command cycle"
WARM_UP = 20


def measure(*, quick: bool) -> Iterator[Result]:
    rounds = 200 if quick else 1000
    with place() as directory:
        root = make_workspace(directory / "w", tasks=1, max_rounds=rounds)
        before_s = append_and_sync_s(directory)
        report = directory / "report"
        spent = run(own_python("run", "--all"), root, {"ECHO_REPORT": str(report), "ECHO_REVIEW": "changes_requested"})
        reference_ms = statistics.median([before_s, append_and_sync_s(directory)]) * 1000
        _, came = read_report(report)
        if spent.code != 1 or len(came) < rounds:
            raise RuntimeError(f"the loop ended with exit code {spent.code} after {len(came)} commands")
        cycles_ms = [(after - before) / 1e6 for before, after in pairwise(came)][WARM_UP:]
        cycle_ms = statistics.median(cycles_ms)
        yield Figure("median", cycle_ms, "ms", "append and fdatasync", reference_ms, 6.0)
        tenths = [float(statistics.median(part)) for part in _tenths(cycles_ms)]
        yield Figure("last tenth of the loop", tenths[-1], "ms", "first tenth", tenths[0], 1.1)
        yield Growth(
            "durable cycle", "commands so far", "ms", tuple((rounds * 0.2 * n, ms) for n, ms in enumerate(tenths, 1))
        )
        yield from peers.steps(directory, cycle_ms)


def _tenths(values: list[float]) -> list[list[float]]:
    size = len(values) // 10
    return [values[at * size : (at + 1) * size] for at in range(10)]
