"""The console of a process that must not depend on it.

A console may be gone, closed, or stand still; whoever writes here goes on all the same.
"""

import mmap
import os
import select
from contextlib import suppress
from typing import Final

_NOTICE_MAX_BYTES: Final = 4000
"""Below what a pipe takes in one piece (PIPE_BUF), so that a console that has room takes it without blocking."""

_DIGEST_BYTES: Final = 32


def notice(text: str) -> None:
    """Write a remark to standard error if that takes it at once; else leave it."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    with suppress(OSError):
        if any(event & select.POLLOUT for _, event in poll.poll(0)):
            os.write(2, f"lorch: {text}\n".encode(errors="backslashreplace")[:_NOTICE_MAX_BYTES])


def fill_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, so that no file of ours takes their place and is written to as a console."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - takes no keyword
    os.close(fd)


class Tracebacks:
    """Shows the exceptions of orchestrators, each of which runs in a process of its own; a repeat in one line.

    Made before they are forked: what was shown last is remembered in memory that all of them share.
    """

    def __init__(self) -> None:
        self._shown = mmap.mmap(-1, _DIGEST_BYTES)

    def show(self) -> None:
        """Print the exception that is being handled."""
        import hashlib
        import sys
        import traceback

        digest = hashlib.sha256(traceback.format_exc().encode(errors="backslashreplace")).digest()
        with suppress(OSError, ValueError, AttributeError):
            if self._shown[:] == digest:
                kind, error, _ = sys.exc_info()
                notice(f"the same exception as before: {''.join(traceback.format_exception_only(kind, error)).strip()}")
            else:
                self._shown[:] = digest
                traceback.print_exc()


def flush() -> None:
    """Write out what Python still holds back for the console."""
    import sys

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def discard() -> None:
    """Let what is still printed vanish; else the end of the interpreter would fail on it and change the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
