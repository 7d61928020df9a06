"""What is known of one tracked file, in 76 bytes: its fingerprint, which tells whether it changed, and its SHA-256.

Keyed like git's index: a file whose size, mtime, ctime, inode, device and mode are what they were is taken to hold
what it held. A program can set the mtime back, but not the ctime. A file that was touched so shortly before it was
looked at that a later write could carry the same times is *racy* (git's term).

Bytes and no objects, because a tree has as many of them as files: comparing two is one comparison of bytes, and what
they mean is only read where it is printed.
"""

import os
import struct
from collections.abc import Iterable
from typing import Final

FINGERPRINT_BYTES: Final = 44
RECORD_BYTES: Final = FINGERPRINT_BYTES + 32

_SECOND_NS: Final = 1_000_000_000
_MARGIN_NS: Final = 50_000_000  # kernels stamp files with a clock that ticks every 10 ms at the slowest
_COARSE_MARGIN_NS: Final = 2 * _SECOND_NS  # FAT counts in steps of two seconds, old network file systems in one
_DEVICE_MASK: Final = 2**64 - 1
_pack = struct.Struct("<QqqQQI").pack
_size_and_mtime = struct.Struct("<Qq").unpack_from
_sizes = struct.Struct(f"<Q{RECORD_BYTES - 8}x").iter_unpack


def fingerprint(found: os.stat_result) -> bytes:
    """Return what identifies a file's content without reading it: `FINGERPRINT_BYTES` bytes."""
    return _pack(
        found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev & _DEVICE_MASK, found.st_mode
    )


def is_racy(found: os.stat_result, started_ns: int) -> bool:
    """Say whether a write after ``started_ns`` (nanoseconds since 1970) could leave the same times on the file."""
    settled_ns = started_ns - _COARSE_MARGIN_NS
    if found.st_mtime_ns < settled_ns and found.st_ctime_ns < settled_ns:
        return False
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    coarse = newest % _SECOND_NS == 0
    return newest >= started_ns - (_COARSE_MARGIN_NS if coarse else _MARGIN_NS)


def size_and_mtime_ns(record: bytes) -> tuple[int, int]:
    """Return size in bytes and mtime in nanoseconds since 1970."""
    size, mtime_ns = _size_and_mtime(record)
    return size, mtime_ns


def checksum(record: bytes) -> str:
    """Return ``sha256:`` and 64 hex digits."""
    return f"sha256:{record[FINGERPRINT_BYTES:].hex()}"


def total_size(records: Iterable[bytes]) -> int:
    """Return the size in bytes of all these files."""
    return sum(size for (size,) in _sizes(b"".join(records)))
