"""Reading what an agent writes, as fast as it can be kept: a reader that can be held back.

The reactor reads pieces and tells; the actor takes them. While too many are untaken, or the actor says that too much is
under way, standard output is not read: its pipe fills, and the agent waits. Standard error is read a piece at a time.
"""

import os
from collections.abc import Callable
from typing import Final

from lorch_actors.actors.runtime import Reactor

PIECE_BYTES: Final = 64 * 1024
PIECES_MAX: Final = 4

Take = Callable[[bytes], object]


class Pipes:
    """Standard output and error of one process. An empty piece is the end.

    on_stdout, on_stderr: get each piece in the reactor's thread, and pass it on to the actor, who then calls `taken`
    or `stderr_taken`.
    """

    def __init__(
        self, stdout: int, stderr: int, reactor: Reactor, owner: str, *, on_stdout: Take, on_stderr: Take
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._reactor = reactor
        self._on_stdout = on_stdout
        self._on_stderr = on_stderr
        self._read = 0  # counted by the reactor's thread only
        self._taken = 0  # counted by the actor's only
        self.ended = False
        reactor.watch_read(stdout, self._read_stdout, owner)
        reactor.watch_read(stderr, self._read_stderr, owner)

    @property
    def untaken(self) -> int:
        """How many pieces of standard output have been read and not taken yet."""
        return self._read - self._taken

    def taken(self, piece: bytes) -> None:
        """Say that a piece of standard output has been handled."""
        self._taken += 1
        if not piece:
            self.ended = True
            self._reactor.unwatch(self._stdout)

    def stderr_taken(self, piece: bytes) -> None:
        """Say that a piece of standard error has been handled."""
        if piece:
            self._reactor.resume_read(self._stderr)
        else:
            self._reactor.unwatch(self._stderr)

    def regulate(self, *, held_back: bool) -> None:
        """Read on, unless too much is under way already."""
        if self.ended:
            return
        if held_back or self.untaken >= PIECES_MAX:
            self._reactor.pause_read(self._stdout)
        else:
            self._reactor.resume_read(self._stdout)

    def _read_stdout(self) -> None:
        piece = _read(self._stdout)
        if piece is None:
            return
        self._read += 1
        if not piece or self.untaken >= PIECES_MAX:
            self._reactor.pause_read(self._stdout)
        self._on_stdout(piece)

    def _read_stderr(self) -> None:
        piece = _read(self._stderr)
        if piece is None:
            return
        self._reactor.pause_read(self._stderr)
        self._on_stderr(piece)


def _read(fd: int) -> bytes | None:
    """Return what is there, nothing at the end, None if there is nothing yet."""
    try:
        return os.read(fd, PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
