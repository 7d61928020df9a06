"""Snapshots: what the tracked files of a workspace hold at one moment (SPEC §5.1).

Equal content gives an equal id, on every machine and at every time: the id covers paths, sizes, checksums and link
targets, and no times. Links are never followed, whatever they point to: everything is opened relative to its
directory, without following. Files are read in constant memory, and again if they change meanwhile.
"""

import fnmatch
import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lorch_actors.errors import PathRefused, SnapshotError
from lorch_actors.storage.file_content import OTHER_KIND, VANISHED, sha256_of, unreadable
from lorch_actors.storage.file_records import RACY_MAX_NS, Listing, Record, fingerprint, is_racy, size_of
from lorch_actors.storage.large_files import LARGE_BYTES, WAITING_MAX, Hashes, LargeFile, close_all
from lorch_actors.storage.manifests import (
    Found,
    Skipped,
    Snapshot,
    TrackedLink,
    directory_of,
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
_FILES_PER_PROGRESS: Final = 256
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    walk = _Walk(root, exclude, known.found.listings, on_progress or _no_progress)
    try:
        for path in include:
            walk.include(path)
        found = walk.finish()
    finally:
        walk.close()
    known_id = known.snapshot_id if found == known.found else ""
    found_id = known_id or snapshot_id(found.entries())
    if walk.racy or not known_id:
        known.learn(found.without(walk.racy), "" if walk.racy else found_id)
    skipped = tuple([walk.skipped[path] for path in in_byte_order([*walk.skipped])])
    return Snapshot(found_id, found, skipped, walk.files_read)


def _no_progress() -> None:
    return


class _Walk:
    """One walk over the tracked part of a workspace.

    A directory whose files are all what they were is kept as it is known; of others, each file is looked up, and read
    unless it is what it was, and what comes of it is gathered (None as long as nothing has).
    """

    def __init__(
        self, root: Path, exclude: Sequence[str], known: Mapping[str, Listing], on_progress: Callable[[], None]
    ) -> None:
        self._root = os.fspath(root)
        self._excluded = _matcher(exclude)
        self._known = known
        self._on_progress = on_progress
        self._started_ns = time.time_ns()
        self._settled_ns = self._started_ns - RACY_MAX_NS
        self._unpacked: dict[str, dict[str, Record]] = {}
        self._listings: dict[str, Listing] = {}
        self._gathered: defaultdict[str, dict[str, Record | None]] = defaultdict(dict)
        self._links: dict[str, TrackedLink] = {}
        self._large: list[LargeFile] = []
        self._steps = 0
        self.racy: set[str] = set()
        self.skipped: dict[str, Skipped] = {}
        self.files_read = 0

    def finish(self) -> Found:
        """Hash what was put off to the end, and return what was found."""
        self._hash_large()
        for directory in [*self._gathered]:
            self._list(directory)
        listings, links = self._listings, self._links
        for directory in {directory_of(path) for path in links} & listings.keys():
            for name in listings[directory].records():
                links.pop(directory + name, None)  # included twice, and replaced in between
        return Found(listings, links)

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
            if error.errno not in VANISHED | OTHER_KIND:
                raise
        finally:
            for fd in opened:
                os.close(fd)

    def _open_directory(self, name: str, parent: int | None, path: str) -> int:
        try:
            return os.open(name, _DIRECTORY_FLAGS if parent is not None else os.O_RDONLY | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            if error.errno in VANISHED | OTHER_KIND:
                raise
            raise unreadable(path, error) from error

    def _directory(self, fd: int, prefix: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise SnapshotError(
                f"directories are nested more than {DEPTH_MAX} deep",
                where=prefix,
                remedy="Remove the directory, or list it under snapshot.exclude.",
            )
        names: list[str] = []
        marks: list[bytes] = []
        others = []
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
                names.append(name)
                marks.append(self._mark(path, found))
            else:
                others.append((name, path))
        self._files(fd, prefix, names, marks)
        for name, path in others:
            self._take(fd, name, path, depth + 1)

    def _entries(self, fd: int, prefix: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(fd) as found:
                yield from found
        except OSError as error:
            raise unreadable(prefix, error) from error

    def _take(self, fd: int, name: str, path: str, depth: int) -> None:
        """Take whatever has that name. It may become another thing while we look, but not for ever."""
        for _ in range(_TRIES_MAX):
            try:
                if self._look(fd, name, path, depth):
                    return
            except OSError as error:
                if error.errno in VANISHED:
                    return
                if error.errno not in OTHER_KIND:
                    raise unreadable(path, error) from error
        raise _restless(path)

    def _look(self, fd: int, name: str, path: str, depth: int) -> bool:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return self._regular(fd, path.removesuffix(name), name, self._mark(path, found))
        if stat.S_ISDIR(found.st_mode):
            child = self._open_directory(name, fd, path)
            try:
                self._directory(child, f"{path}/", depth)
            finally:
                os.close(child)
        elif stat.S_ISLNK(found.st_mode):
            self._links[path] = tracked_link(path, os.readlink(name, dir_fd=fd), found.st_mtime_ns)
        else:
            text = written_name(path)
            self.skipped[path] = Skipped(text or path, _kind(found.st_mode), text is not None)
        return True

    def _mark(self, path: str, found: os.stat_result) -> bytes:
        settled_ns = self._settled_ns  # most files are older, so that one call less is needed for each
        if (found.st_mtime_ns >= settled_ns or found.st_ctime_ns >= settled_ns) and is_racy(found, self._started_ns):
            self.racy.add(path)
        self._go_on()
        return fingerprint(found)

    def _go_on(self) -> None:
        """Tell now and then that files are looked at, or read."""
        self._steps += 1
        if not self._steps % _FILES_PER_PROGRESS:
            self._on_progress()

    def _files(self, fd: int, directory: str, names: list[str], marks: list[bytes]) -> None:
        """Take the regular files of a directory, all at once if they are what they were."""
        known = self._known.get(directory)
        if known is not None and known.is_of(names, marks):
            self._listings[directory] = known
            return
        self._gathered[directory] |= dict.fromkeys(names)  # in this order, whatever comes first
        for name, mark in zip(names, marks, strict=True):
            if not self._regular(fd, directory, name, mark):
                self._take(fd, name, directory + name, directory.count("/") + 1)
        if not self._large:
            self._list(directory)

    def _list(self, directory: str) -> None:
        """Make the listing of what was gathered in a directory; what was found there before stays in it."""
        records = self._listings[directory].records() if directory in self._listings else {}
        gathered = self._gathered.pop(directory)
        records |= {name: record for name, record in gathered.items() if record is not None}
        if records:
            self._listings[directory] = Listing.of(records)

    def _regular(self, fd: int, directory: str, name: str, mark: bytes) -> bool:
        """Take a regular file, read if it is not what it was; False when it changed meanwhile."""
        record = self._records(directory).get(name)
        if record is None or record[0] != mark:
            if size_of(mark) >= LARGE_BYTES:
                self._put_off(LargeFile(os.dup(fd), directory, name, mark))
                return True
            digest = sha256_of(fd, name, directory + name, mark, self._on_progress)
            if digest is None:
                return False
            self.files_read += 1
            self._go_on()
            record = mark, digest
        self._gather(directory, name, record)
        return True

    def _records(self, directory: str) -> dict[str, Record]:
        """Return what was known of the files of a directory in which something has changed."""
        if directory not in self._unpacked:
            known = self._known.get(directory)
            self._unpacked[directory] = known.records() if known is not None else {}
        return self._unpacked[directory]

    def _gather(self, directory: str, name: str, record: Record) -> None:
        self._gathered[directory][name] = record

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
                        self._gather(file.directory, file.name, (file.mark, digest))
                    else:
                        self._take(file.parent, file.name, file.path, file.path.count("/") + 1)
            finally:
                close_all(files)
        raise _restless(self._large[0].path)

    def _hash_one(self, file: LargeFile, on_piece: Callable[[], None]) -> bytes | None:
        return sha256_of(file.parent, file.name, file.path, file.mark, on_piece)


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
