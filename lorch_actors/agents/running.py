"""Running one ordinary command: its output drained always and kept in bounded memory, its whole process tree ended.

Nothing of a command survives it: when it ends, passes its time or the agent has to end, every process that it left,
in whatever session, is ended before anybody looks at what it did. For that the agent must be a child subreaper.
"""

import os
import re
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from lorch_actors import processes

if TYPE_CHECKING:
    import subprocess

TAIL_BYTES: Final = 8192
"""How much of the end of a command's output is kept for findings."""

_CHUNK_BYTES: Final = 1 << 16
_LINGER_S: Final = 0.5  # how long output is awaited after the command itself has ended
_END_S: Final = 1.5  # the orchestrator gives us two seconds
_GRACE_S: Final = 0.5
_TIMEOUT_MAX_S: Final = 2_000_000.0  # 23 days: poll(2) counts milliseconds in 32 bits
# What I-JSON does not allow in a string although UTF-8 does (RFC 7493, section 2.1).
_NONCHARACTER: Final = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)) + "]"
)


class NotStartable(Exception):  # noqa: N818 - it is the command that is wrong
    """The command cannot be executed; the message says why."""


class Ended(Struct, frozen=True):
    """How a command ended. exit_code: as the shell counts it, 128 + n for signal n; None when its time was up."""

    exit_code: int | None
    tail: str
    output_bytes: int
    duration_s: float

    @property
    def is_success(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    @property
    def verdict(self) -> str:
        """How it ended, in words."""
        if self.exit_code is None:
            return f"was ended after {self.duration_s:.0f} s: its time was up"
        return f"ended with exit code {self.exit_code}"


class Tail:
    """The end of a stream, in bounded memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self.seen_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self.seen_bytes += len(data)
        self._kept += data
        if len(self._kept) > 2 * self._limit_bytes:
            del self._kept[: -self._limit_bytes]

    def text(self) -> str:
        """Return the end of the stream, not beginning in the middle of a character."""
        kept = bytes(self._kept[-self._limit_bytes :])
        if self.seen_bytes > len(kept):
            kept = kept.lstrip(bytes(range(0x80, 0xC0)))
        return readable(kept)


def readable(data: bytes) -> str:
    """Return bytes as text that may stand in a message: what is not Unicode, or no I-JSON, becomes U+FFFD."""
    return _NONCHARACTER.sub("\ufffd", data.decode("utf-8", "replace"))


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float | None,
    hear: Callable[[bytes], None],
    tail_bytes: int = TAIL_BYTES,
    stdout_only: bool = False,
) -> Ended:
    """Run a command to its end and the end of everything it started; raise NotStartable if it cannot be executed.

    hear: called with every piece of output. timeout_s: None is without limit. stdout_only: leave stderr where it is.
    """
    began_s = time.monotonic()
    until_s = None if timeout_s is None else began_s + min(timeout_s, _TIMEOUT_MAX_S)
    child = start(argv, cwd=cwd, env=env, is_fed=False, errors="inherited" if stdout_only else "beside")
    assert child.stdout is not None
    tail = Tail(tail_bytes)
    try:
        with child.stdout as pipe:
            in_time = _drain(pipe.fileno(), child.pid, tail, hear, until_s)
        code = child.wait() if in_time else None
    finally:
        end_everything()
        child.poll()  # reaped already; this tells subprocess so
    return Ended(shell_code(code), tail.text(), tail.seen_bytes, time.monotonic() - began_s)


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    is_fed: bool,
    errors: Literal["inherited", "beside", "apart"],
) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own; raise NotStartable if it cannot be executed.

    is_fed: its stdin is a pipe. errors: its stderr is ours, comes with its stdout, or is a pipe.
    """
    import subprocess

    stderr = {"inherited": None, "beside": subprocess.STDOUT, "apart": subprocess.PIPE}[errors]
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStartable(f"{argv[0]!r} cannot be executed: {reason}") from error


def shell_code(code: int | None) -> int | None:
    """Return an exit code as a shell counts it: 128 + n for signal n."""
    return code if code is None or code >= 0 else 128 - code


def end_everything() -> list[int]:
    """End every process below this one, in whatever session it is; return the pids that would not end."""
    me = os.getpid()
    if not processes.descendants(me):
        return []
    return processes.end_all(lambda: processes.descendants(me), grace_s=_GRACE_S, deadline_s=_END_S)


def _drain(fd: int, pid: int, tail: Tail, hear: Callable[[bytes], None], until_s: float | None) -> bool:
    """Read until the output and the command have ended; return False if its time was up first.

    A process that the command left behind may hold the pipe open: it is not awaited for longer than `_LINGER_S`.
    """
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(ended, select.POLLIN)
    watched = {fd, ended}
    try:
        while watched:
            wait_ms = None if until_s is None else max(0.0, (until_s - time.monotonic()) * 1000)
            ready = {number for number, _ in poll.poll(wait_ms)}
            if fd in ready:
                data = os.read(fd, _CHUNK_BYTES)
                tail.feed(data)
                if data:
                    hear(data)
                else:
                    poll.unregister(fd)
                    watched.discard(fd)
            if ended in ready:
                poll.unregister(ended)
                watched.discard(ended)
                linger_s = time.monotonic() + _LINGER_S
                until_s = linger_s if until_s is None else min(until_s, linger_s)
            if not ready or (until_s is not None and time.monotonic() > until_s):
                return ended not in watched
        return True
    finally:
        os.close(ended)
