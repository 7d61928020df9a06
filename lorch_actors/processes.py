"""Finding, identifying and ending processes for certain, with the standard library alone.

A process is named by boot, pid and start ticks, so a pid that was given to another process never stands for the old
one; a signal goes through a pidfd, so it reaches exactly the process that was looked at. Needs Linux 5.4 or newer.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Container, Iterable
from functools import cache
from itertools import count
from typing import Final, NamedTuple

from lorch_actors import proc
from lorch_actors.proc import children, descendants, environment_marker, marked

__all__ = [
    "ProcessIdentity",
    "boot_id",
    "children",
    "descendants",
    "die_with_parent",
    "end_all",
    "environment_marker",
    "identify",
    "is_alive",
    "kill",
    "marked",
    "reap_adopted",
    "set_child_subreaper",
    "set_name",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_MAX_HANDLES: Final = 256
"""Pidfds held at a time; whoever else is found is taken in the next round."""


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


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether that very process still runs; one that stands still does, a zombie does not."""
    handle = _open(identity.pid)
    if handle is None:
        return False
    try:
        return identify(identity.pid) == identity and not _has_ended(handle)
    finally:
        os.close(handle)


def kill(identity: ProcessIdentity, signal_number: int) -> bool:
    """Send a signal to that very process; return False when it is gone.

    Raises PermissionError when the process belongs to another user.
    """
    handle = _open(identity.pid)
    if handle is None:
        return False
    try:
        # The handle came first: if the pid is still (or again) held by whom we mean, the handle is on it.
        if identify(identity.pid) != identity or _has_ended(handle):
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
        if _reap(os.P_PID, first):
            reaped.append(first)
    if first is not None:  # it is owned, and the kernel shows no one behind it
        me = os.getpid()
        zombies = [pid for pid in children(me) if pid not in owned and _is_zombie(pid)]
        reaped += [pid for pid in zombies if _reap(os.P_PID, pid)]
    return reaped


def end_all(
    find: Callable[[], Iterable[int]], *, grace_s: float = 0, deadline_s: float, keep: Container[int] = ()
) -> list[int]:
    """End every process that `find` finds, again and again until it finds none; return the pids that are left.

    All are stopped before the first is killed, so that none can start another or change its place in the tree
    meanwhile. Ended children of this process are reaped. This process and those in `keep` are never touched.

    grace_s: time between SIGTERM and SIGKILL; 0 sends no SIGTERM. deadline_s: when to give up, counted from now.
    """
    deadline = time.monotonic() + deadline_s
    hunt = _Hunt(find, keep)
    try:
        if grace_s > 0 and hunt.surround(signal.SIGTERM, deadline):
            hunt.wait(min(deadline, time.monotonic() + grace_s))
            hunt.start_over()
        while hunt.surround(signal.SIGSTOP, deadline):
            hunt.send(signal.SIGKILL)
            hunt.wait(deadline)
            if time.monotonic() >= deadline:
                break
        return hunt.survivors()
    finally:
        hunt.start_over()


class _Hunt:
    """Pidfds on the processes to end. One is signalled only if it was found again after its pidfd was opened."""

    def __init__(self, find: Callable[[], Iterable[int]], keep: Container[int]) -> None:
        self._find = find
        self._keep = keep
        self._never = {0, 1, os.getpid()}
        self._refused: set[int] = set()
        self._sighted: dict[int, int] = {}
        self._certain: dict[int, int] = {}

    def surround(self, signal_number: int, deadline: float) -> bool:
        """Send one signal to each, looking again until nobody new is found; return whether there is anyone."""
        for attempt in count():
            found = self._look()
            for pid, handle in list(self._sighted.items()):
                del self._sighted[pid]
                if pid not in found:
                    os.close(handle)
                    continue
                self._certain[pid] = handle
                self._send(pid, handle, signal_number)
            self._sight(found - self._certain.keys())
            if not self._sighted or (attempt > 0 and time.monotonic() >= deadline):
                break
        return bool(self._certain)

    def send(self, signal_number: int) -> None:
        """Send a signal to everybody surrounded."""
        for pid, handle in list(self._certain.items()):
            self._send(pid, handle, signal_number)

    def wait(self, until: float) -> None:
        """Wait for the end of everybody surrounded, at most until then (monotonic seconds), and reap."""
        poll = select.poll()
        pids = {handle: pid for pid, handle in self._certain.items()}
        for handle in pids:
            poll.register(handle, select.POLLIN)
        while self._certain:
            left_ms = max(0, int((until - time.monotonic()) * 1000) + 1)
            ended = poll.poll(left_ms)
            for handle, _ in ended:
                poll.unregister(handle)
                _reap(os.P_PIDFD, handle)
                os.close(self._certain.pop(pids[handle]))
            if not ended and time.monotonic() >= until:
                return

    def survivors(self) -> list[int]:
        """Return who is still found and still runs."""
        self._refused.clear()
        return sorted(pid for pid in self._look() if (identity := identify(pid)) and is_alive(identity))

    def start_over(self) -> None:
        """Let go of every handle."""
        for handle in (*self._sighted.values(), *self._certain.values()):
            os.close(handle)
        self._sighted.clear()
        self._certain.clear()

    def _look(self) -> set[int]:
        return {pid for pid in self._find() if pid not in self._keep} - self._never - self._refused

    def _sight(self, pids: Iterable[int]) -> None:
        for pid in pids:
            if len(self._sighted) + len(self._certain) >= _MAX_HANDLES:
                return
            try:
                handle = _open(pid)
            except OSError:  # no descriptors left: go on with whom we have, they give theirs back
                if not self._sighted and not self._certain:
                    raise
                return
            if handle is not None and _has_ended(handle):
                _reap(os.P_PIDFD, handle)
                os.close(handle)
            elif handle is not None:
                self._sighted[pid] = handle

    def _send(self, pid: int, handle: int, signal_number: int) -> None:
        try:
            signal.pidfd_send_signal(handle, signal_number)
        except ProcessLookupError:
            pass  # it ended and was reaped by its parent: the wait sees it
        except PermissionError:
            self._refused.add(pid)
            os.close(self._certain.pop(pid))


def _prctl(option: int, argument: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _has_ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _reap(kind: int, child: int) -> bool:
    try:
        return os.waitid(kind, child, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def _peek_zombie() -> int | None:
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _is_zombie(pid: int) -> bool:
    stat = proc.stat(pid)
    return stat is not None and stat[proc.STATE] == b"Z"
