"""The demo is a real project whose agents really work; each is called here by itself."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lorch_actors.demo import PROJECT, TASKS, configuration, prepare_demo
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.configuration import parse_configuration

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a demo, not to be changed."""
    directory = tmp_path_factory.mktemp("demo") / "project"
    prepare_demo(directory)
    return directory


@pytest.fixture
def demo(pristine: Path, tmp_path: Path) -> Path:
    """Make a demo to work in."""
    return Path(shutil.copytree(pristine, tmp_path / "demo"))


def tool(demo: Path, name: str, function: str, action: str = "implement") -> subprocess.CompletedProcess[str]:
    """Call one of the demo's scripts as an exec agent does."""
    inputs = demo.parent / "inputs.json"
    inputs.write_text(json.dumps({"function": function}))
    env = {
        **os.environ,
        "LORCH_INPUTS": str(inputs),
        "LORCH_ACTION": action,
        "LORCH_REQUEST": "why",
        "LORCH_REQUESTED_BY": "who",
    }
    return subprocess.run([sys.executable, "-B", f"tools/{name}.py"], cwd=demo, env=env, capture_output=True, text=True)


def all_tests(demo: Path) -> int:
    """Run every test of the project; return the exit code."""
    argv = [sys.executable, "-B", "-m", "unittest", "discover", "-s", "tests", "-t", "."]
    return subprocess.run(argv, cwd=demo, capture_output=True).returncode


def git(demo: Path, *argv: str) -> str:
    """Ask the demo's repository."""
    return subprocess.run(["git", "-C", str(demo), *argv], capture_output=True, text=True, check=True).stdout


def test_the_configuration_is_valid_and_has_three_tasks(pristine: Path):
    """Without errors or warnings, for its owner only."""
    found, warnings = parse_configuration((pristine / "lorch.json").read_bytes(), "lorch.json")

    assert warnings == []
    assert [task.id for task in found.tasks] == [task["id"] for task in TASKS]
    assert found.missing_agents() == []
    assert stat.S_IMODE((pristine / "lorch.json").stat().st_mode) == 0o600


@needs_git
def test_it_is_a_repository_with_one_commit_and_nothing_else_to_commit(pristine: Path):
    """Whatever identity, hooks or signing the user's git has."""
    assert git(pristine, "log", "--format=%an %s") == "lorch demo A small library, three functions short\n"
    assert git(pristine, "status", "--porcelain") == "?? lorch.json\n"


@needs_git
def test_the_users_git_set_up_does_not_get_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hook that refuses and a signing key that is not there are theirs, not the demo's."""
    (tmp_path / "hooks").mkdir()
    hook = tmp_path / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n\thooksPath = {hook.parent}\n[commit]\n\tgpgsign = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    prepare_demo(tmp_path / "demo")
    monkeypatch.delenv("GIT_DIR")

    assert len(git(tmp_path / "demo", "log", "--format=%H").splitlines()) == 1


def test_without_git_the_demo_is_there_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It only ends without commits."""
    monkeypatch.setenv("PATH", str(tmp_path))
    prepare_demo(tmp_path / "demo")

    assert (tmp_path / "demo" / "lorch.json").exists()
    assert not (tmp_path / "demo" / ".git").exists()


def test_a_directory_that_holds_anything_is_refused(tmp_path: Path):
    """Nobody's files are mixed with a demo."""
    (tmp_path / "mine.txt").write_text("")

    with pytest.raises(ConfigError, match=r"mine\.txt"):
        prepare_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_guardians_lock_does_not_count(tmp_path: Path):
    """It is taken before there is a project."""
    (tmp_path / "state").mkdir()
    prepare_demo(tmp_path)

    assert (tmp_path / "src" / "textkit.py").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_one_clear_message(tmp_path: Path):
    """With its path."""
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare_demo(tmp_path / "demo")
    tmp_path.chmod(0o700)


def test_a_file_in_the_way_is_one_clear_message(tmp_path: Path):
    """With its path."""
    (tmp_path / "demo").write_text("")

    with pytest.raises(ConfigError, match="cannot be written") as caught:
        prepare_demo(tmp_path / "demo")
    assert caught.value.where == str(tmp_path / "demo")


def test_the_tests_fail_before(pristine: Path):
    """Three functions are not there."""
    assert all_tests(pristine) != 0


def test_the_agents_together_make_the_tests_pass(demo: Path):
    """As a run would call them, the second task with its round of changes."""
    verdicts = []
    for task in TASKS:
        function = task["function"]
        tool(demo, "build", function)
        verdicts.append((tool(demo, "check", function).returncode, tool(demo, "review", function).returncode))
        if verdicts[-1][1]:
            tool(demo, "build", function, "implement_changes")
            verdicts.append((tool(demo, "check", function).returncode, tool(demo, "review", function).returncode))
        assert tool(demo, "maintain", function).returncode == 0

    assert verdicts == [(0, 0), (0, 1), (0, 0), (0, 0)]
    assert all_tests(demo) == 0
    assert "| open |" not in (demo / "specs" / "textkit.md").read_text()
    assert all(f"`{task['function']}`" in (demo / "docs" / "reference.md").read_text() for task in TASKS)


def test_building_twice_changes_nothing_more(demo: Path):
    """An agent that is killed and asked again must not double its work."""
    tool(demo, "build", "slug")
    once = (demo / "src" / "textkit.py").read_text()
    tool(demo, "build", "slug")

    assert (demo / "src" / "textkit.py").read_text() == once


def test_the_reviewer_names_line_and_rule(demo: Path):
    """Its check is real: it reads the source."""
    tool(demo, "build", "excerpt")
    found = tool(demo, "review", "excerpt")

    assert found.stdout.splitlines() == [
        "src/textkit.py:11: excerpt has no docstring",
        "src/textkit.py:16: a library does not print",
        "2 findings",
    ]


def test_the_tests_of_a_task_fail_while_it_is_not_built(demo: Path):
    """They are its own and those of what is done."""
    assert tool(demo, "check", "slug").returncode == 1


def test_the_spec_maintainer_asks_for_changes_when_the_function_is_not_there(demo: Path):
    """It ticks nothing that it cannot see."""
    found = tool(demo, "maintain", "slug")

    assert found.returncode == 1
    assert "has no function slug" in found.stdout
    assert "| slug | T-1 | open |" in (demo / "specs" / "textkit.md").read_text()


def test_the_builder_says_who_asked_for_changes(demo: Path):
    """What was asked reaches the agent."""
    assert "asked by the who: why" in tool(demo, "build", "excerpt", "implement_changes").stdout


def test_every_command_of_the_agents_is_there():
    """The configuration names scripts that the project has."""
    words = " ".join(word for agent in configuration()["agents"].values() for word in agent.get("cmd", []))

    assert all(f"tools/{name}.py" in words for name in ("build", "check", "review", "maintain"))
    assert {path.stem for path in (PROJECT / "tools").glob("*.py")} == {"build", "check", "review", "maintain", "task"}
