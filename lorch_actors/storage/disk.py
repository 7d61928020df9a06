"""The one layer through which durable bytes reach the disk.

Everything the program promises to keep goes through these functions, called as ``disk.write(...)``, so that a test can
replace any one of them and let it fail. An ``OSError`` leaves here as a ``StorageError`` that says in words what the
disk refused, which file it was and what to do; the ``OSError`` stays its cause. Interrupted calls are repeated by
Python itself (PEP 475), short writes by `write`.
"""

import errno
import os
import stat
from contextlib import suppress
from types import TracebackType
from typing import Final

from lorch_actors.errors import StorageError, StorageRefused

StrPath = str | os.PathLike[str]

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
# Non-blocking matters only for what should not be there: opening a FIFO would wait for its other end for ever.
_OPEN_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

_GOES_ON: Final = "`lorch resume` then goes on with a run that has begun."
_FREE_SPACE: Final = f"Free some space; {_GOES_ON}"
_REFUSALS: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_REASONS: Final[dict[int, tuple[str, str]]] = {
    errno.ENOSPC: ("the disk is full", _FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _FREE_SPACE),
    errno.EFBIG: ("the file would grow past the size limit", f"Raise `ulimit -f`; {_GOES_ON}"),
    errno.EROFS: ("the file system is read-only", "Mount it writable, or choose another --workspace."),
    errno.EACCES: ("permission denied", "Check owner and mode of the file and of its directory."),
    errno.EPERM: ("the operation is not permitted", "Check owner, mode and attributes (`lsattr`) of the file."),
    errno.EIO: ("the disk reports an input/output error", f"Check the disk (`dmesg`); {_GOES_ON}"),
    errno.EMFILE: ("too many files are open", f"Raise `ulimit -n`; {_GOES_ON}"),
    errno.ENFILE: ("too many files are open on this machine", f"End other programs; {_GOES_ON}"),
    errno.ELOOP: ("it is a symbolic link", "Replace the link by a real file or directory."),
    errno.ENOTDIR: ("a part of the path is not a directory", "Move the file that stands in the way."),
    errno.EEXIST: ("something is already there", "Move the file that stands in the way."),
    errno.EISDIR: ("it is a directory", "Move the directory that stands in the way."),
    errno.ENXIO: ("it is not a regular file", "Move what stands in the way."),
    errno.ENOENT: ("there is no such file or directory", "Was it removed while the program ran?"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter name."),
}


def storage_error(deed: str, place: str, error: OSError) -> StorageError:
    """Return the error that says in words which deed the disk refused, where and why."""
    told, remedy = _REASONS.get(error.errno or 0, (error.strerror or str(error), "Look at the disk, then try again."))
    kind = StorageRefused if error.errno in _REFUSALS else StorageError
    return kind(f"cannot {deed}: {told}", where=place, remedy=remedy)


class _told:  # noqa: N801 - reads as a statement; a class, since it stands around every call
    """Turns an OSError into a StorageError that says which deed it was, and where."""

    __slots__ = ("_deed", "_place")

    def __init__(self, deed: str, place: StrPath | int) -> None:
        self._deed = deed
        self._place = place

    def __enter__(self) -> None:
        return

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise storage_error(self._deed, _name(self._place), error) from error


def _name(place: StrPath | int) -> str:
    if not isinstance(place, int):
        return os.fsdecode(place)
    try:
        return os.readlink(f"/proc/self/fd/{place}")
    except OSError:
        return f"file descriptor {place}"


def _open_regular(path: StrPath, flags: int) -> int:
    """Open a regular file. Anything else raises OSError, without waiting for it."""
    fd = os.open(path, flags | _OPEN_FLAGS, FILE_MODE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        close(fd)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return fd


def open_append(path: StrPath) -> int:
    """Open a file for appending, 0600 when it has to be created, not inherited by children."""
    with _told("open for appending", path):
        return _open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def create(path: StrPath) -> int:
    """Create a file that must not exist yet, 0600, and open it for writing, not inherited by children."""
    with _told("create", path):
        return _open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def open_read(path: StrPath) -> int:
    """Open an existing regular file for reading, not inherited by children."""
    with _told("open", path):
        return _open_regular(path, os.O_RDONLY)


def read(fd: int, size_bytes: int) -> bytes:
    """Return up to that many bytes, fewer when that is what there is, none at the end of the file."""
    with _told("read", fd):
        return os.read(fd, size_bytes)


def read_file(path: StrPath, limit_bytes: int) -> bytes | None:
    """Return a whole file, or None if there is none. A file over the limit is a StorageError."""
    if not os.path.lexists(path):
        return None
    fd = open_read(path)
    try:
        content = bytearray()
        while chunk := read(fd, min(1 << 20, limit_bytes + 1 - len(content))):
            content += chunk
            if len(content) > limit_bytes:
                raise StorageError(
                    f"cannot read: larger than {limit_bytes} bytes",
                    where=os.fsdecode(path),
                    remedy="Is this the right file? Move it away.",
                )
        return bytes(content)
    finally:
        close(fd)


def seek(fd: int, offset: int) -> None:
    """Read on from that offset in bytes."""
    with _told("read", fd):
        os.lseek(fd, offset, os.SEEK_SET)


def status(fd: int) -> os.stat_result:
    """Return what the kernel knows of an open file."""
    with _told("look at", fd):
        return os.fstat(fd)


def close(fd: int) -> None:
    """Let go of an open file. What was not synced may be lost."""
    os.close(fd)


def exists(path: StrPath) -> bool:
    """Say whether something is there; a link that leads nowhere is nothing."""
    return os.path.exists(path)


def names_in(directory: StrPath) -> list[str]:
    """Return the names in a directory, sorted; one that is absent has none."""
    with _told("list", directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []


def write(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it. On an error some of it may have been written."""
    rest = memoryview(data).cast("B")
    with _told("write", fd):
        while rest:
            written = os.write(fd, rest)
            if written == 0:  # not seen on Linux for regular files; a loop around it would have no end
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest = rest[written:]


def begin_sync(fd: int) -> None:
    """Have the kernel begin to write the file's content, and wait for nothing.

    Linux does so for pages that are said to be not needed (mm/fadvise.c); a file system that does not is no worse off.
    """
    with suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_data(fd: int) -> None:
    """Wait until the file's content and size are on the disk (fdatasync)."""
    with _told("sync", fd):
        os.fdatasync(fd)


def sync_file(fd: int) -> None:
    """Wait until the file's content and metadata are on the disk (fsync)."""
    with _told("sync", fd):
        os.fsync(fd)


def sync_directory(path: StrPath) -> None:
    """Wait until the names in a directory are on the disk: without it a new file may be gone after a power cut."""
    with _told("sync the directory", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            close(fd)


def truncate(fd: int, size_bytes: int) -> None:
    """Cut a file to that size."""
    with _told("truncate", fd):
        os.ftruncate(fd, size_bytes)


def replace(source: StrPath, target: StrPath) -> None:
    """Rename, atomically, over whatever stands at the target."""
    with _told("rename to", target):
        os.replace(source, target)


def link(source: StrPath, target: StrPath) -> bool:
    """Give a file a second name, atomically; tell whether the name was free."""
    with _told("create", target):
        try:
            os.link(source, target)
        except FileExistsError:
            return False
    return True


def unlink(path: StrPath) -> None:
    """Remove a file; one that is already gone is fine."""
    with _told("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


def make_directory(path: StrPath) -> None:
    """Make a directory and its missing parents, 0700, their names synced. One that exists is left as it is."""
    place = os.fsdecode(path)
    if os.path.isdir(place):
        return
    parent = os.path.dirname(os.path.abspath(place))
    make_directory(parent)
    with _told("make the directory", place):
        try:
            os.mkdir(place, DIRECTORY_MODE)
        except FileExistsError:
            if not os.path.isdir(place):
                raise
    sync_directory(parent)


def tighten(path: StrPath) -> None:
    """Take a directory away from group and others (0700)."""
    with _told("set the mode of", path):
        os.chmod(path, DIRECTORY_MODE)
