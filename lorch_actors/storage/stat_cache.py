"""What was known of a tree when it was last captured, so that unchanged files are not read again.

Files that are racy (see `file_records`) are not remembered at all. The id of the tree is, where nothing in it was racy:
a tree in which every file and every link is what it was has the id that it had.

The file is a cache and nothing else: absent, damaged or of another format, it is ignored and everything is read.
Format: one line ``lorch-stat-cache 2 <64 hex>``, the SHA-256 of the rest; then CBOR of ``[listings, links,
snapshot_id]``: of each directory its raw path, the raw names joined by NUL, fingerprints and SHA-256 end to end; of
each link its raw path and its entry; ``snapshot_id`` is empty where it is not known. The number in the first line also
counts up when ids are made in another way.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.errors import StorageError
from lorch_actors.storage import atomic, disk
from lorch_actors.storage.file_records import Listing
from lorch_actors.storage.manifests import Found, TrackedLink

_HEADER: Final = b"lorch-stat-cache 2 "
_CACHE_MAX_BYTES: Final = 1 << 30


class StatCache:
    """What is known from before: ``found``, and ``snapshot_id`` of exactly that, empty if it is not known.

    `capture` reads both and has the cache `learn`; `save` writes what was learnt.
    """

    def __init__(self, path: Path, found: Found | None = None, snapshot_id: str = "") -> None:
        self.path = path
        self.found = found if found is not None else Found({}, {})
        self.snapshot_id = snapshot_id
        self._is_saved = True

    @classmethod
    def load(cls, path: Path) -> "StatCache":
        """Read the cache; an unusable one is empty."""
        try:
            content = disk.read_file(path, _CACHE_MAX_BYTES)
        except StorageError:  # a cache that cannot be read is no cache
            return cls(path)
        return cls(path, *_decode(content or b""))

    def learn(self, found: Found, snapshot_id: str) -> None:
        """Know this from now on, and nothing else."""
        if (found, snapshot_id) != (self.found, self.snapshot_id):
            self.found, self.snapshot_id = found, snapshot_id
            self._is_saved = False

    def save(self) -> None:
        """Write the cache atomically unless it is what the file holds. Raises StorageError."""
        if self._is_saved:
            return
        disk.make_directory(self.path.parent)
        atomic.write_atomic(self.path, _encode(self.found, self.snapshot_id))
        self._is_saved = True


def _encode(found: Found, snapshot_id: str) -> bytes:
    import cbor2

    listings = [
        [os.fsencode(directory), os.fsencode(listing.names), listing.marks, listing.digests]
        for directory, listing in found.listings.items()
    ]
    links = [[os.fsencode(path), msgspec.to_builtins(link)] for path, link in found.links.items()]
    body = cbor2.dumps([listings, links, snapshot_id])
    return _header(body) + body


def _decode(content: bytes) -> tuple[Found, str] | tuple[()]:
    import cbor2

    start = content.find(b"\n") + 1
    body = content[start:]
    if not content or content[:start] != _header(body):
        return ()
    try:
        listings, links, snapshot_id = cbor2.loads(body)
        found = Found(
            {os.fsdecode(directory): Listing(os.fsdecode(names), *rest) for directory, names, *rest in listings},
            {os.fsdecode(path): msgspec.convert(said, TrackedLink) for path, said in links},
        )
    except (cbor2.CBORDecodeError, msgspec.ValidationError, ValueError, TypeError):
        return ()
    return found, snapshot_id


def _header(body: bytes) -> bytes:
    return _HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n"
