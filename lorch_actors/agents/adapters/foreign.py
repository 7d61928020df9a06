"""Running a foreign CLI for one turn: fed, heard, bounded in time and memory, and ended with everything it started.

It is a child in a session of its own. Tool shells of such CLIs found sessions of their own again, so nobody is found by
group: this process is their subreaper, and ends its descendants until none is left. Only then is the turn over.
"""

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from lorch_actors.agents import running
from lorch_actors.agents.running import Tail
from lorch_actors.protocol.framing import LineReader, OversizeLine

if TYPE_CHECKING:
    import subprocess

LINE_MAX_BYTES: Final = 4 << 20
"""A longer line is no event any more: it is kept in the spool only, which has it whole."""

_CHUNK_BYTES: Final = 1 << 16
_EXIT_S: Final = 5.0
"""How long a CLI has to exit once the talk is over and its stdin closed; some never do by themselves."""
_REST_S: Final = 2.0
_WAIT_MAX_S: Final = 3600.0
"""Then it is looked anew whether time is up: poll(2) counts milliseconds in 32 bits."""
_STDERR_TAIL_BYTES: Final = 8192


class Cause(Enum):
    """Why a turn's process is over."""

    EXITED = auto()
    TIME_UP = auto()  # the deadline of the command
    SILENT = auto()  # nothing was heard for too long
    LEFT = auto()  # the talk was over and it would not go
    WAITS = auto()  # it would wait by itself


class Limits:
    """until_s: monotonic time at which it is ended. silence_s: how long it may say nothing."""

    def __init__(self, until_s: float, silence_s: float) -> None:
        self.until_s = until_s
        self.silence_s = silence_s

    def pause(self, seconds: float) -> None:
        """Give back what was no time of the CLI's: it waited for us, and we perhaps for a person."""
        self.until_s += seconds


