"""A disk in memory that knows what was synced: what the storage layer asks of the kernel, answered by numbers.

`simulated` puts it in the place of the kernel behind `storage.disk`, and of the file locks. Descriptors and locks
belong to the process that took them, and go with it. `crash` is a power cut: what was synced is there, of the rest
whatever chance leaves, torn anywhere.
"""

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lorch_actors.actors import ledger_worker, run_state_keeper
from lorch_actors.errors import LockedError
from lorch_actors.storage import disk as layer

FIRST_FD = 1_000_000


class Inode:
    """A file's content. synced: so many first bytes are certain; before: the certain content, if it was another."""

    __slots__ = ("before", "data", "names", "synced")

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0
        self.before: bytes | None = None
        self.names = 1

    def certain(self) -> bytes:
        return self.before if self.before is not None else bytes(self.data[: self.synced])

    def sync(self) -> None:
        self.synced = len(self.data)
        self.before = None

    def touch(self, offset: int) -> None:
        """Remember what was certain before it is changed from there on."""
        if offset < self.synced and self.before is None:
            self.before = bytes(self.data[: self.synced])


class _Open:
    __slots__ = ("append", "inode", "offset", "owner", "path")

    def __init__(self, inode: Inode, path: str, owner: str, *, append: bool) -> None:
        self.inode = inode
        self.path = path
        self.owner = owner
        self.append = append
        self.offset = 0


class _Status(NamedTuple):
    st_mode: int
    st_size: int
    st_nlink: int


