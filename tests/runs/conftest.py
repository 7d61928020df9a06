"""What holds for every test that runs the program: it leaves no process behind, whether it passes or not."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorch_actors import processes
from lorch_actors.processes import proc
from lorch_actors.processes.watermark import watermarked

GRACE_S = 2.0
"""What was killed at the end of a test may still be going: a second is promised, a busy machine takes longer."""


def left_below(directory: Path) -> dict[int, str]:
    """Return who works there, for a workspace there or for a run there: pid and command line."""
    here, found = os.fsencode(directory), {}
    run_ids = [path.stem for path in directory.glob("**/events/*.ndjson")]
    of_runs = {pid for run_id in run_ids for pid in watermarked(run_id)}
    for pid in proc.pids():
        marked = b"LORCH_WORKSPACE=" + here in (proc.read(f"/proc/{pid}/environ") or b"")
        if marked or pid in of_runs or _directory_of(pid).startswith(here + b"/"):
            command = proc.read(f"/proc/{pid}/cmdline") or b""
            if command:  # else a zombie: it has ended
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def _directory_of(pid: int) -> bytes:
    try:
        return os.readlink(f"/proc/{pid}/cwd".encode())
    except OSError:
        return b""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """End what a test has left running, and fail it: else a run that hangs would go on for ever, in a deleted place."""
    yield
    deadline = time.monotonic() + GRACE_S
    while (left := left_below(tmp_path)) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    processes.end_all(lambda: left_below(tmp_path), deadline_s=10.0)
    assert left == {}
