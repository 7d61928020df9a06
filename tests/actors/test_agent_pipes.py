"""An agent's output is read no faster than it can be kept."""

import fcntl
import os
import termios
import threading
from collections.abc import Callable, Iterator

import pytest
from actor_probes import PATIENCE_S, Probe

from lorch_actors.actors.agent_pipes import PIECE_BYTES, PIECES_MAX, Pipes
from lorch_actors.actors.runtime import Runtime

WAITS = b"x" * PIECE_BYTES


class Flood:
    """A process's output that never ends, and its reader."""

    def __init__(self, runtime: Runtime) -> None:
        self.pieces = Probe()
        self._reactor = runtime.reactor
        self.stdout, writing = os.pipe2(os.O_NONBLOCK)
        self.stderr, self._other = os.pipe2(os.O_NONBLOCK)
        os.set_blocking(writing, True)
        self._writer = threading.Thread(target=_write_on, args=(writing,))
        self._writer.start()
        self.pipes = Pipes(
            self,  # type: ignore[arg-type]
            runtime.reactor,
            "builder",
            on_stdout=self.pieces.tell,
            on_stderr=lambda: None,
        )

    def read(self, fd: int, size_bytes: int) -> bytes | None:
        """Read, as the link to an agent does."""
        try:
            return os.read(fd, size_bytes)
        except BlockingIOError:
            return None

    def rest(self) -> int:
        """Let the reactor read all it will, though the pipe is full again and again; return how much is untaken."""
        for _ in range(2 * PIECES_MAX):
            while self._waiting() < PIECE_BYTES // 2:
                os.sched_yield()
            self.between_reads(lambda: None)
        return self.pipes.untaken

    def between_reads(self, function: Callable[[], object]) -> None:
        """Call a function while the reactor does not read."""
        called = threading.Event()
        self._reactor.call_soon(lambda: (function(), called.set()))
        assert called.wait(PATIENCE_S)

    def take(self) -> None:
        """Take all that was read."""
        while self.pipes.untaken:
            self.pipes.taken(self.pieces.next())

    def close(self) -> None:
        """End it."""
        for fd in (self.stdout, self.stderr):
            self._reactor.unwatch(fd)
            os.close(fd)
        os.close(self._other)
        self._writer.join(PATIENCE_S)

    def _waiting(self) -> int:
        found = bytearray(4)
        fcntl.ioctl(self.stdout, termios.FIONREAD, found)
        return int.from_bytes(found, "little")


def _write_on(fd: int) -> None:
    try:
        while True:
            os.write(fd, WAITS)
    except BrokenPipeError:
        os.close(fd)


@pytest.fixture
def flood(runtime: Runtime) -> Iterator[Flood]:
    """Have a process that floods its output."""
    made = Flood(runtime)
    yield made
    made.close()


def test_a_flood_waits_in_the_pipe_while_nobody_takes_it(flood: Flood) -> None:
    """A few pieces are read ahead, and no more."""
    assert flood.rest() == PIECES_MAX


def test_a_flood_waits_while_too_much_is_under_way(flood: Flood) -> None:
    """However often pieces are taken: reading goes on only when it is let."""

    def let_and_hold() -> None:
        flood.pipes.regulate(held_back=False)
        flood.pipes.regulate(held_back=True)

    flood.rest()
    flood.take()
    flood.between_reads(let_and_hold)

    assert flood.rest() == 0

    flood.pipes.regulate(held_back=False)

    assert flood.rest() == PIECES_MAX
