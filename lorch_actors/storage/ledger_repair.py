"""Keeps what a repair is about to cut off (etcd's rule: copy the damaged part aside before touching it)."""

import os
from pathlib import Path

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk

_CHUNK_BYTES = 1 << 20
_COPIES_MAX = 10_000


def copy_aside(fd: int, path: Path, offset: int) -> Path:
    """Copy a ledger's bytes from ``offset`` on to ``<path>.torn-<n>``, synced; return that path.

    A repair that died after its copy left the very same bytes in the newest copy: then that one is returned.
    """
    newest, free = None, None
    for number in range(1, _COPIES_MAX + 1):
        candidate = path.with_name(f"{path.name}.torn-{number}")
        if not disk.exists(candidate):
            free = candidate
            break
        newest = candidate
    if free is None:
        raise StorageError(
            f"{_COPIES_MAX} torn tails were kept already", where=str(path), remedy="Move the .torn-* files away."
        )
    if newest is not None and _same_tail(fd, offset, newest):
        return newest
    temporary = path.with_name(f".{free.name}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        _copy(fd, offset, temporary)
        disk.replace(temporary, free)
    except BaseException:
        disk.unlink(temporary)
        raise
    disk.sync_directory(path.parent)
    return free


def _copy(fd: int, offset: int, target: Path) -> None:
    copy = disk.create(target)
    try:
        disk.seek(fd, offset)
        while chunk := disk.read(fd, _CHUNK_BYTES):
            disk.write(copy, chunk)
        disk.sync_file(copy)
    finally:
        disk.close(copy)


def _same_tail(fd: int, offset: int, copy: Path) -> bool:
    other = disk.open_read(copy)
    try:
        if disk.status(fd).st_size - offset != disk.status(other).st_size:
            return False
        disk.seek(fd, offset)
        while chunk := disk.read(fd, _CHUNK_BYTES):
            if disk.read(other, len(chunk)) != chunk:
                return False
        return True
    finally:
        disk.close(other)
