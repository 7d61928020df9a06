"""Driving an agent over its pipes, as the orchestrator does, from a test."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WAIT_S = 20
"""Longer than anything takes on a loaded machine; nothing waits that long unless it is broken."""

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROLE_OF = {
    "implement": "builder",
    "implement_changes": "builder",
    "review": "reviewer",
    "update_spec": "spec_maintainer",
    "intake": "orchestration",
    "task_discovery": "orchestration",
}


def command(action: str = "implement", key: str = "one", **changes: Any) -> dict[str, Any]:
    """Return a command. key: the word that tells its idempotency key from others."""
    document = {
        "kind": "command",
        "message_id": f"m-{key}",
        "correlation_id": f"c-{key}",
        "task_id": "T-1",
        "idempotency_key": f"ik:{key:0>64}",
        "to": {"agent_type": ROLE_OF[action]},
        "action": action,
        "inputs": {"run_id": "run-1", "round": 1},
        "expected_outputs": [],
        "version": {"snapshot_id": "snap-0123456789ab"},
        "deadline": "2030-01-01T00:00:00.000Z",
        "retry": {"attempt": 0, "max_attempts": 3},
        "priority": 0,
    }
    return document | changes


def _is_ignored(pid: int, wanted: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (wanted - 1) & 1)


class Driven:
    """A running agent. Its lines are collected by a thread, so that it never blocks on us."""

    def __init__(self, argv: list[str], workspace: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            cwd=workspace,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.workspace = workspace
        self.lines: list[bytes] = []
        self._new: queue.Queue[bytes | None] = queue.Queue()
        self.errors = bytearray()
        self._threads = [threading.Thread(target=self._collect), threading.Thread(target=self._drain)]
        for thread in self._threads:
            thread.start()

    def _collect(self) -> None:
        for line in self.process.stdout:
            self._new.put(line)
        self._new.put(None)

    def _drain(self) -> None:
        while data := self.process.stderr.read1(65536):
            self.errors += data

    def send(self, *commands: dict[str, Any] | bytes) -> None:
        """Write commands to the agent."""
        for one in commands:
            line = one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() + b"\n"
            self.process.stdin.write(line)
        self.process.stdin.flush()

    def line(self) -> bytes | None:
        """Return the next line, None at the end of stdout."""
        line = self._new.get(timeout=WAIT_S)
        if line is not None:
            self.lines.append(line)
        return line

    def message(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Return the next message of this kind with these fields; pass over everything else."""
        while (line := self.line()) is not None:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("kind") == kind and wanted.items() <= message.items():
                    return message
        raise AssertionError(f"stdout ended without {kind} {wanted}; stderr: {self.errors.decode()}")

    def event(self, name: str | None = None) -> dict[str, Any]:
        """Return the next event (of this name)."""
        return self.message("event", **({"event": name} if name else {}))

    def ask(self, one: dict[str, Any]) -> dict[str, Any]:
        """Send a command; return the next event that is no progress."""
        self.send(one)
        while (event := self.event())["event"] in {"builder.progress", "artifact.produced"}:
            pass
        return event

    def finish(self) -> int:
        """Close stdin and wait for the end; return the exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(WAIT_S)

    def rest(self) -> list[dict[str, Any]]:
        """Return every message up to the end of stdout."""
        messages = []
        while (line := self.line()) is not None:
            with contextlib.suppress(ValueError):
                messages.append(json.loads(line))
        return messages

    def until_ignored(self, wanted: signal.Signals) -> None:
        """Return when the agent ignores this signal, which its heartbeats do not tell."""
        end = time.monotonic() + WAIT_S
        while not _is_ignored(self.process.pid, wanted):
            assert time.monotonic() < end, f"{wanted.name} is not ignored after {WAIT_S} s"
            time.sleep(0.01)

    def close(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()


@contextlib.contextmanager
def driven(argv: list[str], workspace: Path, **env: str) -> Iterator[Driven]:
    """Start an agent; end it for certain."""
    agent = Driven(argv, workspace, env)
    try:
        yield agent
    finally:
        agent.close()


def mockagent(workspace: Path, role: str, script: dict[str, Any] | Path | None = None, *flags: str):
    """Start a mockagent without heartbeats, unless a flag says otherwise."""
    argv = [sys.executable, "-m", "lorch_actors.agents", "mockagent", "--type", role]
    if isinstance(script, dict):
        path = workspace / "script.json"
        path.write_text(json.dumps(script))
        script = path
    if script is not None:
        argv += ["--script", str(script)]
    return driven([*argv, *(flags or ("--no-heartbeat",))], workspace)


def executor(workspace: Path, role: str, *flags: str):
    """Start an exec agent without heartbeats."""
    argv = [sys.executable, "-m", "lorch_actors.agents", "exec", "--type", role, "--heartbeat-interval-s", "0"]
    return driven([*argv, *flags], workspace)


def journal(workspace: Path, role: str = "builder") -> list[dict[str, Any]]:
    """Return the readable entries of a journal."""
    entries = []
    for line in (workspace / "state" / "agents" / f"{role}.journal.ndjson").read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def executions(workspace: Path, role: str = "builder") -> list[str]:
    """Return the keys that were executed, one for each time."""
    return [
        entry["key"].removeprefix("ik:").lstrip("0")
        for entry in journal(workspace, role)
        if entry["entry"] == "started"
    ]
