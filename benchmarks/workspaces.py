"""Workspaces to run in, with agents that answer at once, and ledgers of any length."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import own_python
from lorch_actors.storage.ledger import read_lines
from lorch_actors.storage.ledger_format import Position, seal

ROLES: Final = ("builder", "reviewer", "spec_maintainer")
ECHO: Final = [sys.executable, "-S", "-E", str(Path(__file__).with_name("echo_agent.py"))]


def make_workspace(root: Path, tasks: int, *, heartbeat_interval_s: float = 10, **policy: Any) -> Path:
    """Make a workspace with that many tasks; return its root."""
    for name in ("src", "specs", "tests", "docs"):
        (root / name).mkdir(parents=True)
    (root / "specs" / "goal.md").write_text("# Goal\n")
    document = {
        "version": "1.0",
        "policy": {"git": "off", **policy},
        "agents": {role: {"cmd": ECHO, "heartbeat_interval_s": heartbeat_interval_s} for role in ROLES},
        "tasks": [{"id": f"T-{number}", "goal": "make it so"} for number in range(1, tasks + 1)],
    }
    (root / "lorch.json").write_text(json.dumps(document))
    return root


def read_report(path: Path) -> tuple[float, list[int]]:
    """Return the CPU seconds of the agents in all, and when commands came, in order."""
    cpu_s = 0.0
    came: list[int] = []
    for line in path.read_text().splitlines():
        seconds, *times = line.split()
        cpu_s += float(seconds)
        came += map(int, times)
    return cpu_s, sorted(came)


def fill_files(root: Path, files: int, size_bytes: int) -> None:
    """Write that many files below ``src``, a hundred in a directory, each with other content."""
    for number in range(files):
        directory = root / "src" / f"d{number // 100:04d}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        content = (b"%d %d\n" % (number, size_bytes)) * (size_bytes // 8 + 1)
        (directory / f"f{number:06d}.txt").write_bytes(content[:size_bytes])


def interrupted_run(root: Path) -> str:
    """Begin a run whose builder never answers, kill it, and return its id; the workspace is made at ``root``."""
    make_workspace(root, tasks=1)
    process = subprocess.Popen(
        own_python("run", "--all", "--quiet"),
        cwd=root,
        env={**os.environ, "ECHO_REVIEW": "silent"},
        start_new_session=True,
    )
    while not (
        found := [path for path in (root / "events").glob("*.ndjson") if b'"kind":"command"' in path.read_bytes()]
    ):
        if process.poll() is not None:
            raise RuntimeError("the run ended by itself")
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return found[0].stem


def has_command(ledger: Path) -> bool:
    """Say whether an agent has been given something to do."""
    return b'"kind":"command"' in ledger.read_bytes()


def extend_ledger(path: Path, run_id: str, lines: int) -> Position:
    """Have the builder of an interrupted run say so much that its ledger has this many lines; return its end."""
    seen = list(read_lines(path, run_id))
    end = seen[-1].end()
    command = next(line for line in map(json.loads, (line.message_json for line in seen)) if line["kind"] == "command")
    template = {
        "kind": "event",
        "message_id": "b-",
        "correlation_id": command["correlation_id"],
        "task_id": command["task_id"],
        "from": {"agent_type": "builder", "agent_id": command["to"]["agent_id"]},
        "event": "builder.progress",
        "payload": {"text": 200 * "x"},
        "occurred_at": "2026-01-01T00:00:00.000Z",
    }
    before, after = json.dumps(template, separators=(",", ":")).encode().split(b'"b-"')
    with path.open("r+b", buffering=1 << 20) as file:
        file.truncate(end.offset)
        file.seek(end.offset)
        seq, chain, offset = end.seq, end.chain, end.offset
        while seq < lines:
            seq += 1
            line, chain = seal(b'%b"b-%d"%b' % (before, seq, after), seq, seq - 1, chain)
            file.write(line + b"\n")
            offset += len(line) + 1
    return Position(seq, chain, offset)
