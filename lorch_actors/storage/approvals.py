"""What people say to requests for leave, on its way from their terminal to the run: a file each, below state/approvals.

Whoever answers first has answered: the file appears whole and at once under its name, or not at all because there is
one already. It stays until the answer is in the ledger, so it does not matter whether anybody is running.
"""

import ctypes
import os
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import write_first

ANSWER_MAX_BYTES: Final = 64 * 1024

_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_NONBLOCK: Final = 0x800
_IN_CLOEXEC: Final = 0x80000
_EVENTS_BYTES: Final = 64 * 1024


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody said. at: RFC 3339."""

    run_id: str
    approval_id: str
    decision: Literal["allow", "deny"]
    reason: str
    at: str


def give(path: Path, answer: Answer) -> bool:
    """Leave the answer, durably; tell whether it is the first one. Raises StorageError."""
    return write_first(path, msgspec.json.encode(answer) + b"\n")


def read(path: Path) -> Answer | None:
    """Return the answer in a file, None if there is none or it is none."""
    try:
        return msgspec.json.decode(disk.read_file(path, ANSWER_MAX_BYTES) or b"", type=Answer)
    except (StorageError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove_all(directory: Path, run_id: str) -> None:
    """Remove the answers that nobody of that run will ask for any more. Raises StorageError."""
    for name in disk.names_in(directory):
        answer = read(directory / name) if name.endswith(".json") else None
        if answer is not None and answer.run_id == run_id:
            disk.unlink(directory / name)


class Arrivals:
    """A descriptor that can be read when a name has appeared in a directory: inotify(7), which Python has no call for.

    Raises StorageError when the kernel has no watch left for this user, or the directory is gone.
    """

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self.fd < 0:
            raise _unwatchable(directory, ctypes.get_errno())
        if libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(_IN_CREATE | _IN_MOVED_TO)) < 0:
            number = ctypes.get_errno()
            os.close(self.fd)
            raise _unwatchable(directory, number)

    def drain(self) -> None:
        """Forget what has arrived so far."""
        try:
            os.read(self.fd, _EVENTS_BYTES)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.fd)


def _unwatchable(directory: Path, number: int) -> StorageError:
    return StorageError(
        f"cannot watch for answers: {os.strerror(number)}",
        where=str(directory),
        remedy="Raise fs.inotify.max_user_instances and max_user_watches (sysctl), then `lorch resume`.",
    )
