"""Files that an agent writes and claims: below the workspace, with their true checksum.

A path is looked at twice: as text, and after opening, by asking the kernel where the opened file really is. So a
symbolic link may stand inside the workspace but never leads out of it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lorch_actors.errors import PathRefused
from lorch_actors.protocol.checksums import checksum
from lorch_actors.protocol.messages import Artifact
from lorch_actors.storage import atomic, disk
from lorch_actors.storage.checksums import hash_open_file

_REMEDY: Final = "Name a path relative to the workspace, without '..'."


def locate(workspace: Path, path: str) -> Path:
    """Return the absolute path of a file below the workspace, which need not exist; raise PathRefused otherwise."""
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise PathRefused("the path is not a plain relative path", where=repr(path), remedy=_REMEDY)
    root = os.path.realpath(workspace)
    # The last component is not resolved: what is renamed over a link replaces the link.
    directory = os.path.realpath(os.path.join(root, *parts[:-1]))
    if directory != root and not directory.startswith(root + "/"):
        raise PathRefused("a symbolic link leads out of the workspace", where=repr(path), remedy=_REMEDY)
    return Path(directory, parts[-1])


def write(workspace: Path, path: str, content: bytes) -> Artifact:
    """Write a file whole or not at all, keeping the mode of one that exists; return the claim on it.

    What an agent that was killed left beside it of an unfinished write is removed: nobody else looks there. Raises
    PathRefused, and StorageError when the disk refuses.
    """
    target = locate(workspace, path)
    disk.make_directory(target.parent)
    atomic.remove_leftovers(target.parent)
    mode = _mode(target)
    atomic.write_atomic(target, content)
    if mode is not None:
        os.chmod(target, mode)
    return Artifact(path=path, sha256=checksum(content), size=len(content))


def reached(workspace: Path, path: str) -> Path:
    """Return where a path leads, through a link at its end as well; raise PathRefused if that is not in the workspace.

    For what is read or changed in place, where `locate` is for what is renamed over the path.
    """
    root = os.path.realpath(workspace)
    found = os.path.realpath(locate(workspace, path))
    if not found.startswith(root + "/"):
        raise PathRefused("a symbolic link leads out of the workspace", where=repr(path), remedy=_REMEDY)
    return Path(found)


def read(workspace: Path, path: str, limit_bytes: int) -> bytes:
    """Return the beginning of a file; raise PathRefused if it is absent, not regular or not below the workspace."""
    with _opened(reached(workspace, path), path) as fd:
        return os.read(fd, limit_bytes)


def claim(workspace: Path, path: str) -> Artifact:
    """Return the claim on a file as it is now; raise PathRefused if it is absent, not regular or not ours."""
    with _opened(locate(workspace, path), path) as fd:
        sha256, size_bytes = hash_open_file(fd)
    return Artifact(path=path, sha256=sha256, size=size_bytes)


@contextmanager
def _opened(target: Path, path: str) -> Iterator[int]:
    """Open a regular file for reading; raise PathRefused for all else."""
    try:
        # Neither follow a last link nor wait for the other end of a FIFO.
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PathRefused(f"cannot be read: {error.strerror}", where=repr(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise PathRefused("is not a regular file", where=repr(path))
        if os.readlink(f"/proc/self/fd/{fd}") != str(target):
            raise PathRefused("moved while it was opened", where=repr(path))
        yield fd
    finally:
        os.close(fd)


def holds(workspace: Path, artifact: Artifact) -> bool:
    """Tell whether a claim is true now."""
    try:
        return claim(workspace, artifact.path) == artifact
    except PathRefused:
        return False


def exists(workspace: Path, path: str) -> bool:
    """Tell whether a regular file is there, reached without leaving the workspace."""
    try:
        return _mode(locate(workspace, path)) is not None
    except PathRefused:
        return False


def _mode(path: Path) -> int | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else None
