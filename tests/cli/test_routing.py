"""The guardian and click understand every command line alike."""

import subprocess
import sys
from pathlib import Path

import pytest

from lorch_actors.cli.app import _MODULES, commands
from lorch_actors.cli.routing import COMMANDS, locate, route


@pytest.mark.parametrize(
    ("argv", "command", "filled"),
    [
        ([], "run", ["run"]),
        (["--task", "T-1"], "run", ["run", "--task", "T-1"]),
        (["--workspace", "status", "--all"], "run", ["--workspace", "status", "run", "--all"]),
        (["--config=x", "--json", "status"], "status", ["--config=x", "--json", "status"]),
        (["resume", "--run", "r"], "resume", ["resume", "--run", "r"]),
        (["--quiet"], "run", ["--quiet", "run"]),
        (["--workspace"], "run", ["run", "--workspace"]),
        (["--json", "--config"], "run", ["--json", "run", "--config"]),
        (["--help"], "", ["--help"]),
        (["nonsense"], "nonsense", ["nonsense"]),
    ],
)
def test_without_a_command_run_is_meant(argv: list[str], command: str, filled: list[str]):
    """The first word that is neither a global option nor its value is the command."""
    found = route(argv)

    assert (found.command, list(found.argv)) == (command, filled)


@pytest.mark.parametrize(
    ("argv", "orchestrated"),
    [
        (["run"], True),
        ([], True),
        (["resume", "--if-unfinished"], True),
        (["run", "--help"], False),
        (["--help"], False),
        (["status"], False),
        (["nonsense"], False),
    ],
)
def test_only_run_and_resume_go_through_the_guardian(argv: list[str], orchestrated: bool):
    """Help needs no guardian."""
    assert route(argv).orchestrated is orchestrated


def test_global_options_are_found_before_and_after_the_command():
    """The later one counts, as with click."""
    found = route(["--workspace", "a", "--no-keep-alive", "run", "--workspace=b", "--config", "c"])

    assert (found.workspace, found.config, found.keep_alive) == ("b", "c", False)


def test_every_command_is_there_and_every_module_has_it():
    """The table that `--help` is printed from names commands that exist."""
    assert set(COMMANDS) == set(_MODULES)
    assert [commands.get_command(None, name).name for name in COMMANDS] == list(COMMANDS)


def test_the_demo_goes_where_it_is_told_or_to_the_first_free_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A second demo does not stumble over the first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lorch-demo").mkdir()

    assert route(["run", "--demo", "there"]).demo == str(tmp_path / "there")
    assert route(["run", "--demo=there", "--json"]).demo == str(tmp_path / "there")
    assert route(["run", "--demo", "--json"]).demo == str(tmp_path / "lorch-demo-2")
    assert route(["run", "--all"]).demo is None


def test_the_root_is_what_the_configuration_says(tmp_path: Path):
    """`workspace_root` counts from the directory of the file, and gives way to --workspace."""
    file = tmp_path / "here" / "own.json"
    file.parent.mkdir()
    file.write_text('{"workspace_root": "../there"}')

    assert locate(None, str(file)) == (str(tmp_path / "there"), str(file))
    file.write_text('{"workspace\\u005froot": "../escaped"}')
    assert locate(None, str(file)) == (str(tmp_path / "escaped"), str(file))
    assert locate(str(tmp_path), str(file)) == (str(tmp_path), str(file))
    assert locate(str(tmp_path), None) == (str(tmp_path), str(tmp_path / "lorch.json"))


@pytest.mark.parametrize("content", ["", "[]", '{"workspace_root": 3}', '{"workspace_root": "a\\u0000b"}'])
def test_a_broken_configuration_says_nothing_about_the_root(tmp_path: Path, content: str):
    """What is wrong with it is told later, by whoever needs it."""
    file = tmp_path / "lorch.json"
    file.write_text(content)

    assert locate(None, str(file)) == (str(tmp_path), str(file))


def test_routing_loads_the_standard_library_only():
    """The guardian must stay small: it outlives everything."""
    code = "import sys, lorch_actors.cli.routing; print({'click', 'msgspec', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
