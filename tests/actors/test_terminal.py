"""At the terminal of a run: what counts as an answer, and where nobody is asked."""

import io
import os
import pty
import subprocess
import sys

import pytest

from lorch_actors.actors.terminal import Terminal, terminal_for, verdict_of


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("y", (True, "")),
        ("Yes  it is fine", (True, "it is fine")),
        ("allow", (True, "")),
        ("n", (False, "")),
        ("DENY use what is there", (False, "use what is there")),
        ("", None),
        ("yo", None),
        ("not now", None),
        ("perhaps y", None),
    ],
)
def test_only_a_clear_word_decides(line, verdict):
    """The rest of the line is the reason; anything else is no answer."""
    assert verdict_of(line) == verdict


def test_without_a_terminal_nobody_is_asked(capsys):
    """Where output is captured, or input comes from elsewhere, a question would be seen by nobody."""
    assert terminal_for(None) is None
    assert terminal_for(io.StringIO()) is None
    assert Terminal(io.StringIO()).ask("allow it?") is False
    assert capsys.readouterr().out == ""


IN_THE_BACKGROUND = """
import os, sys
from lorch_actors.actors.terminal import Terminal
os.login_tty(0)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # a group of its own, which is not the terminal's foreground group
    print(Terminal(sys.stdout).ask("?"), Terminal(sys.stdout).read(), flush=True)
    os._exit(0)
if os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]):
    print("stopped")
"""


def test_a_job_in_the_background_neither_asks_nor_reads_nor_is_stopped():
    """What is typed is the shell's; trying to take it is an error, not a stop."""
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", IN_THE_BACKGROUND], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        os.write(master, b"y\n")
        assert process.wait(30) == 0
        shown = os.read(master, 65536).replace(b"y\r\n", b"").split()
    finally:
        process.kill()
        process.wait()
        os.close(master)

    assert shown == [b"False", b"None"]
