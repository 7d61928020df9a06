"""The agent's two pipes: commands in, messages out.

Out: one message is one line is one uninterrupted write; a line over 256 KiB never leaves. In: lines of any length are
read in bounded memory; what is neither a command nor an answer is reported and passed over.
"""

import os
import select
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from lorch_actors.protocol.framing import LineReader, OversizeLine
from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES, Command, Event
from lorch_actors.protocol.parse import parse_message

_CHUNK_BYTES: Final = 1 << 16


class LineTooLong(ValueError):  # noqa: N818 - it is the line that is too long
    """A message that does not fit into one line. Larger content travels as a file with a checksum."""


class OutputLost(Exception):  # noqa: N818 - not a fault of ours: nobody listens any more
    """The other end of stdout is gone, or a line was cut off by a signal: nothing sent from now on would arrive."""


class Outlet:
    """Writes lines to a descriptor that it owns, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._is_lost = False

    def send(self, message: msgspec.Struct | Mapping[str, Any]) -> bytes:
        """Send one message; return its line without the newline. Blocks while the reader is slow.

        Raises LineTooLong, OutputLost.
        """
        line = msgspec.json.encode(message)
        if len(line) > MESSAGE_MAX_BYTES:
            raise LineTooLong(f"{len(line)} bytes, the limit is {MESSAGE_MAX_BYTES}")
        self.send_bytes(line + b"\n")
        return line

    def send_bytes(self, data: bytes) -> None:
        """Write bytes as they are. Raises OutputLost."""
        with self._lock:
            if self._is_lost:
                raise OutputLost
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                self._is_lost = True
                raise OutputLost from error
            except BaseException:  # a signal stopped us in the middle of a line: another one must not follow it
                self._is_lost = True
                raise

    def is_writable(self) -> bool:
        """Tell whether a short line could be written at once."""
        if self._is_lost or self._lock.locked():
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def discard(self) -> None:
        """Close the pipe; what is sent from now on vanishes without a word."""
        with self._lock:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._fd, inheritable=False)
            os.close(nowhere)


class Intake(Struct, frozen=True):
    """Who takes what comes on stdin; any of them may block: then nothing more is read.

    deliver: takes a command. hear: takes an event, and tells whether it was an answer that somebody could expect.
    complain: takes one sentence about a line that is none of both. wait: called before every read.
    """

    deliver: Callable[[Command], None]
    hear: Callable[[Event], bool]
    complain: Callable[[str], None]
    wait: Callable[[], object]


def read_stdin(fd: int, intake: Intake) -> None:
    """Read until the end of the stream; hand over each command and each answer, and a remark on every other line."""
    reader = LineReader()
    while chunk := _read(fd, intake):
        for line in reader.feed(chunk):
            _take(line, intake)
    for line in reader.close():
        _take(line, intake)


def _read(fd: int, intake: Intake) -> bytes:
    try:
        # First wait until there is something: who is told to read no more while waiting here reads no more.
        select.select([fd], [], [])
        intake.wait()
        return os.read(fd, _CHUNK_BYTES)
    except OSError:  # a closed or broken stdin has come to its end, too
        return b""


def _take(line: bytes | OversizeLine, intake: Intake) -> None:
    if isinstance(line, OversizeLine):
        intake.complain(f"passed over a line of {line.size_bytes} bytes on stdin: the limit is {MESSAGE_MAX_BYTES}")
        return
    if not line.strip():
        return
    try:
        message, _ = parse_message(line)
    except InvalidLine as error:
        intake.complain(f"passed over a line on stdin that is no message: {error.reason}")
        return
    if isinstance(message, Command):
        intake.deliver(message)
    elif not (isinstance(message, Event) and intake.hear(message)):
        intake.complain("passed over a message on stdin that is neither a command nor an answer")
