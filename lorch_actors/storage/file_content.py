"""The SHA-256 of one file, read in constant memory, if it stood still meanwhile."""

import errno
import hashlib
import os
from collections.abc import Callable
from typing import Final

from lorch_actors.errors import SnapshotError
from lorch_actors.storage.file_records import fingerprint, size_of
from lorch_actors.storage.manifests import written_name

VANISHED: Final = frozenset({errno.ENOENT, errno.ESTALE})
"""Errors that say that nothing of that name is there."""
OTHER_KIND: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EINVAL})
"""Errors that say that something else is there than was expected."""

_CHUNK_BYTES: Final = 1 << 18
_CHUNKS_PER_PROGRESS: Final = 64
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def sha256_of(parent: int, name: str, path: str, mark: bytes, on_progress: Callable[[], None]) -> bytes | None:
    """Return the SHA-256 of a file that has this fingerprint before and after it is read, None if it has not.

    parent: the descriptor of its directory. path: what errors call it. on_progress: called at least every 16 MiB.
    Raises SnapshotError if it cannot be read.
    """
    try:
        fd = os.open(name, _FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in VANISHED | OTHER_KIND:
            return None
        raise unreadable(path, error) from error
    try:
        digest = _content(fd, size_of(mark), on_progress)
        after = os.fstat(fd)
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(fd)
    return digest if fingerprint(after) == mark else None


def unreadable(path: str, error: OSError) -> SnapshotError:
    """Return the error for what the operating system refuses to show."""
    return SnapshotError(
        f"cannot be read: {error.strerror}",
        where=written_name(path) or path or ".",
        remedy="Make it readable, or list it under snapshot.exclude.",
    )


def _content(fd: int, size_bytes: int, on_progress: Callable[[], None]) -> bytes:
    if size_bytes < _CHUNK_BYTES:  # one read: a byte less than asked for is the end of the file
        return hashlib.sha256(os.read(fd, size_bytes + 1)).digest()
    digest = hashlib.sha256()
    chunks = 0
    while chunk := os.read(fd, _CHUNK_BYTES):
        digest.update(chunk)
        chunks += 1
        if chunks % _CHUNKS_PER_PROGRESS == 0:
            on_progress()
    return digest.digest()
