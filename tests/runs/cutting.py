"""Finished runs to be cut: scripts for them, cutting their ledger, and what has to hold after the resume."""

import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from bench import ROLES, Bench, Ended, gone_within

PASSED = {"type": "builder.completed", "status": "success", "payload": {"tests": {"status": "pass"}}}
ROUNDS = ["implement", "review", "implement_changes", "review", "implement_changes", "review", "update_spec"]
ROUNDS += ["implement_changes", "review", "update_spec"]


def write(path: str, content: str = "x\n") -> dict[str, Any]:
    """Return the step of a script that writes a file."""
    return {"type": "write", "path": path, "content": content}


def rounds_of(*task_ids: str, tracked: bool) -> dict[str, Any]:
    """Return scripts for two review rounds and one spec round of each task, chosen by round, not by what came before.

    Every step writes a file of its own, so that what it claims holds for ever. tracked: whether snapshots see them.
    """
    scripts: dict[str, Any] = {role: {"responses": {}} for role in ROLES}
    folder = "src" if tracked else "reviews"

    def add(role: str, action: str, task_id: str, round_: int, last: dict[str, Any]) -> None:
        step = write(f"{folder}/{task_id}-{action}-{round_}.txt", f"{task_id} {round_}\n")
        response = {"match": {"task": task_id, "round": round_}, "events": [step, last]}
        scripts[role]["responses"].setdefault(action, []).append(response)

    for task_id in task_ids:
        add("builder", "implement", task_id, 1, PASSED)
        for round_ in (1, 2, 3, 4):
            if round_ > 1:
                add("builder", "implement_changes", task_id, round_, PASSED)
            status = "changes_requested" if round_ < 3 else "approved"
            review = {"type": "review.completed", "status": status, "payload": {"summary": f"findings {round_}"}}
            add("reviewer", "review", task_id, round_, review)
        asks = {"type": "spec.changes_requested", "payload": {"summary": "say why"}}
        add("spec_maintainer", "update_spec", task_id, 3, asks)
        add("spec_maintainer", "update_spec", task_id, 4, {"type": "spec.updated", "payload": {}})
    return scripts


def finished(root: Path, *task_ids: str, tracked: bool, in_git: bool = False) -> Bench:
    """Return a workspace with a run of these tasks that is completed."""
    there = Bench(
        root,
        rounds_of(*task_ids, tracked=tracked),
        tasks=[{"id": task_id, "goal": f"do {task_id}"} for task_id in task_ids],
        policy={"git": "commit" if in_git else "off"},
    )
    if in_git:
        make_repository(there)
    ended = there.run()
    assert ended.code == 0, ended
    return there


def make_repository(there: Bench) -> None:
    """Make a git repository of the workspace, with everything in it committed."""
    git(there, "init", "-q", "-b", "main")
    git(there, "config", "user.name", "Tester")
    git(there, "config", "user.email", "tester@example.invalid")
    git(there, "add", "-A")
    git(there, "commit", "-q", "-m", "start")


def git(there: Bench, *arguments: str) -> str:
    """Return what git says."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *arguments], cwd=there.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout.strip()


def copy_of(there: Bench, root: Path) -> Bench:
    """Return a copy of the workspace, with all its runs."""
    shutil.copytree(there.root, root, symlinks=True)
    return there.at(root)


def ledger_file(there: Bench) -> Path:
    """Return the ledger of its only run."""
    (run_id,) = there.run_ids
    return there.root / "events" / f"{run_id}.ndjson"


def cut(there: Bench, lines: int, *, torn: bool = False) -> bytes:
    """Leave so many lines of the ledger, and half of the next one if it is to be torn; return that half."""
    path = ledger_file(there)
    content = path.read_bytes().splitlines(keepends=True)
    half = content[lines][: len(content[lines]) // 2] if torn else b""
    path.write_bytes(b"".join(content[:lines]) + half)
    return half


def forget(there: Bench, *, receipts: bool = True) -> None:
    """Remove what stands for the ledger: run state, index, checkpoint; receipts and transcripts if they are to go."""
    for name in ("run.json", "index.json", "checkpoint.cbor"):
        (there.root / "state" / name).unlink(missing_ok=True)
    if receipts:
        shutil.rmtree(there.root / "receipts")
        shutil.rmtree(there.root / "transcripts")


def digests(root: Path) -> dict[str, str]:
    """Return a checksum of every file but locks, whose text says who held them last."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def steps(there: Bench, task_id: str) -> list[int]:
    """Return the numbers of the task's receipts."""
    folder = there.root / "receipts" / task_id
    return sorted(json.loads(path.read_bytes())["step"] for path in folder.glob("step-*.json"))


