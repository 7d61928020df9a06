"""A command line that is called in this process, in a workspace of its own."""

import json
from pathlib import Path

import pytest
from cli_driving import Lorch, Outcome

from lorch_actors.cli.app import main


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty directory, which is also where the user stands."""
    root = tmp_path / "workspace"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def lorch(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Lorch:
    """Call a command line in the workspace."""

    def call(*argv: str) -> Outcome:
        code = main(argv)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture
def configured(workspace: Path) -> Path:
    """Write a lorch.json with agents and two tasks; return it."""
    file = workspace / "lorch.json"
    agents = {role: {"cmd": ["true"]} for role in ("builder", "reviewer", "spec_maintainer")}
    tasks = [{"id": "T-1", "goal": "one", "title": "First"}, {"id": "T-2", "goal": "two"}]
    file.write_text(json.dumps({"agents": agents, "tasks": tasks}))
    return file
