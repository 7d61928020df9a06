"""What a review of whole runs found wrong, each seen to stay right."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from bench import Bench


def test_tasks_too_long_for_the_first_entry(tmp_path: Path) -> None:
    """Tasks that do not fit into the ledger's first entry are run from their file."""
    there = Bench(tmp_path / "w", tasks=[{"id": f"T-{nth}", "goal": "long " * 12_000} for nth in range(3)])
    ended = there.run()

    assert ended.code == 0, ended
    assert there.events("system.run_started")[0]["payload"].get("tasks") is None
    assert [task["status"] for task in there.state()["tasks"]] == ["completed"] * 3


def test_console_that_nobody_reads(tmp_path: Path) -> None:
    """A run whose output nobody reads completes, and says so by its exit code."""
    told = [{"type": "builder.progress", "payload": {"message": "x" * 100}}] * 100
    done = {"type": "builder.completed", "payload": {"tests": {"status": "pass"}}}
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": [*told, done]}}}})
    unread, out = os.pipe()
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(
        [sys.executable, "-m", "lorch_actors", "run", "--all"],
        cwd=there.root,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
    ) as process:
        _, err = process.communicate(timeout=30)
    os.close(out)
    os.close(unread)

    assert (process.returncode, err) == (0, b"")
    assert there.state()["status"] == "completed"
    assert there.events("system.run_resumed") == []
