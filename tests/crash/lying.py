"""What a disk may show after a power cut: what was synced, and of the rest whatever it likes.

`Recorder` writes down what the storage layer asked the kernel for. `Disk` plays that again, call by call, and knows at
each moment what is certain: a file's content up to its last sync, a name once its directory was synced. Of the rest,
`Disk.after` takes a `Fate`: unsynced writes are there, gone, torn at a block, or zeros under a grown size; unsynced
names likewise, each for itself, so that renames come in any order (the model of ALICE, Pillai et al., OSDI 2014).
"""

import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tampering import Call

BLOCK_BYTES = 512


@dataclass(frozen=True)
class Note:
    """One call that succeeded. told: how many entries had been acknowledged before it."""

    name: str
    path: str
    told: int
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    target: str = ""


class Recorder:
    """Performs calls and notes them. ``told`` says how many entries have been acknowledged."""

    def __init__(self, root: Path, told: Callable[[], int]) -> None:
        self.notes: list[Note] = []
        self._root = str(root)
        self._told = told

    def __call__(self, call: Call) -> Any:
        arguments = call.arguments
        told = self._told()
        if call.name == "create":
            return self._create(call, told)
        if call.name in {"replace", "unlink", "mkdir"}:
            done = call.perform()
            target = self._below(arguments[1]) if call.name == "replace" else ""
            self.notes.append(Note(call.name, self._below(arguments[0]), told, target=target))
            return done
        if call.name == "chmod":
            return call.perform()
        found = os.fstat(arguments[0])
        if stat.S_ISDIR(found.st_mode):
            done = call.perform()
            self.notes.append(Note("sync names", self._below(call.place), told))
            return done
        return self._on_file(call, told, found)

    def _on_file(self, call: Call, told: int, found: os.stat_result) -> Any:
        path = self._below(call.place)
        offset = os.lseek(call.arguments[0], 0, os.SEEK_CUR)
        done = call.perform()
        if call.name == "write":
            offset = os.lseek(call.arguments[0], 0, os.SEEK_CUR) - done
            data = bytes(call.arguments[1][:done])
            self.notes.append(Note("write", path, told, found.st_ino, offset, data))
        elif call.name == "ftruncate":
            self.notes.append(Note("truncate", path, told, found.st_ino, call.arguments[1]))
        else:
            self.notes.append(Note("sync", path, told, found.st_ino))
        return done

    def _create(self, call: Call, told: int) -> int:
        is_new = not os.path.lexists(call.arguments[0])
        fd: int = call.perform()
        if is_new:
            self.notes.append(Note("create", self._below(call.arguments[0]), told, os.fstat(fd).st_ino))
        return fd

    def _below(self, path: Any) -> str:
        return os.path.relpath(os.fsdecode(path), self._root)


@dataclass
class _File:
    """certain: content as of the last sync. unsynced: what was done since, writes and truncations in order."""

    certain: bytes = b""
    unsynced: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Fate:
    """What a power cut leaves of what was not synced.

    names: whether an unsynced change of a name is there. writes: what of an unsynced write is there: a number of bytes
    from its start, or None for zeros in its place. Both are asked once for each.
    """

    told: str
    names: Callable[[], bool]
    writes: Callable[[int], int | None]


def fates(seed: object) -> list[Fate]:
    """Return the fates that are tried at each moment: the extreme ones, and some by chance."""
    chance = random.Random(str(seed))

    def torn(size: int) -> int | None:
        return chance.choice(
            [0, size, None, min(size, BLOCK_BYTES * chance.randrange(1, 9)), chance.randrange(size + 1)]
        )

    return [
        Fate("nothing unsynced is left", lambda: False, lambda _: 0),
        Fate("names are left, data is not", lambda: True, lambda _: 0),
        Fate("names and sizes are left, data is zeros", lambda: True, lambda _: None),
        Fate("data is left, names are not", lambda: False, lambda size: size),
        Fate("names are left, data is torn", lambda: True, torn),
        Fate("whatever chance leaves", lambda: chance.random() < 0.5, torn),
        Fate("whatever chance leaves, again", lambda: chance.random() < 0.5, torn),
    ]


class Disk:
    """The state of a disk below a root while notes are played. ``before``: what was there for certain."""

    def __init__(self, before: Path) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._directories: set[str] = {"."}
        self._certain_names: dict[str, int] = {}
        self._certain_directories: set[str] = {"."}
        self._unsynced: list[Note] = []
        for path in sorted(before.rglob("*")):
            name = str(path.relative_to(before))
            if path.is_dir():
                self._directories.add(name)
                self._certain_directories.add(name)
            else:
                inode = -len(self._files) - 1
                self._files[inode] = _File(path.read_bytes())
                self._names[name] = self._certain_names[name] = inode

    def play(self, note: Note) -> None:
        """Take one call."""
        match note.name:
            case "create":
                self._files[note.inode] = _File()
                self._unsynced.append(note)
            case "replace" | "unlink" | "mkdir":
                if note.name == "mkdir" or note.path in self._inodes():
                    self._unsynced.append(note)
            case "write" | "truncate" if note.inode in self._files:
                self._files[note.inode].unsynced.append(note)
            case "sync" if note.inode in self._files:
                file = self._files[note.inode]
                file.certain = _content(file, lambda size: size)
                file.unsynced.clear()
            case "sync names":
                self._sync_names(note.path)

    def after(self, fate: Fate) -> tuple[dict[str, bytes], set[str]]:
        """Return files and directories as they are found after a power cut now."""
        names, directories = dict(self._certain_names), set(self._certain_directories)
        inodes = self._inodes()
        for note in self._unsynced:
            if fate.names():
                _rename(note, names, directories, inodes)
        contents = {inode: _content(file, fate.writes) for inode, file in sorted(self._files.items())}
        there = {name for name in directories if all(str(up) in directories for up in Path(name).parents)}
        files = {name: contents[inode] for name, inode in names.items() if str(Path(name).parent) in there}
        return files, there

    def _sync_names(self, directory: str) -> None:
        inodes = self._inodes()
        left = []
        for note in self._unsynced:
            if str(Path(note.path).parent) == directory:
                _rename(note, self._certain_names, self._certain_directories, inodes)
            else:
                left.append(note)
        self._unsynced = left

    def _inodes(self) -> dict[str, int]:
        """Return which file each name stood for last, also names that were given up since."""
        found = dict(self._certain_names)
        for note in self._unsynced:
            if note.name == "create":
                found[note.path] = note.inode
            elif note.name == "replace":
                found[note.target] = found[note.path]
        return found


def _rename(note: Note, names: dict[str, int], directories: set[str], inodes: dict[str, int]) -> None:
    if note.name == "mkdir":
        directories.add(note.path)
    elif note.name == "create":
        names[note.path] = note.inode
    elif note.name == "unlink":
        names.pop(note.path, None)
    else:
        names[note.target] = names.pop(note.path, inodes[note.path])


def _content(file: _File, writes: Callable[[int], int | None]) -> bytes:
    content = bytearray(file.certain)
    for note in file.unsynced:
        if note.name == "truncate":
            if writes(1) != 0:
                del content[note.offset :]
            continue
        kept = writes(len(note.data))
        data = note.data[:kept] if kept is not None else bytes(len(note.data))
        if data:
            content.extend(bytes(max(0, note.offset - len(content))))
            content[note.offset : note.offset + len(data)] = data
    return bytes(content)


def lay_out(root: Path, files: dict[str, bytes], directories: set[str]) -> None:
    """Make a directory tree of what a disk shows."""
    for name in sorted(directories):
        (root / name).mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.write_bytes(content)
        path.chmod(0o600)
