"""What an agent that runs programs tells of one command: what changed in the tree, what the tests said, what it found.

Shared by the agent made of ordinary commands and by the adapters. Nothing here takes a program's word for a file.
"""

import os
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from lorch_actors.agents import files, running
from lorch_actors.agents.exec_config import Argv
from lorch_actors.agents.running import Ended
from lorch_actors.agents.tree import Baseline, Tree
from lorch_actors.protocol.messages import Artifact, Command
from lorch_actors.storage import atomic, disk

T = TypeVar("T")

_VARIABLE_MAX_CHARS: Final = 16_384
"""Longer values do not go into the environment, whose size the kernel bounds; the file has them whole."""

_CLAIMS_MAX_BYTES: Final = 144 * 1024
_REMOVED_MAX_BYTES: Final = 48 * 1024
"""More would not fit into one line beside what else is to be said; the rest is counted in the payload."""


def changes(workspace: Path, tree: Tree, baseline: Baseline, command: Command) -> tuple[list[Artifact], dict[str, Any]]:
    """Return the claims on what changed since the baseline, and what else is to be said about it."""
    found = tree.changes_since(baseline)
    claims = _fitting(found.artifacts, _CLAIMS_MAX_BYTES)
    removed = _fitting(found.removed, _REMOVED_MAX_BYTES)
    left_out = {
        "artifacts_left_out": len(found.artifacts) - len(claims),
        "removed_left_out": len(found.removed) - len(removed),
    }
    known = {claim.path for claim in claims}
    claims += [
        files.claim(workspace, output.path)
        for output in command.expected_outputs
        if output.path not in known and files.exists(workspace, output.path)
    ]
    said: dict[str, Any] = {"removed": removed} if removed else {}
    return claims, said | {name: count for name, count in left_out.items() if count}


def _fitting(items: list[T], limit_bytes: int) -> list[T]:
    """Return the first of these that together take no more than that in JSON."""
    ends = accumulate(len(msgspec.json.encode(item)) + 1 for item in items)
    return items[: sum(1 for _ in takewhile(lambda end: end <= limit_bytes, ends))]


def note(workspace: Path, command: Command, directory: str, findings: dict[str, Any]) -> Artifact:
    """Write what is to be changed where people look for it; return the claim on it."""
    document = {
        "task_id": command.task_id,
        "round": command.inputs.get("round"),
        "status": "changes_requested",
        **findings,
    }
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    return files.write(workspace, f"{directory}/{command.task_id}.json", data)


def tests_of(argv: Argv, ended: Ended) -> dict[str, Any]:
    """Return ``payload.tests`` for a test command that came to its end."""
    return {
        "status": "pass" if ended.is_success else "fail",
        "summary": summary(argv, ended) if ended.is_success else f"{summary(argv, ended)}\n{ended.tail}",
        "exit_code": ended.exit_code,
    }


def environment(command: Command, inputs_file: Path) -> dict[str, str]:
    """Return the environment of a program, its inputs written to the file (0600), which the next command replaces."""
    inputs = command.inputs
    disk.make_directory(inputs_file.parent)
    atomic.write_json(inputs_file, inputs)
    return {
        **os.environ,
        "LORCH_ACTION": command.action.value,
        "LORCH_TASK_ID": command.task_id,
        "LORCH_ROUND": _variable(inputs.get("round")),
        "LORCH_GOAL": _variable(inputs.get("goal")),
        "LORCH_REQUEST": _variable(inputs.get("request")),
        "LORCH_REQUESTED_BY": _variable(inputs.get("requested_by")),
        "LORCH_SNAPSHOT_ID": _variable(command.version.snapshot_id),
        "LORCH_IDEMPOTENCY_KEY": _variable(command.idempotency_key),
        "LORCH_INPUTS": str(inputs_file),
    }


def shown(argv: Argv) -> str:
    """Return a command for people: where its program lies is in the configuration."""
    import shlex

    text = shlex.join([os.path.basename(argv[0]) or argv[0], *argv[1:]])
    return running.readable(os.fsencode(text if len(text) <= 200 else text[:200] + "…"))


def summary(argv: Argv, ended: Ended) -> str:
    """Return in words how a command ended."""
    return f"{shown(argv)} {ended.verdict}"


def _variable(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:_VARIABLE_MAX_CHARS].replace("\0", "\ufffd")
