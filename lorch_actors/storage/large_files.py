"""Hashing large files on as many threads as there are processors: SHA-256 is slower than the page cache.

A hash runs without the interpreter's lock, so threads do. Of small files the interpreter's own work is the greater
part, and they are better read one after the other.
"""

import os
from collections.abc import Callable
from typing import Final, NamedTuple

LARGE_BYTES: Final = 4 * 1024 * 1024
"""From this size on a file is large."""

WAITING_MAX: Final = 64
"""So many are held open at most, with their directories."""

_THREADS: Final = min(4, len(os.sched_getaffinity(0)))
_LOOK_S: Final = 0.25


class LargeFile(NamedTuple):
    """A file to be hashed. parent: a descriptor of its directory, ours. mark: its fingerprint before reading."""

    parent: int
    directory: str
    name: str
    mark: bytes

    @property
    def path(self) -> str:
        """Its path below the workspace."""
        return self.directory + self.name


def close_all(files: list[LargeFile]) -> None:
    """Let go of the directories of these files, which are used no more."""
    while files:
        os.close(files.pop().parent)


class Hashes:
    """Hashes files side by side.

    digest: hashes one, in some thread, and calls what it is given for every piece; None: it changed meanwhile.
    on_progress: called in the caller's thread, as long as pieces are read.
    """

    def __init__(
        self,
        digest: Callable[[LargeFile, Callable[[], None]], bytes | None],
        on_progress: Callable[[], None],
    ) -> None:
        self._digest = digest
        self._on_progress = on_progress
        self._pieces = 0

    def of(self, files: list[LargeFile]) -> list[bytes | None]:
        """Return the hash of each. Raises what ``digest`` raises."""
        from concurrent.futures import ThreadPoolExecutor, wait

        with ThreadPoolExecutor(_THREADS, "hash") as threads:
            hashes = [threads.submit(self._digest, file, self._count) for file in files]
            seen = 0
            while wait(hashes, _LOOK_S).not_done:
                if self._pieces != seen:
                    seen = self._pieces
                    self._on_progress()
            return [one.result() for one in hashes]

    def _count(self) -> None:
        self._pieces += 1  # a lost count is of no matter: it is only looked at for being another
