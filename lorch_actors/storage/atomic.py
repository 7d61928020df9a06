"""Whole files that are either the old ones or the new ones, whatever dies in between (SPEC §2).

Written to a temporary file ``.<name>.tmp.<pid>.<8 hex>`` beside the target, synced, renamed over it, and the rename
synced. The pid in the name tells the next start whose leftovers it may remove.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk

_LEFTOVER: Final = re.compile(r"\..+\.tmp\.([0-9]{1,10})\.[0-9a-f]{8}", re.DOTALL)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file's content, 0600, or leave it untouched and raise StorageError."""
    write_all({path: data})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace the contents of files, 0600 each. When StorageError is raised, some are the new ones, some the old ones.

    All are written before the first is synced, and all are in place before the first directory is: what a file system
    brings on the disk for one of them, it brings for the others as well.
    """
    targets = {_name_beside(path): path for path in contents}
    try:
        _write_whole(zip(targets, contents.values(), strict=True))
        for temporary, path in targets.items():
            disk.replace(temporary, path)
    except StorageError as error:
        _discard(targets)
        meant = {os.fsdecode(path): path for path in contents}
        meant |= {os.path.basename(temporary): path for temporary, path in targets.items()}
        where = meant.get(error.where) or meant.get(os.path.basename(error.where), next(iter(contents)))
        raise type(error)(error.what, where=os.fsdecode(where), remedy=error.remedy) from error.__cause__
    except BaseException:
        _discard(targets)
        raise
    for directory in dict.fromkeys(path.parent for path in contents):
        disk.sync_directory(directory)


def write_first(path: Path, data: bytes) -> bool:
    """Make the file, 0600, whole and at once, unless there is one already; tell which. Raises StorageError."""
    temporary = _name_beside(path)
    try:
        _write_whole([(temporary, data)])
        is_first = disk.link(temporary, path)
    finally:
        _discard([temporary])
    disk.sync_directory(path.parent)
    return is_first


def _name_beside(path: Path) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.tmp.{os.getpid()}.{os.urandom(4).hex()}")


def _write_whole(contents: Iterable[tuple[str, bytes]]) -> None:
    with ExitStack() as opened:
        written = []
        for path, data in contents:
            fd = disk.create(path)
            opened.callback(disk.close, fd)
            disk.write(fd, data)
            disk.begin_sync(fd)
            written.append(fd)
        for fd in written:
            disk.sync_file(fd)


def _discard(temporaries: Iterable[str]) -> None:
    for one in temporaries:
        with suppress(StorageError):  # the error under way tells more; the next start removes what is left
            disk.unlink(one)


def write_json(path: Path, document: Any) -> None:
    """Replace the file by this document, as `json_bytes` has it."""
    write_atomic(path, json_bytes(document))


def json_bytes(document: Any) -> bytes:
    """Return the document as indented JSON, UTF-8, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def remove_leftovers(directory: Path) -> list[Path]:
    """Remove temporary files of processes that are no more; return them. A directory that is absent has none."""
    removed = []
    for name in disk.names_in(directory):
        match = _LEFTOVER.fullmatch(name)
        if match and not _alive(int(match[1])):
            disk.unlink(directory / name)
            removed.append(directory / name)
    return removed


def _alive(pid: int) -> bool:
    """Say whether a process has that pid. A pid in new hands keeps its file until a later start, which harms nobody."""
    return os.path.exists(f"/proc/{pid}")
