"""What is known of tracked files: of each its fingerprint, which tells whether it changed, and its SHA-256.

Keyed like git's index: a file whose size, mtime, ctime, inode, device and mode are what they were is taken to hold
what it held. A program can set the mtime back, but not the ctime. A file that was touched so shortly before it was
looked at that a later write could carry the same times is *racy* (git's term).

The files of one directory are kept together, as a `Listing` of three strings: so whether anything changed in a
directory is one comparison, and what the bytes mean is only read where it is printed.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

Record = tuple[bytes, bytes]
"""Of one file its fingerprint, or mark, and its SHA-256. A plain tuple: a tree has as many as files."""

MARK_BYTES: Final = 44
DIGEST_BYTES: Final = 32

_SECOND_NS: Final = 1_000_000_000
RACY_MAX_NS: Final = 2 * _SECOND_NS
"""What is older is not racy on any file system: FAT counts in steps of two seconds, old network file systems in one."""

_MARGIN_NS: Final = 50_000_000  # kernels stamp files with a clock that ticks every 10 ms at the slowest
_DEVICE_MASK: Final = 2**64 - 1
_pack = struct.Struct("<QqqQQI").pack
_size = struct.Struct("<Q").unpack_from
_each_mark = struct.Struct(f"{MARK_BYTES}s").iter_unpack
_each_digest = struct.Struct(f"{DIGEST_BYTES}s").iter_unpack
_each_size_and_mtime = struct.Struct(f"<Qq{MARK_BYTES - 16}x").iter_unpack


def fingerprint(found: os.stat_result) -> bytes:
    """Return what identifies a file's content without reading it: `MARK_BYTES` bytes."""
    return _pack(
        found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev & _DEVICE_MASK, found.st_mode
    )


def is_racy(found: os.stat_result, started_ns: int) -> bool:
    """Say whether a write after ``started_ns`` (nanoseconds since 1970) could leave the same times on the file."""
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    coarse = newest % _SECOND_NS == 0
    return newest >= started_ns - (RACY_MAX_NS if coarse else _MARGIN_NS)


def size_of(mark: bytes) -> int:
    """Return the size in bytes that a fingerprint holds."""
    size: int = _size(mark)[0]
    return size


class Listing(Struct, frozen=True, gc=False):
    """The tracked files of one directory, at least one, in the order in which the file system tells their names.

    names: as `os.fsdecode` gives them, joined by NUL. marks and digests: those of all, end to end. Raises ValueError if
    these are not as many as names.
    """

    names: str
    marks: bytes
    digests: bytes

    def __post_init__(self) -> None:
        number = self.names.count("\0") + 1
        if len(self.marks) != number * MARK_BYTES or len(self.digests) != number * DIGEST_BYTES:
            raise ValueError(f"{len(self.marks)} and {len(self.digests)} bytes about {number} files")

    @classmethod
    def of(cls, records: Mapping[str, Record]) -> "Listing":
        """Return the listing of these records, which are by name."""
        marks, digests = zip(*records.values(), strict=True)
        return cls("\0".join(records), b"".join(marks), b"".join(digests))

    def is_of(self, names: Sequence[str], marks: Sequence[bytes]) -> bool:
        """Say whether exactly these files, with these fingerprints, are listed."""
        return self.marks == b"".join(marks) and self.names == "\0".join(names)

    def records(self) -> dict[str, Record]:
        """Return the records by name."""
        pairs = zip(_each_mark(self.marks), _each_digest(self.digests), strict=True)
        return {name: (mark, digest) for name, ((mark,), (digest,)) in zip(self.names.split("\0"), pairs, strict=True)}

    def files(self) -> Iterator[tuple[str, int, int, str]]:
        """Yield of each file its name, its size in bytes, its mtime in nanoseconds since 1970, its SHA-256 in hex."""
        names = self.names.split("\0")
        pairs = zip(_each_size_and_mtime(self.marks), _each_digest(self.digests), strict=True)
        for name, ((size, mtime_ns), (digest,)) in zip(names, pairs, strict=True):
            yield name, size, mtime_ns, digest.hex()

    def __len__(self) -> int:
        return len(self.marks) // MARK_BYTES

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(size for size, _ in _each_size_and_mtime(self.marks))