class SimulatedDisk:
    """See the module; it has the functions of `os` that the layer calls.

    owner: the process that is at work. on_call: asked before every call that changes something, with its name and
    path; it may raise, or return how many bytes of a write come through. synced: told the path of a synced file.
    """

    def __init__(self, directories: tuple[str, ...]) -> None:
        self.owner = ""
        self.on_call: Callable[[str, str], int | None] = lambda _name, _path: None
        self.on_synced: Callable[[str], object] = lambda _: None
        self.path = _Paths(self)
        self._names: dict[str, dict[str, Inode]] = {path: {} for path in directories}
        self._certain: dict[str, dict[str, Inode]] = {path: {} for path in directories}
        self._open: dict[int, _Open] = {}
        self._next_fd = FIRST_FD
        self._locks: dict[str, str] = {}

    # -- for the world ------------------------------------------------------------------------------------------

    def content(self, path: str) -> bytearray | None:
        """Return what a file holds now."""
        inode = self._find(path)
        return inode.data if inode is not None else None

    def lay(self, path: str, content: bytes) -> None:
        """Put a file there, safe on the disk."""
        directory, _, base = path.rpartition("/")
        inode = Inode()
        inode.data += content
        inode.sync()
        self._names[directory][base] = self._certain[directory][base] = inode

    def let_go(self, owner: str) -> None:
        """Free what a process held that has ended."""
        for fd in [fd for fd, one in self._open.items() if one.owner == owner]:
            del self._open[fd]
        for path in [path for path, holder in self._locks.items() if holder == owner]:
            del self._locks[path]

    def held(self) -> dict[str, str]:
        """Return who holds which lock."""
        return dict(self._locks)

    def kill_all(self) -> None:
        """Let every process be gone; the kernel keeps what was written."""
        self._open.clear()
        self._locks.clear()

    def crash(self, chance: random.Random) -> None:
        """Cut the power."""
        self.kill_all()
        seen: set[int] = set()
        for directory, names in self._names.items():
            certain = self._certain[directory]
            for name in [*certain, *(name for name in names if name not in certain)]:
                if certain.get(name) is not names.get(name) and chance.random() < 0.5:
                    _put(names, name, certain.get(name))
            self._certain[directory] = dict(names)
            for inode in names.values():
                if id(inode) not in seen:
                    seen.add(id(inode))
                    _tear(inode, chance)

    def hold(self, path: Path, holder: Mapping[str, Any] | None = None, *, wait_s: float = 0.0) -> "_Held":
        """Take a lock, as `locks.hold` does; who waits for a living holder waits in vain."""
        name = str(path)
        if name in self._locks:
            raise LockedError(f"held by {self._locks[name]}", where=name)
        self._locks[name] = self.owner
        return _Held(self._locks, name)

    # -- for the layer ------------------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        name = os.fspath(path)
        if name in self._names:
            return self._new_fd(_Open(Inode(), name, self.owner, append=False))
        inode = self._find(name)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            self.on_call("create", name)
            directory, _, base = name.rpartition("/")
            inode = self._directory(directory)[base] = Inode()
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        return self._new_fd(_Open(inode, name, self.owner, append=bool(flags & os.O_APPEND)))

    def close(self, fd: int) -> None:
        if self._open.pop(fd, None) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def read(self, fd: int, size: int) -> bytes:
        one = self._file(fd)
        data = bytes(one.inode.data[one.offset : one.offset + size])
        one.offset += len(data)
        return data

    def write(self, fd: int, data: Any) -> int:
        one = self._file(fd)
        inode = one.inode
        allowed = self.on_call("write", one.path)
        piece = data if allowed is None else data[: max(1, allowed)]
        size = len(inode.data)
        if one.append:
            one.offset = size
        inode.touch(one.offset)
        if one.offset > size:
            inode.data += bytes(one.offset - size)
        inode.data[one.offset : one.offset + len(piece)] = piece
        one.offset += len(piece)
        return len(piece)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        self._file(fd).offset = offset
        return offset

    def fstat(self, fd: int) -> Any:
        one = self._file(fd)
        return _Status(stat.S_IFREG | 0o600, len(one.inode.data), one.inode.names)

    def fsync(self, fd: int) -> None:
        one = self._file(fd)
        self.on_call("sync", one.path)
        if one.path in self._names:
            self._certain[one.path] = dict(self._names[one.path])
        else:
            one.inode.sync()
            self.on_synced(one.path)

    fdatasync = fsync

    def posix_fadvise(self, fd: int, offset: int, size: int, advice: int) -> None:
        """Begin a sync: that may be too late for a power cut, so it changes nothing."""

    def ftruncate(self, fd: int, size: int) -> None:
        one = self._file(fd)
        self.on_call("truncate", one.path)
        one.inode.touch(size)
        del one.inode.data[size:]
        one.inode.data += bytes(size - len(one.inode.data))

    def replace(self, source: Any, target: Any) -> None:
        self.on_call("rename", os.fspath(target))
        old, _, old_base = os.fspath(source).rpartition("/")
        new, _, new_base = os.fspath(target).rpartition("/")
        inode = self._directory(old).pop(old_base)
        self._directory(new)[new_base] = inode

    def unlink(self, path: Any) -> None:
        directory, _, base = os.fspath(path).rpartition("/")
        if base not in self._directory(directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.on_call("unlink", os.fspath(path))
        del self._directory(directory)[base]

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        self.on_call("mkdir", os.fspath(path))
        self._names.setdefault(os.fspath(path), {})
        self._certain.setdefault(os.fspath(path), {})

    def chmod(self, path: Any, mode: int) -> None:
        return

    def listdir(self, path: Any) -> list[str]:
        return [*self._directory(os.fspath(path))]

    def readlink(self, path: str) -> str:
        return self._file(int(path.rpartition("/")[2])).path

    # -- inside -------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Inode | None:
        directory, _, base = path.rpartition("/")
        return self._names.get(directory, {}).get(base)

    def _directory(self, path: str) -> dict[str, Inode]:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _file(self, fd: int) -> _Open:
        try:
            return self._open[fd]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def _new_fd(self, one: _Open) -> int:
        self._next_fd += 1
        self._open[self._next_fd] = one
        return self._next_fd


for _name, _value in vars(os).items():  # constants, and what does not touch files
    if not hasattr(SimulatedDisk, _name):
        setattr(SimulatedDisk, _name, staticmethod(_value) if callable(_value) else _value)


class _Paths:
    """`os.path`, as far as the layer asks for it."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self.dirname = os.path.dirname
        self.abspath = os.path.abspath

    def isdir(self, path: Any) -> bool:
        return os.fspath(path) in self._disk._names

    def exists(self, path: Any) -> bool:
        return self._disk._find(os.fspath(path)) is not None or self.isdir(path)

    lexists = exists


class _Held:
    """A lock that is held."""

    def __init__(self, locks: dict[str, str], name: str) -> None:
        self._locks = locks
        self._name = name

    def release(self) -> None:
        self._locks.pop(self._name, None)


def _put(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
    if inode is None:
        del names[name]
    else:
        names[name] = inode


def _tear(inode: Inode, chance: random.Random) -> None:
    """Leave what was certain, and of the rest what chance does: nothing, a part, all, or zeros in its place."""
    certain, data = inode.certain(), bytes(inode.data)
    if certain != data:
        if inode.before is None:
            tail = data[len(certain) :]
            cut = chance.choice((0, len(tail), int(chance.random() * len(tail)), int(chance.random() * len(tail))))
            left = certain + (tail[:cut] if chance.random() < 0.8 else bytes(cut))
        else:
            left = chance.choice((certain, data))
        inode.data = bytearray(left)
    inode.sync()


@contextmanager
def simulated(disk: SimulatedDisk) -> Iterator[None]:
    """Have the storage layer and the locks of workers work on this disk."""
    before: list[tuple[Any, str, Any]] = []
    for module, name, instead in (
        (layer, "os", disk),
        (ledger_worker, "hold", disk.hold),
        (run_state_keeper, "hold", disk.hold),
    ):
        before.append((module, name, getattr(module, name)))
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, real in before:
            setattr(module, name, real)
