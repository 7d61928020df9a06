"""What the guardian reads from a command line, and what it imports to do so."""

import subprocess
import sys
from pathlib import Path

import pytest

from lorch_actors import __main__ as program
from lorch_actors import guardian
from lorch_actors.cli import app
from lorch_actors.errors import UsageError
from lorch_actors.guardian.order import Limits, read_order

CHECKOUT = Path(__file__).parents[2]


def order(*argv):
    return read_order(argv, lambda _argv, _link: 0, Limits())


def test_a_demonstration_gets_a_directory_that_every_orchestrator_means(tmp_path, monkeypatch):
    """After a restart `lorch-demo` is taken, so the name that was chosen is handed on."""
    monkeypatch.chdir(tmp_path)

    assert order("run", "--demo", "--quiet").argv == ["run", f"--demo={tmp_path}/lorch-demo", "--quiet"]
    assert order("run", "--demo", "here").argv == ["run", f"--demo={tmp_path}/here"]
    assert order("run", "--demo=there").workspace == f"{tmp_path}/there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "lorch-demo", "there"]


def test_a_demonstration_is_not_made_among_other_files(tmp_path):
    """A directory that holds anything is refused before it is touched."""
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(UsageError, match="needs a new or empty directory"):
        order("run", "--demo", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_demonstration_of_which_nothing_comes_leaves_no_directory(tmp_path, is_there):
    """A mistake in the command line is told by the orchestrator, when the directory is there already."""
    if is_there:
        (tmp_path / "demo").mkdir()
    argv = [sys.executable, "-m", "lorch_actors", "run", "--demo", "demo", "surplus"]
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)

    assert (ended.returncode, ended.stderr.splitlines()[0]) == (2, "lorch: got unexpected extra argument (surplus)")
    assert (tmp_path / "demo").exists() is is_there


def test_the_workspace_may_stand_in_the_configuration(tmp_path):
    """The lock is taken in the workspace that the orchestrator will use."""
    (tmp_path / "lorch.json").write_text('{"workspace_root": "below"}')

    assert order("resume", "--config", str(tmp_path / "lorch.json")).workspace == f"{tmp_path}/below"


def test_the_guardian_imports_the_standard_library_alone():
    """Nothing that could break with a package, or grow over the hours."""
    code = (
        "import sys; before = set(sys.modules); import lorch_actors.__main__, lorch_actors.guardian; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ended.stdout.split() == ["lorch_actors"]


@pytest.mark.parametrize("argv", [["run"], ["resume", "--run", "x"], ["--task", "T-1"], []])
def test_runs_are_put_under_guard(monkeypatch, argv):
    """`run`, `resume`, and a command line without a subcommand."""
    monkeypatch.setattr(guardian, "guard", lambda given, _orchestrate, **_: ("guarded", given))

    assert program.main(argv) == ("guarded", argv)


@pytest.mark.parametrize("argv", [["status"], ["run", "--help"], ["--help"], ["--version"], ["nonsense"]])
def test_everything_else_is_carried_out_at_once(monkeypatch, argv):
    """No lock, no second process."""
    monkeypatch.setattr(app, "main", lambda given: ("carried out", given))

    assert program.main(argv) == ("carried out", argv)


def test_the_checkout_runs_without_being_installed(tmp_path):
    """`supervisor.py` finds the package beside it, wherever it is called from."""
    ended = subprocess.run([sys.executable, CHECKOUT / "supervisor.py", "--version"], cwd=tmp_path, capture_output=True)

    assert (ended.returncode, ended.stdout.startswith(b"lorch")) == (0, True)
