"""`init` with agent CLIs: it finds what is installed and what is there, and says what it chose."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_driving import Lorch

from lorch_actors.cli.init_clis import likely_tests
from lorch_actors.errors import ExitCode


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the only directory that programs are looked for in."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def installed(programs: Path, *names: str) -> None:
    for name in names:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)


def written(workspace: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace / "lorch.json").read_text())
    return document


def test_init_uses_the_cli_that_is_installed(lorch: Lorch, workspace: Path, programs: Path):
    """For all roles, with time enough for a model; the file is valid."""
    installed(programs, "codex")
    printed = lorch("init", "--tests", "make test", "--json")
    agents = written(workspace)["agents"]

    assert (printed.code, printed.json["agents"]) == (ExitCode.DONE, "codex")
    assert agents["builder"]["cmd"][1:] == [
        *("-m", "lorch_actors.agents", "codex", "--type", "builder"),
        *("--tests", "make test"),
    ]
    assert agents["reviewer"]["cmd"][-3:] == ["codex", "--type", "reviewer"]
    assert agents["builder"]["timeouts_s"]["implement"] == 3600
    assert lorch("validate", "--strict").code == ExitCode.DONE


def test_init_chooses_the_first_and_tells_of_the_others(lorch: Lorch, workspace: Path, programs: Path):
    """Unless one is named."""
    installed(programs, "opencode", "claude")
    said = lorch("init").out
    lorch("init", "--force", "--agent", "opencode")

    assert "claude builds, reviews and keeps the specification below" in said
    assert "Also found: opencode (choose with --agent)." in said
    assert "Nothing checks the work of: tests" in said
    assert written(workspace)["agents"]["reviewer"]["cmd"][3] == "opencode"


def test_init_uses_an_acp_agent_that_is_named(lorch: Lorch, workspace: Path, programs: Path):
    """Its command stands after `--`, word by word; nothing else may be given for the work beside it."""
    printed = lorch("init", "--acp", "gemini --acp -m 'a b'", "--tests", "make test", "--json")
    cmd = written(workspace)["agents"]["builder"]["cmd"]

    assert (printed.code, printed.json["agents"]) == (ExitCode.DONE, "acp")
    assert cmd[3:] == [
        *("acp", "--type", "builder", "--tests", "make test"),
        *("--", "gemini", "--acp", "-m", "a b"),
    ]
    assert lorch("validate", "--strict").code == ExitCode.DONE
    for wrong in (("--agent", "codex"), ("--build", "make"), ("--mock",)):
        assert lorch("init", "--force", "--acp", "gemini --acp", *wrong).code == ExitCode.USAGE


def test_init_without_any_cli_says_what_it_looked_for(lorch: Lorch, workspace: Path, programs: Path):
    """And writes nothing."""
    printed = lorch("init")

    assert (printed.code, (workspace / "lorch.json").exists()) == (ExitCode.USAGE, False)
    assert "none of claude, codex, gemini, opencode is on the PATH" in printed.err


def test_init_leaves_commands_of_your_own_alone(lorch: Lorch, workspace: Path, programs: Path):
    """Whoever gives a command does not get a CLI beside it."""
    installed(programs, "claude")

    assert lorch("init", "--build", "make", "--json").json["agents"] == "exec"
    assert lorch("init", "--force", "--agent", "claude", "--build", "make").code == ExitCode.USAGE


def test_init_tracks_the_directories_that_are_there(lorch: Lorch, workspace: Path, programs: Path):
    """Snapshots and agents alike; not what is hidden, installed or ours."""
    installed(programs, "claude")
    for name in ("app", ".git", "node_modules", "state", "src"):
        (workspace / name).mkdir()
    lorch("init")
    document = written(workspace)
    cmd = document["agents"]["builder"]["cmd"]

    assert document["snapshot"]["include"] == ["specs", "src", "tests", "docs", "app"]
    assert [cmd[at + 1] for at, word in enumerate(cmd) if word == "--include"] == document["snapshot"]["include"]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("Makefile", "all:\n\ntest: all\n\tx\n", "make test"),
        ("Makefile", "testing:\n", None),
        ("package.json", '{"scripts": {"test": "vitest"}}', "npm test"),
        ("package.json", '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}', None),
        ("Cargo.toml", "", "cargo test"),
        ("go.mod", "", "go test ./..."),
        ("pyproject.toml", "", "python -m pytest"),
        ("README.md", "", None),
    ],
)
def test_the_command_that_runs_the_tests_is_found(tmp_path: Path, file: str, content: str, expected: str | None):
    """Where the project says how; what npm writes by itself is no test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / file).write_text(content)

    assert likely_tests(tmp_path) == expected
