"""The files that start a run again after a reboot say what the command line understands."""

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorch_actors.cli import app
from lorch_actors.cli.routing import route

UNITS = Path(__file__).parents[2] / "docs" / "systemd"
UNIT = UNITS / "lorch-resume@.service"


def service():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(UNIT)
    return parser["Service"]


def resume_arguments(command):
    words = shlex.split(command.replace("%f", "/tmp"))
    return words[next(at for at, word in enumerate(words) if word.endswith("lorch")) + 1 :]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path):
    """No unknown directive, no value that is ignored."""
    instance = tmp_path / "lorch-resume@tmp.service"
    shutil.copy(UNIT, instance)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = ["systemd-analyze", "verify", "--user", str(instance)]
    verified = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_stops_the_guardian_first_and_lets_it_finish():
    """SIGTERM to the main process alone, then time enough, then the rest."""
    assert (service()["KillMode"], int(service()["TimeoutStopSec"]) >= 30) == ("mixed", True)


def test_the_unit_does_not_try_again_what_would_end_the_same():
    """Exit codes 1 to 4 wait for a person; 5 and a killed guardian do not."""
    assert service()["Restart"] == "on-failure"
    assert service()["RestartPreventExitStatus"].split() == ["1", "2", "3", "4"]


def test_the_commands_are_understood():
    """What unit and crontab call is a resume, with options that exist."""
    crontab = (UNITS / "crontab").read_text().splitlines()[-1].partition("&& ")[2]
    commands = [resume_arguments(service()["ExecStart"]), resume_arguments(crontab)]
    outcomes = [CliRunner().invoke(app.commands, [*words, "--help"]).exit_code for words in commands]

    assert [route(words).command for words in commands] == ["resume", "resume"]
    assert (outcomes, all("--if-unfinished" in words for words in commands)) == ([0, 0], True)


def test_the_cron_line_runs_in_a_plain_shell(tmp_path):
    """As cron would: sh, a home directory, hardly any environment."""
    lorch = tmp_path / ".local" / "bin" / "lorch"
    lorch.parent.mkdir(parents=True)
    lorch.write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    lorch.chmod(0o700)
    (tmp_path / "project").mkdir()
    line = (UNITS / "crontab").read_text().splitlines()[-1].partition(" ")[2]
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env={"HOME": str(tmp_path)})

    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path}/project resume --if-unfinished --quiet\n")
