"""The workload: a git repository, scripted agents that write real files, and tasks in batches.

Each agent leaves a process behind in a session of its own, as the shells of coding agents do: it has to be gone when
its agent is. Everything that chaos itself needs lies in ``.chaos/``, which neither git nor snapshots look at.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from lorch_actors.chaos.settings import LOOP_AGENTS
from lorch_actors.errors import UsageError

LIMITS: Final[dict[str, Any]] = {
    "worker_stall_s": 1.0,
    "max_agent_restarts": 100_000,
    "max_orchestrator_deaths": 100_000,
    "supervisor": {"restarts": 100_000, "period_s": 30.0},
    "retry": {"max_attempts": 100, "backoff": {"initial_ms": 1, "max_ms": 5}},
}
"""Limits of a run as chaos widens or shortens them: dying is what agents and workers are here for."""
HEARTBEAT_S: Final = 1.0
STEP_MS: Final = 60
SOAK_STEP_MS: Final = 250
CHANGES_EVERY: Final = 5
"""In each fifth task the reviewer asks for changes once."""
GIT_TIMEOUT_S: Final = 30.0
_LINGERING: Final = 'setsid sleep 3600 </dev/null >/dev/null 2>&1 & exec "$0" "$@"'


class Workload:
    """The workspace below ``root``, which has to be new or empty. step_ms: how long an agent works on a step."""

    def __init__(self, root: Path, *, step_ms: int = STEP_MS) -> None:
        self.root = root
        self.notes = root / ".chaos"
        self._step_ms = step_ms
        self._tasks = 0
        _make_empty(root)
        for name in ("src", "specs", "tests", "docs", ".chaos"):
            (root / name).mkdir()
        (root / "specs" / "goal.md").write_text("# One file a task\n", encoding="utf-8")
        self.git = _first_commit(root)
        (root / "lorch.json").write_text(json.dumps(self._configuration(), indent=2) + "\n", encoding="utf-8")

    @property
    def tasks(self) -> int:
        """How many tasks have been handed out."""
        return self._tasks

    def batch(self, size: int) -> Path:
        """Write the next tasks and what the agents answer to them; return the file of tasks."""
        ids = [f"T-{self._tasks + at:05d}" for at in range(1, size + 1)]
        self._tasks += size
        for role, script in _scripts(ids, self._step_ms).items():
            self._script(role).write_text(json.dumps(script), encoding="utf-8")
        path = self.notes / f"tasks-{ids[0]}.ndjson"
        path.write_text("".join(json.dumps({"id": each, "goal": "a file"}) + "\n" for each in ids), encoding="utf-8")
        return path

    def _script(self, role: str) -> Path:
        return self.notes / f"{role}.script.json"

    def _configuration(self) -> dict[str, Any]:
        lingering = ["/bin/sh", "-c", _LINGERING] if shutil.which("setsid") else []
        agents = {
            role: {
                "cmd": [
                    *lingering, sys.executable, "-m", "lorch_actors.agents", "mockagent",
                    "--type", role, "--script", str(self._script(role)),
                ],
                "heartbeat_interval_s": HEARTBEAT_S,
            }
            for role in LOOP_AGENTS
        }  # fmt: skip
        policy = LIMITS | {"git": "commit" if self.git else "off"}
        return {"version": "1.0", "policy": policy, "agents": agents}


def _scripts(ids: list[str], step_ms: int) -> dict[str, Any]:
    wait = {"delay_ms": step_ms}
    passed = {"type": "builder.completed", "status": "success", "payload": {"tests": {"status": "pass"}}}
    asked = [each for each in ids if int(each[2:]) % CHANGES_EVERY == 0]
    wanting = {"type": "review.completed", "status": "changes_requested", "payload": {"issues": ["again"]}}

    def work(task_id: str, kind: str) -> dict[str, Any]:
        write = {"type": "write", "path": f"src/{task_id}.txt", "content": f"{kind} of {task_id}\n"}
        return {**wait, "match": {"task": task_id}, "events": [write, passed]}

    # a response made for a task goes before one for any
    changes = [{**wait, "match": {"task": asked, "round": 1}, "events": [wanting]}] if asked else []
    approved = {**wait, "events": [{"type": "review.completed", "status": "approved"}]}
    return {
        "builder": {
            "responses": {
                "implement": [work(each, "draft") for each in ids],
                "implement_changes": [work(each, "revision") for each in ids],
            }
        },
        "reviewer": {"responses": {"review": [*changes, approved]}},
        "spec_maintainer": {
            "responses": {"update_spec": {**wait, "events": [{"type": "spec.updated", "payload": {}}]}}
        },
    }


def _make_empty(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        is_empty = not os.listdir(root)
    except OSError as error:
        raise UsageError(f"no workspace can be made here: {error.strerror}", where=str(root)) from error
    if not is_empty:
        raise UsageError(
            "chaos makes a workspace of its own, in a new or empty directory",
            where=str(root),
            remedy="Name another --workspace, or none: then it is a temporary one.",
        )


def _first_commit(root: Path) -> bool:
    """Make a repository with one commit; return whether that worked: without a git, tasks end without commits."""
    if shutil.which("git") is None:
        return False
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    for step in (
        ("init", "--quiet", "--template=", "--initial-branch=main"),
        ("config", "user.name", "lorch chaos"),
        ("config", "user.email", "chaos@lorch.invalid"),
        ("add", "--", "specs"),
        ("commit", "--quiet", "--message", "What there was before the chaos"),
    ):
        done = subprocess.run(
            ["git", "-C", str(root), *step],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
        )
        if done.returncode != 0:
            shutil.rmtree(root / ".git", ignore_errors=True)
            return False
    info = root / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "exclude").write_text("/.chaos/\n", encoding="utf-8")
    return True
