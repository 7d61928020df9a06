"""A workspace with scripted agents, and a run in it that can be watched and hurt.

Nothing here waits by sleeping: a run is watched through what it prints, line by line.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from lorch_actors import processes
from lorch_actors.processes.watermark import watermarked
from lorch_actors.records.verify import Finding, verify_workspace
from lorch_actors.storage.workspace import Workspace

ROLES = ("builder", "reviewer", "spec_maintainer")
WORKERS = ("ledger", "run-state", "snapshotter")
DEADLINE_S = 60.0
RAW_AGENT = [sys.executable, "-S", str(Path(__file__).with_name("raw_agent.py"))]

Script = Mapping[str, Any]


class Bench:
    """A workspace below ``root``. ``scripts``: by role; an absent one gives the default answers."""

    def __init__(self, root: Path, scripts: Mapping[str, Script] | None = None, **settings: Any) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for name in ("src", "specs", "tests", "docs"):
            (root / name).mkdir(exist_ok=True)
        (root / "specs" / "goal.md").write_text("# Goal\n")
        self.settings = settings
        scripts = scripts or {}
        agents = {role: self._agent(role, scripts.get(role)) for role in ROLES}
        for role, given in settings.pop("agents", {}).items():
            agents[role] = agents[role] | given
        policy = {"git": "off", "retry": {"backoff": {"initial_ms": 1, "max_ms": 5}}} | settings.pop("policy", {})
        tasks = settings.pop("tasks", [{"id": "T-1", "goal": "make it so"}])
        document = {"version": "1.0", "policy": policy, "agents": agents, "tasks": tasks}
        (root / "lorch.json").write_text(json.dumps(document))

    def at(self, root: Path) -> "Bench":
        """Return a bench over another workspace that is there already, a copy of this one."""
        other = object.__new__(type(self))
        other.root = root
        other.settings = self.settings
        return other

    def _agent(self, role: str, script: Script | None) -> dict[str, Any]:
        cmd = [sys.executable, "-m", "lorch_actors.agents", "mockagent", "--type", role]
        if script is not None:
            path = self.root / f"{role}.script.json"
            path.write_text(json.dumps(script))
            cmd += ["--script", str(path)]
        return {"cmd": cmd, "heartbeat_interval_s": 10}

    @classmethod
    def bare(cls, root: Path) -> "Bench":
        """Return an empty workspace that nobody has set up."""
        bench = object.__new__(cls)
        bench.root, bench.settings = root, {}
        root.mkdir(parents=True)
        return bench

    @classmethod
    def raw(cls, root: Path, tasks: list[dict[str, Any]], **settings: Any) -> "Bench":
        """Return a workspace whose agents are all `raw_agent.py`; what else a task has says what they do wrong."""
        given = settings.pop("agents", {})
        agents = {role: {"cmd": RAW_AGENT} | given.get(role, {}) for role in ROLES}
        return cls(root, agents=agents, tasks=[{"goal": "make it so"} | task for task in tasks], **settings)

    def configure(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change lorch.json."""
        path = self.root / "lorch.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, umask: int = -1
    ) -> "Running":
        """Start `python -m lorch_actors` with these arguments, in the workspace or another directory."""
        return Running(self, arguments or ("run", "--all"), env or {}, cwd or self.root, umask)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> "Ended":
        """Run it to its end."""
        return self.start(*arguments, env=env).wait()

    @property
    def run_ids(self) -> list[str]:
        """The runs that have a ledger, the oldest first; of two runs of one second the ids do not tell."""

        def age(path: Path) -> tuple[str, str]:
            first = path.read_bytes().partition(b"\n")[0]
            try:
                return json.loads(first)["occurred_at"], path.stem
            except (ValueError, KeyError):
                return path.stem.removeprefix("run-"), path.stem

        return [path.stem for path in sorted((self.root / "events").glob("*.ndjson"), key=age)]

    def ledger(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Return every line of a ledger, of the newest run by default."""
        path = self.root / "events" / f"{run_id or self.run_ids[-1]}.ndjson"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def commands(self) -> list[dict[str, Any]]:
        """Return the commands of the newest run."""
        return [line for line in self.ledger() if line["kind"] == "command"]

    def told_of(self, task_id: str) -> "Told":
        """Return what the newest run's ledger says of one task."""
        return Told([line for line in self.ledger() if line.get("task_id") == task_id])

    def logged(self, role: str) -> list[dict[str, Any]]:
        """Return the lines of a role's log of the newest run."""
        path = self.root / "logs" / role / f"{self.run_ids[-1]}.ndjson"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def receipts(self, task_id: str) -> list[dict[str, Any]]:
        """Return the receipts of a task, in the order of their numbers."""
        found = (self.root / "receipts" / task_id).glob("step-*.json")
        return sorted((json.loads(path.read_bytes()) for path in found), key=lambda receipt: int(receipt["step"]))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of that name of the newest run."""
        return [line for line in self.ledger() if line.get("event") == name]

    def state(self) -> dict[str, Any]:
        """Return run.json."""
        found: dict[str, Any] = msgspec.json.decode((self.root / "state" / "run.json").read_bytes())
        return found

    def begun(self) -> set[tuple[str, str]]:
        """Return task and action of what stands in the agents' journals as begun."""
        return {
            (entry["task_id"], entry["action"])
            for path in (self.root / "state" / "agents").glob("*.journal.ndjson")
            for line in path.read_bytes().splitlines(keepends=True)
            if line.startswith(b'{"entry":"started"') and line.endswith(b"\n")
            for entry in [json.loads(line)]
        }

    def wait_begun(self, action: str, task_id: str = "T-1") -> None:
        """Wait until an agent has written into its journal that it does such a step."""
        deadline = time.monotonic() + DEADLINE_S
        while (task_id, action) not in self.begun():
            assert time.monotonic() < deadline, f"nobody began to {action}"
            threading.Event().wait(0.005)

    def index(self) -> list[dict[str, Any]]:
        """Return the rows of index.json."""
        found: dict[str, Any] = msgspec.json.decode((self.root / "state" / "index.json").read_bytes())
        return list(found["runs"])

    def findings(self) -> list[Finding]:
        """Return what `verify` finds broken."""
        return verify_workspace(Workspace(self.root))

    def executions(self) -> dict[str, int]:
        """Return how often each idempotency key was executed, as the agents' journals say."""
        counts: dict[str, int] = {}
        for path in (self.root / "state" / "agents").glob("*.journal.ndjson"):
            for line in path.read_bytes().splitlines():
                entry = json.loads(line)
                if entry["entry"] == "started":
                    counts[entry["key"]] = counts.get(entry["key"], 0) + 1
        return counts

    def finished_keys(self) -> list[str]:
        """Return the keys whose execution came to an end, in order, repeats included."""
        return [
            json.loads(line)["key"]
            for path in sorted((self.root / "state" / "agents").glob("*.journal.ndjson"))
            for line in path.read_bytes().splitlines()
            if json.loads(line)["entry"] == "finished"
        ]

    def processes(self) -> list[psutil.Process]:
        """Return every process that carries the marker of this workspace or the watermark of a run of it."""
        pids = {pid for run_id in self.run_ids for pid in watermarked(run_id)}
        pids |= processes.marked("LORCH_WORKSPACE", str(self.root))
        found = []
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found


class Told:
    """What a ledger says of one task."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.lines = lines

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the payloads of the events of that name, whoever sent them."""
        return [line.get("payload") or {} for line in self.lines if line.get("event") == name]

    @property
    def commands(self) -> list[dict[str, Any]]:
        """The commands, repeats included."""
        return [line for line in self.lines if line["kind"] == "command"]

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """The action of each attempt and its number, from 0; deliveries that cost none are not told apart."""
        keyed = [
            (command["idempotency_key"], command["action"], command["retry"]["attempt"]) for command in self.commands
        ]
        return [(action, attempt) for _, action, attempt in dict.fromkeys(keyed)]

    @property
    def losses(self) -> list[str]:
        """Why commands were sent again, by code."""
        return [note["code"] for note in self.events("system.retry_scheduled")]

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why the task failed; None if it is completed."""
        (finished,) = self.events("system.task_finished")
        assert (finished["status"] == "completed") == (finished.get("failure") is None)
        found: dict[str, Any] | None = finished.get("failure")
        return found


class Ended:
    """What a command came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


class Running:
    """A command under way."""

    def __init__(self, bench: Bench, arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path, umask: int) -> None:
        self.bench = bench
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `wait`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lorch_actors", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
            umask=umask,
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> str:
        """Read what it prints until a line matches; fail if it ends before."""
        for line in self._lines():
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without {pattern!r}: {self.wait()!r}")

    def until_begun(self, action: str, task_id: str = "T-1") -> None:
        """Read on until such a step is sent, and wait until its agent has begun to do it."""
        self.until(rf"\] {action} \(task: {task_id}")
        self.bench.wait_begun(action, task_id)

    def close(self) -> None:
        """Let go of what it printed, when nobody waits for that."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            yield self.lines[-1]

    def wait(self) -> Ended:
        """Wait for its end."""
        timer = _Alarm(self.process)
        try:
            for _ in self._lines():
                pass
            code = self.process.wait(DEADLINE_S)
        finally:
            timer.cancel()
            assert self.process.stdout is not None
            self.process.stdout.close()
        self._errors.seek(0)
        err = self._errors.read()
        self._errors.close()
        return Ended(code, "\n".join(self.lines) + "\n", err)

    def pid_of(self, name: str) -> int:
        """Return the pid of an agent, a worker, ``orchestrator`` or ``guardian``, when one is recorded and alive."""
        if name == "guardian":
            return self.process.pid
        deadline = time.monotonic() + DEADLINE_S
        while (pid := self._recorded(name)) is None or not psutil.pid_exists(pid):
            assert time.monotonic() < deadline, f"no living process of {name} is on record"
            threading.Event().wait(0.005)
        return pid

    def _recorded(self, name: str) -> int | None:
        if name == "orchestrator":
            holder = json.loads((self.bench.root / "state" / "lorch.lock").read_text())
            return int(holder["pid"])
        for line in reversed(self.bench.ledger()):
            payload = line.get("payload") or {}
            if line.get("event") == "system.agent_started" and payload["agent_type"] == name:
                return int(payload["process"]["pid"])
            if line.get("event") == "system.worker_started" and payload["actor"] == name:
                return int(payload["process"]["pid"])
        return None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one of its processes."""
        os.kill(self.pid_of(name), number)


class _Alarm:
    """Kills a process that does not come to its end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._timer = threading.Timer(DEADLINE_S, process.kill)
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()
        self._timer.join()


def gone_within(bench: Bench, seconds: float) -> list[psutil.Process]:
    """Wait until nothing of the workspace's runs is alive; return what still is after that time."""
    deadline = time.monotonic() + seconds
    alive = bench.processes()
    while alive and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=max(0.0, deadline - time.monotonic()))
        alive = bench.processes()
    return [process for process in alive if not _is_left_to_init(process)]


def _is_left_to_init(process: psutil.Process) -> bool:
    """Return whether it is dead and only waits for the machine's first process, which reaps when it gets to it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() == 1
    except psutil.NoSuchProcess:
        return True