class Ended(Struct, frozen=True):
    """How a turn's process ended. exit_code: as a shell counts it, None when we ended it. survivors: pids left."""

    cause: Cause
    exit_code: int | None
    errors: str
    oversize_lines: int
    survivors: tuple[int, ...] = ()

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it, directly or below a wrapper that passes that on."""
        return self.exit_code in {128 + signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGHUP}


class Ears(Struct, frozen=True):
    """Who hears what.

    line: takes each line of stdout, returns what is to be said to stdin. is_over, waits: asked after whatever is heard.
    stdout, stderr: take the raw bytes.
    """

    line: Callable[[bytes], bytes]
    is_over: Callable[[], bool]
    waits: Callable[[], bool]
    stdout: Callable[[bytes], None]
    stderr: Callable[[bytes], None]


def run(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], opening: bytes, is_talk: bool, ears: Ears, limits: Limits
) -> Ended:
    """Run one turn to the end of everything it started; raise NotStartable if it cannot be executed.

    opening: written to stdin first. is_talk: stdin stays open until `ears.is_over`.
    """
    child = running.start(argv, cwd=cwd, env=env, is_fed=True, errors="apart")
    survivors: list[int] = []
    talk = _Talk(child, opening, ears, limits, is_talk=is_talk)
    try:
        cause = talk.run()
        code = child.wait() if cause is Cause.EXITED else None
    finally:
        survivors = running.end_everything()
        child.poll()  # reaped already; this tells subprocess so
        talk.close()
    return Ended(cause, running.shell_code(code), talk.errors.text(), talk.oversize_lines, tuple(survivors))


class _Talk:
    """The three pipes of one child, and its pidfd, in one poll loop."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", opening: bytes, ears: Ears, limits: Limits, *, is_talk: bool
    ) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._stdin: int | None = child.stdin.fileno()
        self._stdout = child.stdout.fileno()
        self._stderr = child.stderr.fileno()
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        self._ears = ears
        self._limits = limits
        self._is_talk = is_talk
        self._unsaid = bytearray(opening)
        self._lines = LineReader(LINE_MAX_BYTES)
        self._poll = select.poll()
        self._over_s: float | None = None
        self._heard_s = time.monotonic()
        self.errors = Tail(_STDERR_TAIL_BYTES)
        self.oversize_lines = 0

    def run(self) -> Cause:
        """Talk until the child has exited, or may not go on."""
        ended = os.pidfd_open(self._child.pid)
        try:
            for fd in (ended, self._stdout, self._stderr):
                self._poll.register(fd, select.POLLIN)
            self._say(b"")
            while (cause := self._why_not()) is None:
                ready = {fd for fd, _ in self._poll.poll(self._wait_ms())}
                if ready:
                    self._serve(ready)
                if ended in ready:
                    self._read_rest()
                    return Cause.EXITED
            return cause
        finally:
            os.close(ended)

    def close(self) -> None:
        """Hear what is left in the pipes, the last unfinished line too, and close them."""
        for line in self._lines.close():
            self._hear(line)
        self._hang_up()
        for pipe in (self._child.stdout, self._child.stderr):
            assert pipe is not None
            pipe.close()

    def _why_not(self) -> Cause | None:
        now_s = time.monotonic()
        if self._ears.waits():
            return Cause.WAITS
        if now_s >= self._limits.until_s:
            return Cause.TIME_UP if self._over_s is None else Cause.LEFT
        if self._over_s is not None:
            return Cause.LEFT if now_s >= self._over_s + _EXIT_S else None
        return Cause.SILENT if now_s >= self._heard_s + self._limits.silence_s else None

    def _wait_ms(self) -> float:
        until_s = min(self._limits.until_s, self._heard_s + self._limits.silence_s)
        if self._over_s is not None:
            until_s = min(self._limits.until_s, self._over_s + _EXIT_S)
        return min(_WAIT_MAX_S, max(0.0, until_s - time.monotonic())) * 1000 + 1

    def _serve(self, ready: set[int]) -> None:
        if self._stdin in ready:
            self._say(b"")
        for fd in (self._stderr, self._stdout):
            if fd in ready and not self._read(fd):
                self._poll.unregister(fd)

    def _read(self, fd: int) -> bool:
        """Take what a pipe has; return False at its end."""
        data = _read_some(fd)
        if data is None:
            return True
        if data:
            self._heard_s = time.monotonic()
            if fd == self._stderr:
                self.errors.feed(data)
                self._ears.stderr(data)
            else:
                self._ears.stdout(data)
                for line in self._lines.feed(data):
                    self._hear(line)
        return bool(data)

    def _read_rest(self) -> None:
        """Read what the child wrote before it exited; whoever inherited the pipes is not awaited."""
        until_s = time.monotonic() + _REST_S
        for fd in (self._stderr, self._stdout):
            while time.monotonic() < until_s and _has_data(fd) and self._read(fd):
                pass

    def _hear(self, line: bytes | OversizeLine) -> None:
        if isinstance(line, OversizeLine):
            self.oversize_lines += 1
            return
        if line.strip():
            began_s = time.monotonic()
            answer = self._ears.line(line)
            self._heard_s = time.monotonic()
            self._limits.pause(self._heard_s - began_s)
            self._say(answer)
        if self._over_s is None and self._ears.is_over():
            self._over_s = time.monotonic()
            self._hang_up()

    def _say(self, data: bytes) -> None:
        """Write as much as the pipe takes now; the rest when it takes more. Who does not listen is told nothing."""
        if self._stdin is None:
            return
        self._unsaid += data
        try:
            while self._unsaid:
                del self._unsaid[: os.write(self._stdin, self._unsaid[:_CHUNK_BYTES])]
        except OSError as error:
            if error.errno == errno.EAGAIN:
                self._poll.register(self._stdin, select.POLLOUT)
            else:
                self._hang_up()
            return
        if self._is_talk:
            self._poll_no_more(self._stdin)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._stdin is not None:
            self._poll_no_more(self._stdin)
            self._stdin = None
            assert self._child.stdin is not None
            self._child.stdin.close()

    def _poll_no_more(self, fd: int) -> None:
        try:
            self._poll.unregister(fd)
        except KeyError:  # nothing was waiting to be said
            return


def _read_some(fd: int) -> bytes | None:
    try:
        return os.read(fd, _CHUNK_BYTES)
    except BlockingIOError:
        return None


def _has_data(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))
