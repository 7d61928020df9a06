"""Finding, identifying and ending processes for certain, with the standard library alone.

A process is named by boot, pid and start ticks, so a pid that was given to another process never stands for the old
one; a signal goes through a pidfd, so it reaches exactly the process that was looked at. Needs Linux 5.4 or newer.
"""

import os
import signal
import time
from collections.abc import Container
from functools import cache
from typing import Final, NamedTuple

from lorch_actors.processes import proc
from lorch_actors.processes.hunt import end_all
from lorch_actors.processes.proc import (
    below,
    children,
    descendants,
    environment_marker,
    is_exiting,
    marked,
    nearest,
    parents,
)

__all__ = [
    "ProcessIdentity",
    "below",
    "boot_id",
    "children",
    "descendants",
    "die_with_parent",
    "end_all",
    "environment_marker",
    "identify",
    "is_alive",
    "is_exiting",
    "kill",
    "marked",
    "nearest",
    "now_ticks",
    "parents",
    "reap_adopted",
    "set_child_subreaper",
    "set_name",
    "stands_still",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


class ProcessIdentity(NamedTuple):
    """What names one process for ever: boot, pid, and start in clock ticks since that boot."""

    boot_id: str
    pid: int
    start_ticks: int


@cache
def boot_id() -> str:
    """Return the id that the kernel gave to this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Return who has this pid now (a zombie too), or None when nobody has."""
    stat = proc.stat(pid)
    return None if stat is None else ProcessIdentity(boot_id(), pid, int(stat[proc.START_TICKS]))


def now_ticks() -> int:
    """Return the clock that start times of processes are told in: ticks since the boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether that very process still runs; one that stands still does, a zombie does not."""
    handle = proc.open_handle(identity.pid)
    if handle is None:
        return False
    try:
        return identify(identity.pid) == identity and not proc.has_ended(handle)
    finally:
        os.close(handle)


def stands_still(pid: int) -> bool:
    """Tell whether a process was stopped, by a signal or a debugger; one that is busy or waits was not."""
    stat = proc.stat(pid)
    return stat is not None and stat[proc.STATE] in (b"T", b"t")


def kill(identity: ProcessIdentity, signal_number: int) -> bool:
    """Send a signal to that very process; return False when it is gone.

    Raises PermissionError when the process belongs to another user.
    """
    handle = proc.open_handle(identity.pid)
    if handle is None:
        return False
    try:
        # The handle came first: if the pid is still (or again) held by whom we mean, the handle is on it.
        if identify(identity.pid) != identity or proc.has_ended(handle):
            return False
        signal.pidfd_send_signal(handle, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def set_child_subreaper() -> None:
    """Become the parent of every orphaned descendant, instead of init (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Set the name that ps and top show for this process; cut to 15 bytes."""
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(name.encode()[:15])


def die_with_parent(parent_pid: int | None = None) -> None:
    """Have the kernel SIGKILL this process when the *thread* that started it ends (PR_SET_PDEATHSIG).

    parent_pid: who the parent has to be; when it is already gone, this process ends itself at once.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def reap_adopted(owned: Container[int]) -> list[int]:
    """Reap the zombie children that nobody here waits for; return their pids. Never blocks.

    owned: pids of children that others wait for; they are left alone.
    """
    reaped = []
    while (first := _peek_zombie()) is not None and first not in owned:
        if proc.reap(os.P_PID, first):
            reaped.append(first)
    if first is not None:  # it is owned, and the kernel shows no one behind it
        me = os.getpid()
        zombies = [pid for pid in children(me) if pid not in owned and _is_zombie(pid)]
        reaped += [pid for pid in zombies if proc.reap(os.P_PID, pid)]
    return reaped


def _prctl(option: int, argument: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _peek_zombie() -> int | None:
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _is_zombie(pid: int) -> bool:
    stat = proc.stat(pid)
    return stat is not None and stat[proc.STATE] == b"Z"
