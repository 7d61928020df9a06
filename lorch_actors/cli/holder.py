"""Who holds a workspace, asked without touching its lock: asking must never make a run that is starting fail."""

import os
from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.cli.documents import HolderBody

_LOCKS: Final = "/proc/locks"
_LOCK_FILE_MAX_BYTES: Final = 65_536


class _Holder(msgspec.Struct):
    pid: int
    run_id: str = ""
    host: str = ""
    command: str | list[str] = ""


def find_holder(lock: Path) -> HolderBody | None:
    """Return who holds the lock file, from the kernel's list of locks and what the holder wrote into the file.

    A file that nobody holds, or that is not there, has no holder, whatever stands in it.
    """
    try:
        inode = os.stat(lock).st_ino
        with open(lock, "rb") as file:
            content = file.read(_LOCK_FILE_MAX_BYTES)
        with open(_LOCKS, encoding="ascii") as locks:
            pids = _holding(locks.read(), inode)
    except OSError:
        return None
    if not pids:
        return None
    try:
        said = msgspec.json.decode(content, type=_Holder)
    except msgspec.DecodeError:
        # held, but not yet (or no longer) signed
        return HolderBody(pid=pids[0], run_id="", host="", command="")
    command = said.command if isinstance(said.command, str) else " ".join(said.command)
    return HolderBody(pid=said.pid, run_id=said.run_id, host=said.host, command=command)


def _holding(locks: str, inode: int) -> list[int]:
    """Return the pids that hold the file of that inode, as in ``1: FLOCK  ADVISORY  WRITE 42 fe:00:99 0 EOF``.

    The device is not compared: on layered file systems it is another one than `stat` tells.
    """
    found = []
    for line in locks.splitlines():
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            found.append(int(words[4]))
    return found
