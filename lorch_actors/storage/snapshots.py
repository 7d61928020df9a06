"""Snapshots: what the tracked files of a workspace hold at one moment (SPEC §5.1).

Equal content gives an equal id, on every machine and at every time: the id covers paths, sizes, checksums and link
targets, and no times. Links are never followed, whatever they point to: everything is opened relative to its
directory, without following. Files are read in constant memory, and again if they change meanwhile.
"""

import errno
import fnmatch
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lorch_actors.errors import PathRefused, SnapshotError
from lorch_actors.storage.file_records import FINGERPRINT_BYTES, fingerprint, is_racy
from lorch_actors.storage.large_files import LARGE_BYTES, WAITING_MAX, Hashes, LargeFile, close_all
from lorch_actors.storage.manifests import (
    Found,
    Skipped,
    Snapshot,
    in_byte_order,
    snapshot_id,
    tracked_link,
    written_name,
)
from lorch_actors.storage.stat_cache import StatCache
from lorch_actors.storage.workspace import OWN_DIRECTORIES

SKIPPED_NAMES: Final = frozenset({".git", "node_modules", ".cache", "__pycache__"})
"""Names that are never tracked, at any depth."""

DEPTH_MAX: Final = 256
"""Directories below directories; each level holds a file descriptor open while it is walked."""

_TRIES_MAX: Final = 5
_CHUNK_BYTES: Final = 1 << 18
_ENTRIES_PER_PROGRESS: Final = 256
_CHUNKS_PER_PROGRESS: Final = 64
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED: Final = frozenset({errno.ENOENT, errno.ESTALE})
_OTHER_KIND: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EINVAL})