def keys_of(lines: list[dict[str, Any]]) -> dict[str, str]:
    """Return the idempotency keys that were asked for, in order, each with its task and action."""
    return {
        line["idempotency_key"]: f"{line['task_id']} {line['action']}" for line in lines if line["kind"] == "command"
    }


def captured_within(lines: list[dict[str, Any]]) -> set[str]:
    """Return the tasks whose snapshot these lines hold."""
    return {line["task_id"] for line in lines if line.get("event") == "system.snapshot_captured"}


def check_resumed(there: Bench, ended: Ended, before: list[dict[str, Any]]) -> None:
    """Whatever was cut: the run is completed, as it was before, and every promise is kept."""
    assert ended.code == 0, ended
    state = there.state()
    assert state["status"] == "completed"
    assert {task["task_id"]: task["status"] for task in state["tasks"]} == {
        line["task_id"]: "completed" for line in before if line.get("event") == "system.task_declared"
    }
    assert there.findings() == []
    assert gone_within(there, 1.0) == []


class Originals:
    """One finished run of each kind, made when it is asked for first; they are copied, never changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Bench] = {}

    def __getitem__(self, kind: str) -> Bench:
        """Return the workspace with the run of that kind."""
        if kind not in self._made:
            tasks = ["T-1"] if kind in {"untracked", "tracked"} else ["T-1", "T-2"]
            root = self._root / kind.replace(" ", "-")
            self._made[kind] = finished(root, *tasks, tracked=kind != "untracked", in_git=kind == "in git")
        return self._made[kind]


def line_of(there: Bench, name: str, nth: int = 0) -> int:
    """Return the number of the nth line that is an event or a command of that name."""
    found = [line for line in there.ledger() if name in (line.get("event"), line.get("action"))]
    return int(found[nth]["ledger"]["seq"])


def resumed(original: Bench, root: Path, lines: int, *, torn: bool = False, receipts: bool = True) -> Bench:
    """Cut a copy after so many lines, remove every projection, resume, and check what has to hold after any cut."""
    there = copy_of(original, root)
    before = there.ledger()
    left = ledger_file(there).read_bytes().splitlines(keepends=True)[:lines]
    half = cut(there, lines, torn=torn)
    forget(there, receipts=receipts)
    over = any(line.get("event") == "system.run_finished" for line in before[:lines])

    ended = there.run("resume", "--run", there.run_ids[0])

    check_resumed(there, ended, before)
    now = ledger_file(there).read_bytes().splitlines(keepends=True)
    assert now[:lines] == left
    aside = list((there.root / "events").glob("*.torn-*"))
    assert [path.read_bytes() for path in aside] == ([half] if half and not over else [])
    # nobody writes into the ledger of a run that is over, so half a line behind its end stays where it is
    check_steps(there, before, [json.loads(line) for line in now if line.endswith(b"\n")], lines)
    return there


def check_steps(there: Bench, before: list[dict[str, Any]], after: list[dict[str, Any]], lines: int) -> None:
    """Every step once: with the key it had where its snapshot is left, and with another one where it is not."""
    then, now = keys_of(before), keys_of(after)
    assert list(now.values()) == list(then.values())
    captured = captured_within(before[:lines])
    kept = {key: step for key, step in then.items() if step.split()[0] in captured}
    assert {key: step for key, step in now.items() if step.split()[0] in captured} == kept
    assert Counter(there.finished_keys()) == Counter({**then, **now}.keys())
    assert there.executions() == dict.fromkeys({**then, **now}, 1)
    for task_id in {step.split()[0] for step in then.values()}:
        assert steps(there, task_id) == list(range(1, len(ROUNDS) + 1))


def check_commits(there: Bench) -> None:
    """One commit for each task, on the branch of the run, and a clean tree."""
    (run_id,) = there.run_ids
    assert git(there, "symbolic-ref", "HEAD") == f"refs/heads/lorch/{run_id}"
    assert git(there, "rev-list", "--count", f"main..lorch/{run_id}") == "2"
    assert git(there, "status", "--porcelain") == ""
