"""What a foreign CLI prints, kept whole: one file a stream and turn, without the secrets of the environment.

Lines of any length go through in bounded memory. What is beyond `SPOOL_MAX_BYTES`, or refused by the disk, is counted,
not kept.
"""

import os
from pathlib import Path
from typing import Final

from lorch_actors.errors import StorageError
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.storage import disk

SPOOL_MAX_BYTES: Final = 1 << 30
_HELD_MAX_BYTES: Final = 1 << 16
"""A line is redacted whole up to this length; of a longer one, piece by piece with an overlap."""
_OVERLAP_BYTES: Final = 1 << 13


class Spool:
    """One file, open for writing; not synced: it is for people who look for a reason."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        disk.make_directory(path.parent)
        self.path = path
        self._redactor = redactor
        self._held = bytearray()
        self._written_bytes = 0
        self.left_out_bytes = 0
        self._fd = disk.open_append(path)

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self._held += data
        end = self._held.rfind(b"\n") + 1
        if end:
            self._write(self._redactor.bytes(bytes(self._held[:end])))
            del self._held[:end]
        if len(self._held) > _HELD_MAX_BYTES:
            # A secret may begin in the last bytes: they wait for what follows.
            clean = self._redactor.bytes(bytes(self._held))
            self._write(clean[:-_OVERLAP_BYTES])
            self._held[:] = clean[-_OVERLAP_BYTES:]

    def close(self) -> None:
        """Write what is held and close the file."""
        self._write(self._redactor.bytes(bytes(self._held)))
        self._held.clear()
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        room = max(0, SPOOL_MAX_BYTES - self._written_bytes)
        self.left_out_bytes += max(0, len(data) - room)
        if data[:room]:
            try:
                disk.write(self._fd, data[:room])
            except StorageError:  # the work goes on, with less to look at afterwards
                self.left_out_bytes += len(data[:room])
            self._written_bytes += len(data[:room])
