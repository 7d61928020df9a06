"""One short chaos run for all tests of this room: they look at what it left, or spoil copies of it."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorch_actors.chaos.tail import Tail
from lorch_actors.storage.workspace import Workspace


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


@pytest.fixture(scope="session")
def after_chaos(tmp_path_factory: pytest.TempPathFactory) -> After:
    """Strike twelve times at everybody."""
    root = tmp_path_factory.mktemp("chaos") / "workspace"
    return chaos(root, "--kills", "12", "--seed", "4", "--signals", "KILL")


@pytest.fixture
def spoilt(after_chaos: After, tmp_path: Path) -> After:
    """Return a copy of what the run left, to be spoilt."""
    root = tmp_path / "workspace"
    shutil.copytree(after_chaos.root, root, symlinks=True)
    return After(after_chaos.code, after_chaos.report, root, after_chaos.told)
