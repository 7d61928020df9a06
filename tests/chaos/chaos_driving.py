"""A chaos run through its command line, and what it left."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorch_actors.chaos.tail import Tail
from lorch_actors.storage.workspace import Workspace

NOTHING_BROKE = {
    "executed_twice": 0,
    "entries_lost": 0,
    "entries_doubled": 0,
    "orphans": 0,
    "zombies": 0,
    "descriptors_leaked": 0,
    "broken": [],
}


@dataclass(frozen=True)
class After:
    """What a chaos run left: exit code, the document it printed, and the workspace."""

    code: int
    report: dict[str, Any]
    root: Path
    told: str

    def acknowledged(self) -> dict[str, dict[int, str]]:
        """Return what an outsider knows to be acknowledged, by run."""
        found = {}
        for run_id in Workspace(self.root).run_ids():
            tail = Tail(Workspace(self.root).ledger(run_id))
            tail.look(0.0)
            found[run_id] = tail.acknowledged
        return found


def chaos(root: Path, *arguments: str) -> After:
    """Run `lorch chaos` in a new workspace."""
    command = [sys.executable, "-m", "lorch_actors", "chaos", "--json", "--workspace", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return After(done.returncode, json.loads(done.stdout), root, done.stderr)


def costs(report: dict[str, Any]) -> dict[str, Any]:
    """Return what of a report has to be nothing."""
    return {name: report[name] for name in NOTHING_BROKE}
