"""Reading what an agent writes, as fast as it can be kept: a reader that can be held back.

The reactor reads pieces and tells; the actor takes them. While too many are untaken, or the actor says that too much is
under way, standard output is not read: its pipe fills, and the agent waits. Standard error is read by the actor itself,
a piece at a time, so that at the end nothing of it is on its way.
"""

from collections.abc import Callable, Iterator
from typing import Final

from lorch_actors.actors.agent_link import AgentLink
from lorch_actors.actors.reactor import Reactor

PIECE_BYTES: Final = 64 * 1024
PIECES_MAX: Final = 4
LAST_PIECES_MAX: Final = 64
"""How much of standard error is read after the end, in pieces: four times what a pipe can hold."""


class Pipes:
    """Standard output and error of one process. An empty piece is the end.

    on_stdout: gets each piece in the reactor's thread, and passes it on to the actor, who then calls `taken`.
    on_stderr: called there when there is something to read, for the actor to call `read_stderr`.
    """

    def __init__(
        self,
        process: AgentLink,
        reactor: Reactor,
        owner: str,
        *,
        on_stdout: Callable[[bytes], object],
        on_stderr: Callable[[], object],
    ) -> None:
        self._process = process
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._reactor = reactor
        self._on_stdout = on_stdout
        self._on_stderr = on_stderr
        self._read = 0  # counted by the reactor's thread only
        self._taken = 0  # counted by the actor's only
        self.ended = False
        reactor.watch_read(self._stdout, self._read_stdout, owner)
        reactor.watch_read(self._stderr, self._tell_of_stderr, owner)

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

    def read_stderr(self) -> bytes | None:
        """Return what is there of standard error, nothing at its end, None if there is nothing yet."""
        piece = self._process.read(self._stderr, PIECE_BYTES)
        if piece == b"":
            self._reactor.unwatch(self._stderr)
        else:
            self._reactor.resume_read(self._stderr)
        return piece

    def last_of_stderr(self) -> Iterator[bytes]:
        """Yield what is left of standard error; nothing more will come."""
        self._reactor.unwatch(self._stderr)
        for _ in range(LAST_PIECES_MAX):
            piece = self._process.read(self._stderr, PIECE_BYTES)
            if not piece:
                return
            yield piece

    def regulate(self, *, held_back: bool) -> None:
        """Read on, unless too much is under way already."""
        if self.ended:
            return
        if held_back or self.untaken >= PIECES_MAX:
            self._reactor.pause_read(self._stdout)
        else:
            self._reactor.resume_read(self._stdout)

    def _read_stdout(self) -> None:
        piece = self._process.read(self._stdout, PIECE_BYTES)
        if piece is None:
            return
        self._read += 1
        if not piece or self.untaken >= PIECES_MAX:
            self._reactor.pause_read(self._stdout)
        self._on_stdout(piece)

    def _tell_of_stderr(self) -> None:
        self._reactor.pause_read(self._stderr)  # until it has been read
        self._on_stderr()
