"""Opens files beneath the workspace for paths that others named (SPEC §10).

A path is checked by walking it: every component is opened relative to the directory before it and never through a
symbolic link, so nothing can be swapped between a check and its use. A link that stays inside is followed by hand,
component by component; one that leaves is refused, and so is whatever is not a regular file in the end.
"""

import errno
import os
import stat
from collections import deque
from enum import StrEnum
from typing import Final

from lorch_actors.errors import PathRefused
from lorch_actors.storage import disk
from lorch_actors.storage.disk import StrPath

MAX_HOPS: Final = 40
"""Symbolic links followed on one path, as many as the kernel follows."""

MAX_DEPTH: Final = 128
"""Directories below the workspace root; each is held open during the walk."""

_DIRECTORY_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Non-blocking, so that a FIFO does not hang; no controlling terminal; no following, the walk does that.
_FILE_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OURS: Final = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EEXIST})


class Refusal(StrEnum):
    """Why a path was refused."""

    EMPTY = "empty"
    ABSOLUTE = "absolute"
    UPWARDS = "upwards"
    NUL = "nul"
    NOT_TEXT = "not_text"
    LEAVES = "leaves_workspace"
    TOO_MANY_LINKS = "too_many_links"
    TOO_DEEP = "too_deep"
    MISSING = "missing"
    NOT_REGULAR = "not_regular"
    UNREADABLE = "unreadable"


_SENTENCES: Final = {
    Refusal.EMPTY: "the path is empty",
    Refusal.ABSOLUTE: "the path is absolute; it has to be relative to the workspace",
    Refusal.UPWARDS: "the path contains '..'",
    Refusal.NUL: "the path contains a NUL character",
    Refusal.NOT_TEXT: "the path cannot be written as a file name",
    Refusal.LEAVES: "a symbolic link on the path leaves the workspace",
    Refusal.TOO_MANY_LINKS: f"the path leads over more than {MAX_HOPS} symbolic links",
    Refusal.TOO_DEEP: f"the path is more than {MAX_DEPTH} directories deep",
    Refusal.MISSING: "the file does not exist",
    Refusal.NOT_REGULAR: "it is not a regular file",
    Refusal.UNREADABLE: "the file cannot be opened: permission denied",
}


class RefusedPath(PathRefused):
    """A path that is not opened, and the reason as a code."""

    def __init__(self, reason: Refusal, path: str) -> None:
        self.reason = reason
        super().__init__(_SENTENCES[reason], where=path, remedy="Name a regular file inside the workspace.")

    def __reduce__(self) -> tuple[object, ...]:
        return (RefusedPath, (self.reason, self.where))


def components(relative: str) -> list[str]:
    """Return the names a relative path consists of, ``.`` and doubled slashes left out. Raises RefusedPath."""
    if "\0" in relative:
        raise RefusedPath(Refusal.NUL, relative)
    if relative.startswith("/"):
        raise RefusedPath(Refusal.ABSOLUTE, relative)
    try:
        os.fsencode(relative)
    except UnicodeEncodeError:
        raise RefusedPath(Refusal.NOT_TEXT, relative.encode("utf-8", "backslashreplace").decode()) from None
    names = [name for name in relative.split("/") if name not in {"", "."}]
    if ".." in names:
        raise RefusedPath(Refusal.UPWARDS, relative)
    if not names:
        raise RefusedPath(Refusal.EMPTY, relative)
    return names


def open_beneath(root: StrPath | int, relative: str, flags: int = os.O_RDONLY) -> int:
    """Open a regular file at a path below ``root`` (a path, or a directory's descriptor); return its descriptor.

    Raises RefusedPath; StorageError when the disk, not the path, is at fault.
    """
    walk = _Walk(root, relative)
    try:
        fd = walk.open(flags)
    except OSError as error:
        raise _explained(error, relative) from error
    finally:
        walk.close()
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RefusedPath(Refusal.NOT_REGULAR, relative)
    return fd


def _explained(error: OSError, relative: str) -> Exception:
    if error.errno in _OURS:
        return disk.storage_error("open", relative, error)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return RefusedPath(Refusal.UNREADABLE, relative)
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        return RefusedPath(Refusal.MISSING, relative)
    return RefusedPath(Refusal.NOT_REGULAR, relative)  # EISDIR, ENXIO (a FIFO nobody reads, a socket), ENODEV …


class _Walk:
    """One walk: the directories from the root to where it stands, and the names still to go."""

    def __init__(self, root: StrPath | int, relative: str) -> None:
        self._relative = relative
        self._pending = deque(components(relative))
        self._hops = 0
        if isinstance(root, int):
            self._root_names = {os.readlink(f"/proc/self/fd/{root}")}
            self._standing = [os.open(".", _DIRECTORY_FLAGS, dir_fd=root)]
        else:
            real = os.path.realpath(os.fsdecode(root))
            self._root_names = {real, os.path.abspath(os.fsdecode(root))}
            try:
                self._standing = [os.open(real, _DIRECTORY_FLAGS)]
            except OSError as error:
                raise disk.storage_error("open the workspace", real, error) from error

    def close(self) -> None:
        while self._standing:
            os.close(self._standing.pop())

    def open(self, flags: int) -> int:
        while self._pending:
            name = self._pending.popleft()
            if name == "..":
                self._go_up()
                continue
            here = self._standing[-1]
            try:
                if not self._pending:
                    return os.open(name, flags | _FILE_FLAGS, dir_fd=here)
                self._standing.append(os.open(name, _DIRECTORY_FLAGS, dir_fd=here))
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
                self._follow(name, here, error)
            if len(self._standing) > MAX_DEPTH:
                raise RefusedPath(Refusal.TOO_DEEP, self._relative)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _go_up(self) -> None:
        if len(self._standing) == 1:
            raise RefusedPath(Refusal.LEAVES, self._relative)
        os.close(self._standing.pop())

    def _follow(self, name: str, here: int, error: OSError) -> None:
        """Put what a link says in front of what is still to go; what is no link raises the error it was met with."""
        try:
            target = os.readlink(name, dir_fd=here)
        except OSError:
            raise error from None
        self._hops += 1
        if self._hops > MAX_HOPS:
            raise RefusedPath(Refusal.TOO_MANY_LINKS, self._relative)
        if target.startswith("/"):
            inside = self._inside(target)
            while len(self._standing) > 1:
                os.close(self._standing.pop())
            target = inside
        self._pending.extendleft(reversed([part for part in target.split("/") if part not in {"", "."}]))

    def _inside(self, target: str) -> str:
        """Return what an absolute link says below the root, by its text alone: what follows is walked like the rest."""
        for root in self._root_names:
            if target == root or target.startswith(root.rstrip("/") + "/"):
                return target[len(root) :]
        raise RefusedPath(Refusal.LEAVES, self._relative)
