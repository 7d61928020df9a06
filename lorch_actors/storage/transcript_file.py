"""The transcript on the disk, and how far in the ledger it goes, so that a restart goes on with it.

``state/transcript.cbor`` (a checkpoint whose state is ``[size in bytes, SHA-256 of so much of the transcript]``) is a
cache and nothing more: where it does not fit transcript or ledger, the transcript is begun anew.
"""

import hashlib
from pathlib import Path
from typing import Final

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.checkpoint import read_checkpoint, write_checkpoint
from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.ledger_scan import fits

_BLOCK_BYTES: Final = 1 << 17


class TranscriptFile:
    """A transcript under its one writer. Raises StorageError.

    place: the place in the ledger that the file goes up to, as far as it has been said to `resume` and `sync`.
    """

    def __init__(self, path: Path, mark: Path, run_id: str) -> None:
        disk.make_directory(path.parent)
        self._path = path
        self._mark = mark
        self._run_id = run_id
        self._fd = disk.open_append(path)
        self._size_bytes = 0
        self._digest = hashlib.sha256()

    def resume(self, ledger: Path, upto_seq: int) -> Position:
        """Cut off what goes further than is known for certain; return from where in the ledger to go on writing."""
        start = Position.start(self._run_id)
        found = read_checkpoint(self._mark, self._run_id)
        if found is not None:
            place, state = found
            match state:
                case [int(size_bytes), bytes(digest)] if place.seq <= upto_seq and self._fits(ledger, place):
                    if self._holds(size_bytes, digest):
                        start = place
        if not start.seq:
            self._digest = hashlib.sha256()
            self._size_bytes = 0
        disk.truncate(self._fd, self._size_bytes)
        return start

    def write(self, text: bytes) -> None:
        """Append."""
        disk.write(self._fd, text)
        self._size_bytes += len(text)
        self._digest.update(text)

    def sync(self, place: Position) -> None:
        """Bring everything on the disk, and note that it goes up to this place."""
        disk.sync_file(self._fd)
        disk.sync_directory(self._path.parent)
        write_checkpoint(self._mark, self._run_id, place, [self._size_bytes, self._digest.digest()])

    def close(self) -> None:
        """Close the file."""
        disk.close(self._fd)

    def _fits(self, ledger: Path, place: Position) -> bool:
        fd = disk.open_read(ledger)
        try:
            return fits(fd, place, self._run_id)
        finally:
            disk.close(fd)

    def _holds(self, size_bytes: int, digest: bytes) -> bool:
        """Read so much of the file, and say whether it is what was written there."""
        try:
            fd = disk.open_read(self._path)
        except StorageError:
            return False
        try:
            while self._size_bytes < size_bytes:
                block = disk.read(fd, min(_BLOCK_BYTES, size_bytes - self._size_bytes))
                if not block:
                    return False
                self._digest.update(block)
                self._size_bytes += len(block)
        finally:
            disk.close(fd)
        return self._digest.digest() == digest
