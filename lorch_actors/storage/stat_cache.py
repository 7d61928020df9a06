"""What was known about each tracked file when it was last read, so that unchanged files are not read again.

Keyed like git's index: a file whose size, mtime, ctime, inode, device and mode are what they were is taken to hold
what it held. A program can set the mtime back, but not the ctime. A file that was touched so shortly before its
capture that a later write could carry the same times is *racy* (git's term) and is not remembered at all.

The file is a cache and nothing else: absent, damaged or of another format, it is ignored and everything is read.
Format: CBOR ``{"format", "paths", "records", "check"}``; ``paths`` are the raw paths joined by NUL, ``records`` as
many times `RECORD_BYTES`, ``check`` is SHA-256 over both.
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import Final

from lorch_actors.errors import StorageError
from lorch_actors.storage import atomic, disk

FINGERPRINT_BYTES: Final = 44
RECORD_BYTES: Final = FINGERPRINT_BYTES + 32

_FORMAT: Final = 1
_CACHE_MAX_BYTES: Final = 1 << 30
_SECOND_NS: Final = 1_000_000_000
_MARGIN_NS: Final = 50_000_000  # kernels stamp files with a clock that ticks every 10 ms at the slowest
_COARSE_MARGIN_NS: Final = 2 * _SECOND_NS  # FAT counts in steps of two seconds, old network file systems in one
_pack = struct.Struct("<QqqQQI").pack


def fingerprint(found: os.stat_result) -> bytes:
    """Return what identifies a file's content without reading it: `FINGERPRINT_BYTES` bytes."""
    return _pack(
        found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev & (2**64 - 1), found.st_mode
    )


def is_racy(found: os.stat_result, started_ns: int) -> bool:
    """Say whether a write after ``started_ns`` (nanoseconds since 1970) could leave the same times on the file."""
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    if newest < started_ns - _COARSE_MARGIN_NS:
        return False
    coarse = newest % _SECOND_NS == 0
    return newest >= started_ns - (_COARSE_MARGIN_NS if coarse else _MARGIN_NS)


class StatCache:
    """Fingerprint and SHA-256 of each file, by its path below the workspace (as `os.fsdecode` gives it).

    `capture` reads `records` and replaces them; `save` writes them if they changed.
    """

    def __init__(self, path: Path, records: dict[str, bytes] | None = None) -> None:
        self.path = path
        self.records = records or {}
        self._saved = self.records

    @classmethod
    def load(cls, path: Path) -> "StatCache":
        """Read the cache; an unusable one is empty."""
        try:
            content = disk.read_file(path, _CACHE_MAX_BYTES)
        except StorageError:  # a cache that cannot be read is no cache
            return cls(path)
        return cls(path, _decode(content) if content else None)

    def save(self) -> None:
        """Write the cache atomically unless it is what the file holds. Raises StorageError."""
        if self.records == self._saved:
            return
        disk.make_directory(self.path.parent)
        atomic.write_atomic(self.path, _encode(self.records))
        self._saved = self.records


def _encode(records: dict[str, bytes]) -> bytes:
    import cbor2

    paths = b"\0".join(map(os.fsencode, records))
    values = b"".join(records.values())
    check = hashlib.sha256(paths + values).digest()
    return cbor2.dumps({"format": _FORMAT, "paths": paths, "records": values, "check": check})


def _decode(content: bytes) -> dict[str, bytes] | None:
    import cbor2

    try:
        found = cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError, TypeError):
        return None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return None
    paths, values, check = found.get("paths"), found.get("records"), found.get("check")
    if not isinstance(paths, bytes) or not isinstance(values, bytes):
        return None
    if hashlib.sha256(paths + values).digest() != check or not paths:
        return None
    names = os.fsdecode(paths).split("\0")
    if len(values) != len(names) * RECORD_BYTES:
        return None
    return {name: values[at * RECORD_BYTES : (at + 1) * RECORD_BYTES] for at, name in enumerate(names)}
