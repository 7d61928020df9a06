"""Resuming a run with a long ledger: how long until an agent has the first command, with a checkpoint and without."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import interpreter_s, own_python, place, run
from benchmarks.workspaces import extend_ledger, interrupted_run, read_report
from lorch_actors.records.projector import Projector
from lorch_actors.records.rebuild import transcript_of
from lorch_actors.storage.transcript_file import TranscriptFile
from lorch_actors.storage.workspace import Workspace

TITLE = "resume over a long ledger with a checkpoint"


def measure(*, quick: bool) -> Iterator[Result]:
    points = []
    reference_ms = interpreter_s() * 1000
    sizes = (1_000, 100_000) if quick else (1_000, 100_000, 1_000_000)
    for lines in sizes:
        with place() as directory:
            first_s = _first_command_s(directory, lines)
        points.append((float(lines), first_s))
    yield Figure(f"first command, {lines:,} lines", first_s * 1000, "ms", "bare interpreter", reference_ms, 50.0)
    yield Growth("first command of a resumed run", "lines", "s", tuple(points))


def _first_command_s(directory: Path, lines: int) -> float:
    """Return how long it takes; the run was killed when everything it had said so far was written down."""
    workspace = Workspace(directory / "w")
    run_id = interrupted_run(workspace.root)
    extend_ledger(workspace.ledger(run_id), run_id, lines)
    projector = Projector(workspace, run_id, use_checkpoint=False)
    projector.catch_up()
    projector.checkpoint()
    transcript = TranscriptFile(workspace.transcript(run_id), workspace.transcript_mark, run_id)
    transcript.resume(workspace.ledger(run_id), 0)
    transcript.write(transcript_of(workspace, run_id))
    transcript.sync(projector.position)
    transcript.close()
    report = directory / "report"
    began_ns = time.monotonic_ns()
    spent = run(own_python("resume"), workspace.root, {"ECHO_REPORT": str(report)})
    if spent.code != 0:
        raise RuntimeError(f"the resumed run ended with exit code {spent.code}")
    _, came = read_report(report)
    return (came[0] - began_ns) / 1e9
