"""Checksums of files, ``sha256:<64 hex>``, and whether a file is what somebody claims it to be (SPEC §5.3).

Files are read in constant memory, and no further than they have to be.
"""

import hashlib
import os
from typing import Final

from msgspec import Struct

from lorch_actors.errors import FailureCode, PathRefused
from lorch_actors.storage import disk
from lorch_actors.storage.disk import StrPath
from lorch_actors.storage.paths import open_beneath

_CHUNK_BYTES: Final = 1 << 20


class Mismatch(Struct, frozen=True):
    """How a file differs from what was claimed of it. ``message`` is one sentence with what was claimed and found."""

    path: str
    code: FailureCode
    message: str


def checksum_of(data: bytes) -> str:
    """Return the checksum of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hash_open_file(fd: int, limit_bytes: int | None = None) -> tuple[str, int]:
    """Return checksum and size of what is read from here to the end; of no more than ``limit_bytes``.

    Raises StorageError.
    """
    digest = hashlib.sha256()
    size = 0
    while limit_bytes is None or size < limit_bytes:
        wanted = _CHUNK_BYTES if limit_bytes is None else min(_CHUNK_BYTES, limit_bytes - size)
        chunk = disk.read(fd, wanted)
        if not chunk:
            break
        digest.update(chunk)
        size += len(chunk)
    return f"sha256:{digest.hexdigest()}", size


def hash_file(path: StrPath) -> tuple[str, int]:
    """Return checksum and size in bytes of a regular file. Raises StorageError."""
    fd = disk.open_read(path)
    try:
        return hash_open_file(fd)
    finally:
        os.close(fd)


def verify_file(
    root: StrPath | int, path: str, claimed_sha256: str, claimed_size: int, *, limit_bytes: int
) -> Mismatch | None:
    """Compare a file of the workspace with what was claimed of it; None if it is just so.

    root: the workspace. path: as the agent named it. limit_bytes: the largest artifact accepted. A wrong claim is a
    value, not an exception; StorageError means that the disk could not tell.
    """
    try:
        fd = open_beneath(root, path)
    except PathRefused as error:
        return Mismatch(path, FailureCode.ARTIFACT_MISMATCH, f"{path}: {error.what}")
    try:
        size = os.fstat(fd).st_size
        if size > limit_bytes:
            message = f"{path} has {size} bytes, at most {limit_bytes} are accepted (policy.artifact_max_bytes)"
            return Mismatch(path, FailureCode.ARTIFACT_TOO_LARGE, message)
        if size != claimed_size:
            return Mismatch(path, FailureCode.ARTIFACT_MISMATCH, _wrong_size(path, size, claimed_size))
        # one byte more than claimed: a file that grows while it is read is noticed, and does not keep us reading
        checksum, read = hash_open_file(fd, claimed_size + 1)
    finally:
        os.close(fd)
    if read != claimed_size:
        return Mismatch(path, FailureCode.ARTIFACT_MISMATCH, _wrong_size(path, read, claimed_size))
    if checksum != claimed_sha256:
        message = f"{path} has the checksum {checksum}, claimed is {claimed_sha256}"
        return Mismatch(path, FailureCode.ARTIFACT_MISMATCH, message)
    return None


def _wrong_size(path: str, size: int, claimed_size: int) -> str:
    return f"{path} has {size} bytes, claimed are {claimed_size}"
