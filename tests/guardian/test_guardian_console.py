"""Terminals that send Ctrl-C, go away, stand still or were never there."""

import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

CONTROLLED = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)
"""Makes standard input the controlling terminal, then becomes another Python program."""


def test_ctrl_c_reaches_the_orchestrator_once(under_guard):
    """The terminal sends SIGINT to both processes; passing it on would make it a second one, which means: now."""
    keyboard, terminal = os.openpty()
    prefix = [sys.executable, "-S", "-c", CONTROLLED]
    guarded = under_guard("run", prefix=prefix, stdin=terminal, without_interpreter=True)
    guarded.report()
    os.write(keyboard, b"\x03")
    heard = [guarded.report()]
    # The guardian takes signals in the order of their numbers: what it does about SIGINT is done by then.
    os.kill(guarded.pid, signal.SIGTERM)
    heard.append(guarded.report())
    guarded.order("exit 5")
    code, _ = guarded.end()
    os.close(keyboard)
    os.close(terminal)

    assert (heard, code) == ([{"signal": "SIGINT"}, {"signal": "SIGTERM"}], 5)


def test_a_terminal_that_hangs_up_ends_nothing(under_guard):
    """When the window is closed, the run goes on."""
    keyboard, terminal = os.openpty()
    prefix = [sys.executable, "-S", "-c", CONTROLLED]
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    guarded = under_guard("run", prefix=prefix, without_interpreter=True, **streams)
    first = guarded.report()
    os.close(terminal)
    os.close(keyboard)
    guarded.ask("print")
    os.kill(first["pid"], signal.SIGKILL)
    second = guarded.report()
    guarded.order("exit 0")

    assert (second["start"], guarded.process.wait()) == (1, 0)


def test_a_console_that_nobody_reads_any_more_ends_nothing(under_guard):
    """The reader of a pipe may end first."""
    reading, writing = os.pipe()
    guarded = under_guard("run", stdout=writing, stderr=writing)
    os.close(writing)
    first = guarded.report()
    os.close(reading)
    guarded.ask("print")
    os.kill(first["pid"], signal.SIGKILL)
    guarded.report()
    guarded.order("exit 1")

    assert guarded.process.wait() == 1


def test_a_console_that_stands_still_does_not_hold_the_guardian_up(under_guard):
    """A full pipe takes no remark; the restart does not wait for it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    guarded = under_guard("run", stderr=writing)
    first = guarded.report()
    os.kill(first["pid"], signal.SIGKILL)
    second = guarded.report()
    guarded.order("exit 0")
    code = guarded.process.wait()
    os.close(reading)
    os.close(writing)

    assert (second["start"], code) == (1, 0)


@pytest.mark.parametrize(("closed", "numbers"), [("<&- >&- 2>&-", [0, 1, 2]), ("2>&-", [2])])
def test_closed_standard_streams_are_no_obstacle(under_guard, closed, numbers):
    """No file of ours takes the place of a closed console, so no remark is written into it."""
    guarded = under_guard("run", prefix=["sh", "-c", f'exec "$@" {closed}', "sh"])
    first = guarded.report()
    places = [os.readlink(f"/proc/{guarded.pid}/fd/{number}") for number in numbers]
    os.kill(first["pid"], signal.SIGKILL)
    guarded.report()
    guarded.order("exit 0")

    assert (places, guarded.process.wait()) == ([os.devnull] * len(numbers), 0)


def test_an_interrupt_that_was_ignored_at_the_start_stays_ignored(under_guard):
    """A script's background job is deaf to the Ctrl-C that is meant for the foreground, and goes on."""
    guarded = under_guard("run", prefix=["sh", "-c", 'trap "" INT; exec "$@"', "sh"])
    first = guarded.report()
    os.kill(guarded.pid, signal.SIGINT)
    os.kill(first["pid"], signal.SIGINT)
    os.kill(first["pid"], signal.SIGKILL)
    second = guarded.report()
    guarded.order("exit 0")

    assert (second["start"], guarded.end()[0]) == (1, 0)


def test_the_exit_code_survives_a_console_that_is_gone(tmp_path):
    """An error that cannot be shown still ends with its code."""
    ours, theirs = socket.socketpair()
    ours.close()
    command = [sys.executable, "-m", "lorch_actors", "run", "--json", "--workspace", str(tmp_path / "absent")]
    ended = subprocess.run(command, stdout=theirs.fileno(), stderr=subprocess.PIPE)
    theirs.close()

    assert ended.returncode == 2
