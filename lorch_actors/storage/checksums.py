"""Checksums of files, ``sha256:<64 hex>``, in constant memory and reading no further than asked."""

import hashlib
import os
from collections.abc import Callable
from typing import Final

from lorch_actors.storage import disk
from lorch_actors.storage.disk import StrPath

_CHUNK_BYTES: Final = 1 << 20
_CHUNKS_PER_PROGRESS: Final = 16


def hash_open_file(
    fd: int, limit_bytes: int | None = None, on_progress: Callable[[], object] | None = None
) -> tuple[str, int]:
    """Return checksum and size of what is read from here to the end; of no more than ``limit_bytes``.

    on_progress: called every 16 MiB. Raises StorageError.
    """
    digest = hashlib.sha256()
    size = chunks = 0
    while limit_bytes is None or size < limit_bytes:
        wanted = _CHUNK_BYTES if limit_bytes is None else min(_CHUNK_BYTES, limit_bytes - size)
        chunk = disk.read(fd, wanted)
        if not chunk:
            break
        digest.update(chunk)
        size += len(chunk)
        chunks += 1
        if on_progress is not None and chunks % _CHUNKS_PER_PROGRESS == 0:
            on_progress()
    return f"sha256:{digest.hexdigest()}", size


def hash_file(path: StrPath) -> tuple[str, int]:
    """Return checksum and size in bytes of a regular file. Raises StorageError."""
    fd = disk.open_read(path)
    try:
        return hash_open_file(fd)
    finally:
        os.close(fd)
