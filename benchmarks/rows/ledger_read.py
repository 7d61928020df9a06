"""Reading a ledger from its start: every line proved by its chain, decoded, and folded into the run."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import best_s, in_child, place
from benchmarks.workspaces import extend_ledger, interrupted_run
from lorch_actors.records.history import load_run
from lorch_actors.storage.workspace import Workspace

TITLE = "read, verify and fold a ledger"
MIB = 2**20


def measure(*, quick: bool) -> Iterator[Result]:
    with place() as directory:
        workspace = Workspace(directory / "w")
        run_id = interrupted_run(workspace.root)
        path = workspace.ledger(run_id)
        points = []
        for lines in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
            extend_ledger(path, run_id, lines)
            seconds, peak = min(
                in_child(lambda: load_run(workspace, run_id, use_checkpoint=False))
                for _ in range(1 if lines > 100_000 else 3)
            )
            points.append((float(lines), seconds))
            if lines >= 100_000:
                reference_s = best_s(lambda: _parse(path, 100_000), 3) * lines / 100_000
                yield Figure(f"{lines:,} lines", seconds * 1000, "ms", "json.loads of each", reference_s * 1000, 0.7)
                yield Figure(f"{lines:,} lines, memory", peak / MIB, "MiB", "limit", 60.0, 1.0)
        yield Growth("read, verify, fold", "lines", "s", tuple(points))


def _parse(path: Path, lines: int) -> None:
    """Parse the first lines with the standard library, and do nothing else."""
    with path.open("rb") as file:
        for _, line in zip(range(lines), file, strict=False):
            json.loads(line)
