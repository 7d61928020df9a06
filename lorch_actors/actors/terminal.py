"""The terminal that a run was started from, as a place where somebody can answer.

It is read only while somebody is asked, and only by the terminal's foreground job: a run in the background must not
take what is typed to the shell, nor be stopped for trying (SIGTTIN).
"""

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

_LINE_MAX_BYTES: Final = 4096  # what a terminal hands over at most, see termios(3)
_YES: Final = frozenset({"y", "yes", "a", "allow"})
_NO: Final = frozenset({"n", "no", "d", "deny"})


class Screen(Protocol):
    """Where lines for people go."""

    def write(self, *lines: str) -> None:
        """Show some lines, without waiting."""


class Terminal:
    """Asks and reads on standard input, and shows on the console of the run."""

    fd: Final = 0

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def ask(self, question: str) -> bool:
        """Show a question, if this is the terminal's foreground job; tell that. What was typed before is no answer."""
        with _unstoppable():
            try:
                is_foreground = os.tcgetpgrp(self.fd) == os.getpgrp()
                if is_foreground:
                    termios.tcflush(self.fd, termios.TCIFLUSH)
            except (OSError, termios.error):  # not our terminal, or it has hung up
                return False
        if is_foreground:
            self._screen.write(question)
        return is_foreground

    def read(self) -> str | None:
        """Return the line that was typed, None when there will be no more: in the background, or at its end."""
        with _unstoppable():
            try:
                line = os.read(self.fd, _LINE_MAX_BYTES)
            except OSError:
                return None
        return line.decode("utf-8", "replace").strip() if line else None


@contextmanager
def _unstoppable() -> Iterator[None]:
    """Have an error in place of a stop, should the job be put into the background just now."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def terminal_for(screen: Screen | None) -> Terminal | None:
    """Return the terminal where a run can ask, if it shows what it does there and can be answered there."""
    return Terminal(screen) if screen is not None and os.isatty(Terminal.fd) and sys.stdout.isatty() else None


def verdict_of(line: str) -> tuple[bool, str] | None:
    """Return what a typed line decides, and the words after it; None for what is no answer."""
    word, _, reason = line.partition(" ")
    if word.lower() in _YES:
        return True, reason.strip()
    return (False, reason.strip()) if word.lower() in _NO else None
