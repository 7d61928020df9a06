"""What every command has in common: help, global options, one message for each error, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_driving import Lorch

from lorch_actors import __version__
from lorch_actors.cli import app
from lorch_actors.cli.routing import COMMANDS
from lorch_actors.errors import ExitCode


def test_help_lists_every_command(lorch: Lorch):
    """Each with what it does."""
    printed = lorch("--help")

    assert printed.code == ExitCode.DONE
    for name, does in COMMANDS.items():
        assert f"  {name}" in printed.out
        assert does in printed.out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "mockagent"])
def test_every_command_explains_itself_and_takes_the_global_options(lorch: Lorch, name: str):
    """Wherever one stands, --workspace and --json are there."""
    printed = lorch(name, "--help")

    assert printed.code == ExitCode.DONE
    assert all(option in printed.out for option in ("--workspace", "--config", "--json", "--quiet", "--verbose"))


def test_the_version_is_told(lorch: Lorch):
    """For bug reports."""
    assert __version__ in lorch("--version").out


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["statsu"], "there is no command 'statsu' (did you mean status?)"),
        (["status", "--rnu", "x"], "no such option"),
        (["config", "get"], "missing argument"),
        (["run", "--on-failure", "panic"], "invalid value for '--on-failure'"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(lorch: Lorch, argv: list[str], what: str):
    """On stderr, with what to do about it."""
    printed = lorch(*argv)

    assert printed.code == ExitCode.USAGE
    assert printed.out == ""
    assert printed.err.startswith(f"lorch: {what}")
    assert "--help` " in printed.err


def test_an_error_is_a_document_with_json(lorch: Lorch):
    """Scripts read why."""
    printed = lorch("status", "--json")

    assert printed.code == ExitCode.USAGE
    assert printed.json["error"]["kind"] == "UsageError"
    assert printed.json["error"]["exit_code"] == 2
    assert printed.err.startswith("lorch: ")


@pytest.mark.parametrize("argv", [["--workspace", "{}", "status"], ["status", "--workspace", "{}"]])
def test_global_options_stand_before_or_after_the_command(lorch: Lorch, tmp_path: Path, argv: list[str]):
    """People write both."""
    printed = lorch(*[word.format(tmp_path / "other") for word in argv])

    assert str(tmp_path / "other") in printed.err


def test_an_unexpected_exception_is_not_hidden(lorch: Lorch, monkeypatch: pytest.MonkeyPatch):
    """A bug is no user error."""
    monkeypatch.setattr(app, "_invoke", lambda argv, link: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        lorch("status")


def test_control_characters_of_an_error_take_no_effect(lorch: Lorch):
    """A name from elsewhere cannot repaint the terminal."""
    assert "\x1b" not in lorch("show", "run\x1b[2J").err


def test_a_reader_that_goes_away_is_no_error(workspace: Path):
    """`lorch … | head` ends quietly."""
    ours, theirs = os.pipe()
    os.close(ours)
    code = "import sys; from lorch_actors.cli.app import main; sys.exit(main(['config', 'show']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)

    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


MAIN = "import sys; from lorch_actors.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("words", [["config", "show"], ["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_message(workspace: Path, words: list[str]):
    """`lorch … > file` on a full disk says so, and does not pretend to be done."""
    with open("/dev/full", "w") as full:
        argv = [sys.executable, "-c", MAIN, *words]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True)

    assert done.returncode == ExitCode.INTERRUPTED
    assert done.stderr.startswith("lorch: standard output: cannot write: the disk is full\n")
    assert len(done.stderr.splitlines()) == 2


def test_an_error_whose_document_cannot_be_written_is_told_nevertheless(tmp_path: Path) -> None:
    """On stderr, with its own exit code, and the disk that is full as well."""
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "lorch_actors", "show", "--json"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert ended.returncode == 2
    assert "there are no runs in this workspace yet" in ended.stderr
    assert "standard output: cannot write: the disk is full" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("argv", "code"), [(["runs"], 0), (["status"], 2), (["status", "--json"], 2), (["run"], 2)])
def test_closed_standard_streams_change_no_exit_code(workspace: Path, argv: list[str], code: int):
    """`>&- 2>&-` of a careless script: nothing can be said, and nothing of ours is written to in their place."""
    shell = ["sh", "-c", '"$@" >&- 2>&- <&-', "sh", sys.executable, "-c", MAIN, *argv]

    assert subprocess.run(shell).returncode == code


def test_a_process_that_has_said_everything_ends_at_once():
    """What it printed is written out, its exit code counts, and no interpreter takes itself apart."""
    code = (
        "import atexit, sys; atexit.register(print, 'taken apart'); from lorch_actors.__main__ import program;"
        "sys.argv = ['lorch', 'runs', '--run', 'x'] if sys.argv[1:] else ['lorch', '--version']; program()"
    )
    told, refused = [
        subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True) for words in ([], ["x"])
    ]

    assert (told.returncode, told.stdout) == (ExitCode.DONE, f"lorch, version {__version__}\n")
    assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")


def test_help_loads_no_command():
    """Start-up time is a feature: what is not called is not loaded."""
    heavy = "{'msgspec', 'psutil', 'rich', 'pykka', 'filelock', 'cbor2', 'subprocess', 'hashlib', 'json', 'pathlib'}"
    code = f"import sys; from lorch_actors.cli.app import main; main(['--help']); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "set()"


def test_a_console_that_cannot_express_a_name_gets_it_escaped(workspace: Path):
    """An old locale must not end a command."""
    (workspace / "src").mkdir()
    code = "import sys; from lorch_actors.cli.app import main; sys.exit(main(['config', 'get', '§']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )

    assert done.returncode == ExitCode.USAGE
    assert "\\xa7" in done.stderr
