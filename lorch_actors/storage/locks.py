"""Locks that the kernel takes back when their holder dies (SPEC §6.5).

flock on a file beside what it protects. The file stays where it is: removing it would let two processes hold two files
of one name. It says who holds it, for people; only the kernel's lock counts, so a stale file is no obstacle, whatever
is in it. Descriptors are not inherited: a child that outlives the holder does not keep the lock.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from lorch_actors.errors import LockedError, StorageError
from lorch_actors.storage import disk

if TYPE_CHECKING:
    from filelock import BaseFileLock

_GRACE_S: Final = 0.1
"""A refused attempt is repeated this long: `is_held` takes the lock for an instant, which must not turn anyone away."""

_POLL_S: Final = 0.01
_HOLDER_MAX_BYTES: Final = 64 * 1024


class Lock:
    """A lock that is held until `release`, the end of the ``with`` block, or the end of the process."""

    def __init__(self, path: Path, inner: "BaseFileLock") -> None:
        self.path = path
        self._inner = inner

    def release(self) -> None:
        """Let go. A second call does nothing."""
        self._inner.release(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(path: Path, holder: Mapping[str, Any] | None = None, *, wait_s: float = 0.0) -> Lock:
    """Take the lock and write into its file who holds it (see `this_process`).

    wait_s: how long to wait for a holder that was killed a moment ago; without it, the answer comes at once. Raises
    LockedError, naming the holder if the file does; StorageError if the file cannot be opened or written.
    """
    from filelock import FileLock, Timeout  # 25 ms of import that only those who lock have to pay

    def introduce(fd: int) -> None:
        disk.truncate(fd, 0)
        if holder is not None:
            disk.write(fd, msgspec.json.format(msgspec.json.encode(holder), indent=2) + b"\n")

    disk.make_directory(path.parent)  # before filelock does it, with modes that are not ours
    inner = FileLock(
        path,
        mode=disk.FILE_MODE,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=introduce,
    )
    try:
        inner.acquire(timeout=max(wait_s, _GRACE_S), poll_interval=_POLL_S)
    except Timeout:
        raise _locked(path) from None
    except OSError as error:
        raise disk.storage_error("lock", os.fsdecode(path), error) from error
    return Lock(path, inner)


def this_process(run_id: str, started_at: str) -> dict[str, Any]:
    """Return what a lock file says of its holder; ``started_at`` is the timestamp of this process's start."""
    import shlex
    import socket
    import sys

    return {
        "pid": os.getpid(),
        "started_at": started_at,
        "run_id": run_id,
        "host": socket.gethostname(),
        "command": shlex.join(sys.orig_argv),
    }


def holder_of(path: Path) -> dict[str, Any] | None:
    """Return what the lock file says of its holder, held or not; None if it is absent or says nothing readable."""
    try:
        content = disk.read_file(path, _HOLDER_MAX_BYTES)
        holder = msgspec.json.decode(content or b"null")
    except (StorageError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return holder if isinstance(holder, dict) else None


def is_held(path: Path) -> bool:
    """Say whether some process holds the lock now. Raises StorageError if the file cannot be read."""
    if not path.exists():
        return False
    fd = disk.open_read(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _locked(path: Path) -> LockedError:
    holder = holder_of(path)
    if holder is None:
        return LockedError("another process holds the lock", where=str(path), remedy="Wait for it to end, or end it.")
    parts = [
        f"{words} {_printable(holder[key])}"
        for key, words in (
            ("pid", "by process"),
            ("host", "on"),
            ("started_at", "since"),
            ("run_id", "with"),
            ("command", "as"),
        )
        if holder.get(key)
    ]
    return LockedError(
        f"held {', '.join(parts) or 'by another process'}",
        where=str(path),
        remedy="Wait for it to end, or stop it with SIGTERM; a killed one lets go by itself.",
    )


def _printable(value: object) -> str:
    """Return the value as text that is safe on a terminal: the file may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:500])
