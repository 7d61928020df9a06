"""A mark that nothing a process usually does takes away: not an empty environment, a session of its own, a dead parent.

It is the soft limit RLIMIT_RTTIME, which children inherit and programs keep (setrlimit(2), execve(2)). The limit counts
for processes under a real-time policy only, and the values used here, from 2^62 microseconds on, are never reached: it
changes nothing but what /proc/PID/limits says (proc_pid_limits(5)).
"""

import hashlib
import os
import resource
from contextlib import suppress
from typing import Final

from lorch_actors.processes import proc

_BASE: Final = 1 << 62
_BITS: Final = 60
_LINE: Final = b"Max realtime timeout"


def set_watermark(name: str) -> None:
    """Mark this process, and whatever it starts from now on, with a name.

    Without effect where somebody has set a hard limit below these values; nothing else in here does that.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_RTTIME, (_value(name), hard))


def watermarked(name: str) -> set[int]:
    """Return the processes of this user that carry the mark of that name, zombies left out."""
    return _carriers(_value(name))


def watermarked_alike() -> set[int]:
    """Return the processes of this user that carry the same mark as this one; none if it carries none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_RTTIME)
    return _carriers(soft) if soft >= _BASE else set()


def _carriers(value: int) -> set[int]:
    user, said = os.geteuid(), str(value).encode()
    found = set()
    for pid in proc.pids():
        with suppress(FileNotFoundError):
            if os.stat(f"/proc/{pid}").st_uid == user and _soft_limit(pid) == said:
                found.add(pid)
    return found


def _value(name: str) -> int:
    return _BASE | int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> (64 - _BITS)


def _soft_limit(pid: int) -> bytes | None:
    for line in (proc.read(f"/proc/{pid}/limits") or b"").splitlines():
        if line.startswith(_LINE):
            return line[len(_LINE) :].split()[0]
    return None