def capture(
    root: Path,
    include: Sequence[str],
    exclude: Sequence[str] = (),
    cache: StatCache | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Snapshot:
    """Read the tracked files below ``root``.

    include: files and directories below the root ("." is the root itself); one that is absent is no error.
    exclude: patterns of `fnmatch`; one without ``/`` matches a name at any depth, one with ``/`` a path below the
    root (``*`` also crosses ``/``); what is below a match is left out too.
    cache: what is known from before; holds what this capture learnt afterwards, saved by the caller.
    on_progress: called at least every few hundred files and every 16 MiB.
    Raises SnapshotError naming what cannot be read, PathRefused for an include that leaves the workspace.
    """
    known = cache if cache is not None else StatCache(root)
    walk = _Walk(root, exclude, known.found.records, on_progress or _no_progress)
    try:
        for path in include:
            walk.include(path)
        walk.finish()
    finally:
        walk.close()
    found = walk.found
    known_id = known.snapshot_id if found == known.found else ""
    found_id = known_id or snapshot_id(found.entries())
    if walk.racy or not known_id:
        known.learn(found.without(walk.racy), "" if walk.racy else found_id)
    skipped = tuple([walk.skipped[path] for path in in_byte_order([*walk.skipped])])
    return Snapshot(found_id, found, skipped, walk.files_read)


def _no_progress() -> None:
    return


class _Walk:
    """One walk over the tracked part of a workspace."""

    def __init__(
        self, root: Path, exclude: Sequence[str], known: dict[str, bytes], on_progress: Callable[[], None]
    ) -> None:
        self._root = os.fspath(root)
        self._excluded = _matcher(exclude)
        self._known = known
        self._on_progress = on_progress
        self._started_ns = time.time_ns()
        self._large: list[LargeFile] = []
        self.found = Found({}, {})
        self.racy: set[str] = set()
        self.skipped: dict[str, Skipped] = {}
        self.files_read = 0

    def finish(self) -> None:
        """Hash what was put off to the end."""
        self._hash_large()
        for path in self.found.links.keys() & self.found.records.keys():
            del self.found.links[path]  # included twice, and replaced in between

    def close(self) -> None:
        """Let go of what was put off, when the walk has failed."""
        close_all(self._large)

    def include(self, path: str) -> None:
        """Walk one included path. Its own parts may be hidden; what is below it may not."""
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise PathRefused(
                f"{path!r} is not below the workspace", where="snapshot.include", remedy="Name a path below the root."
            )
        if SKIPPED_NAMES.intersection(parts) or (parts and parts[0] in OWN_DIRECTORIES):
            return
        opened: list[int] = []
        try:
            opened.append(self._open_directory(self._root, None, "."))
            for at, part in enumerate(parts[:-1], 1):
                opened.append(self._open_directory(part, opened[-1], "/".join(parts[:at])))
            if parts:
                self._take(opened[-1], parts[-1], "/".join(parts), len(parts))
            else:
                self._directory(opened[-1], "", 0)
        except OSError as error:  # absent, or reached through a link, which is not followed
            if error.errno not in _VANISHED | _OTHER_KIND:
                raise
        finally:
            for fd in opened:
                os.close(fd)

    def _open_directory(self, name: str, parent: int | None, path: str) -> int:
        try:
            return os.open(name, _DIRECTORY_FLAGS if parent is not None else os.O_RDONLY | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            if error.errno in _VANISHED | _OTHER_KIND:
                raise
            raise _unreadable(path, error) from error

    def _directory(self, fd: int, prefix: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise SnapshotError(
                f"directories are nested more than {DEPTH_MAX} deep",
                where=prefix,
                remedy="Remove the directory, or list it under snapshot.exclude.",
            )
        directories = []
        skipped = SKIPPED_NAMES if prefix else SKIPPED_NAMES.union(OWN_DIRECTORIES)
        for entry in self._entries(fd, prefix):
            name = entry.name
            if name[0] == "." or name in skipped:
                continue
            path = prefix + name
            if self._excluded is not None and self._excluded(path):
                continue
            if entry.is_file(follow_symlinks=False):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not self._is_unchanged(path, found) and not self._regular(fd, name, path, found):
                    self._take(fd, name, path, depth + 1)
            elif entry.is_dir(follow_symlinks=False):
                directories.append((name, path))
            else:
                self._take(fd, name, path, depth + 1)
        for name, path in directories:
            self._take(fd, name, path, depth + 1)

    def _entries(self, fd: int, prefix: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(fd) as found:
                yield from found
        except OSError as error:
            raise _unreadable(prefix, error) from error

    def _take(self, fd: int, name: str, path: str, depth: int) -> None:
        """Take whatever has that name. It may become another thing while we look, but not for ever."""
        for _ in range(_TRIES_MAX):
            try:
                if self._look(fd, name, path, depth):
                    return
            except OSError as error:
                if error.errno in _VANISHED:
                    return
                if error.errno not in _OTHER_KIND:
                    raise _unreadable(path, error) from error
        raise _restless(path)

    def _look(self, fd: int, name: str, path: str, depth: int) -> bool:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return self._is_unchanged(path, found) or self._regular(fd, name, path, found)
        if stat.S_ISDIR(found.st_mode):
            child = self._open_directory(name, fd, path)
            try:
                self._directory(child, f"{path}/", depth)
            finally:
                os.close(child)
        elif stat.S_ISLNK(found.st_mode):
            self.found.links[path] = tracked_link(path, os.readlink(name, dir_fd=fd), found.st_mtime_ns)
        else:
            text = written_name(path)
            self.skipped[path] = Skipped(text or path, _kind(found.st_mode), text is not None)
        return True

    def _is_unchanged(self, path: str, found: os.stat_result) -> bool:
        """Take a regular file as it is known, if it is what it was. Of most files nothing else is looked at."""
        record = self._known.get(path)
        if record is None or record[:FINGERPRINT_BYTES] != fingerprint(found):
            return False
        self._learn(path, found, record)
        return True

    def _regular(self, fd: int, name: str, path: str, found: os.stat_result) -> bool:
        """Read a regular file; False when it changed meanwhile."""
        mark = fingerprint(found)
        if found.st_size >= LARGE_BYTES:
            self._put_off(LargeFile(os.dup(fd), name, path, found, mark))
            return True
        digest = self._hash(fd, name, path, found.st_size, mark, self._on_progress)
        if digest is None:
            return False
        self.files_read += 1
        self._learn(path, found, mark + digest)
        return True

    def _learn(self, path: str, found: os.stat_result, record: bytes) -> None:
        records = self.found.records
        records[path] = record
        if is_racy(found, self._started_ns):
            self.racy.add(path)
        if not len(records) % _ENTRIES_PER_PROGRESS:
            self._on_progress()

    def _put_off(self, file: LargeFile) -> None:
        """Hash a large file later, together with others."""
        self._large.append(file)
        if len(self._large) >= WAITING_MAX:
            self._hash_large()

    def _hash_large(self) -> None:
        """Hash what was put off; what changed meanwhile is looked at again, and perhaps put off again."""
        for _ in range(_TRIES_MAX):
            files, self._large = self._large, []
            if not files:
                return
            try:
                for file, digest in zip(files, Hashes(self._hash_one, self._on_progress).of(files), strict=True):
                    if digest is not None:
                        self.files_read += 1
                        self._learn(file.path, file.found, file.mark + digest)
                    else:
                        self._take(file.parent, file.name, file.path, file.path.count("/") + 1)
            finally:
                close_all(files)
        raise _restless(self._large[0].path)

    def _hash_one(self, file: LargeFile, on_piece: Callable[[], None]) -> bytes | None:
        return self._hash(file.parent, file.name, file.path, file.found.st_size, file.mark, on_piece)

    def _hash(
        self, parent: int, name: str, path: str, size_bytes: int, mark: bytes, on_progress: Callable[[], None]
    ) -> bytes | None:
        """Return the SHA-256 of a file that is before and after reading what ``mark`` says, None if it is not."""
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=parent)
        except OSError as error:
            if error.errno in _VANISHED | _OTHER_KIND:
                return None
            raise _unreadable(path, error) from error
        try:
            digest = _content(fd, size_bytes, on_progress)
            after = os.fstat(fd)
        except OSError as error:
            raise _unreadable(path, error) from error
        finally:
            os.close(fd)
        return digest if fingerprint(after) == mark else None


def _content(fd: int, size_bytes: int, on_progress: Callable[[], None]) -> bytes:
    if size_bytes < _CHUNK_BYTES:  # one read: a byte less than asked for is the end of the file
        return hashlib.sha256(os.read(fd, size_bytes + 1)).digest()
    digest = hashlib.sha256()
    chunks = 0
    while chunk := os.read(fd, _CHUNK_BYTES):
        digest.update(chunk)
        chunks += 1
        if chunks % _CHUNKS_PER_PROGRESS == 0:
            on_progress()
    return digest.digest()


def _matcher(patterns: Sequence[str]) -> Callable[[str], object] | None:
    shapes = []
    for pattern in patterns:
        plain = pattern.removeprefix("./").rstrip("/")
        shapes.append(("" if "/" in plain else "(?s:.*/)?") + fnmatch.translate(plain.lstrip("/")))
    return re.compile("|".join(f"(?:{shape})" for shape in shapes)).match if shapes else None


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _restless(path: str) -> SnapshotError:
    return SnapshotError(
        "the file changes all the time while it is read",
        where=path,
        remedy="Stop the program that writes it, or list it under snapshot.exclude.",
    )


def _unreadable(path: str, error: OSError) -> SnapshotError:
    return SnapshotError(
        f"cannot be read: {error.strerror}",
        where=written_name(path) or path or ".",
        remedy="Make it readable, or list it under snapshot.exclude.",
    )
