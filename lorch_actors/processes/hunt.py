"""Ending processes for certain: whatever session, group or state they are in, and while they start others.

Use it through `lorch_actors.processes`.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from itertools import count
from typing import Final

from lorch_actors.processes import proc

_MAX_HANDLES: Final = 256
"""Pidfds held at a time; whoever else is found is taken in the next round."""
_RESERVE: Final = 4


def end_all(
    find: Callable[[], Iterable[int]], *, grace_s: float = 0, deadline_s: float, keep: Container[int] = ()
) -> list[int]:
    """End every process that `find` finds, again and again until it finds none; return the pids that are left.

    All are stopped before the first is killed, so that none can start another or change its place in the tree
    meanwhile. Ended children of this process are reaped. This process and those in `keep` are never touched.
    Processes that start each other and end faster than one can look are ended by their process group, if one of them
    founded it; when a child subreaper hunts its descendants, none of them goes unnoticed: each leaves a zombie.

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
            hunt.is_fast = True
            if time.monotonic() >= deadline:
                break
        else:
            if not hunt.is_refused:
                return []  # the last look found nobody
        return hunt.survivors()
    finally:
        hunt.start_over()


class _Hunt:
    """Pidfds on the processes to end. One is signalled only if it was found again after its pidfd was opened.

    is_fast: whether to use process groups too, because somebody is still found after all were killed once.
    """

    def __init__(self, find: Callable[[], Iterable[int]], keep: Container[int]) -> None:
        self._find = find
        self._keep = keep
        self._never = {0, 1, os.getpid()}
        self._refused: set[int] = set()
        self._sighted: dict[int, int] = {}
        self._certain: dict[int, int] = {}
        self._seen: set[int] = set()
        self._just_ended: list[int] = []
        self.is_fast = False

    @property
    def is_refused(self) -> bool:
        """Whether anybody was found whom we may not signal."""
        return bool(self._refused)

    def surround(self, signal_number: int, deadline: float) -> bool:
        """Send one signal to each, looking again until nobody new runs; return whether there was anyone."""
        self._just_ended.clear()
        for attempt in count():
            found = self._look()
            self._seen |= found
            if self.is_fast and found:
                self._kill_groups(found)
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
        return bool(self._certain or self._just_ended)

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
                proc.reap(os.P_PIDFD, handle)
                os.close(self._certain.pop(pids[handle]))
            if not ended and time.monotonic() >= until:
                return

    def survivors(self) -> list[int]:
        """Return who is still found and still runs; of those too fast to be met alive, the last that ended."""
        self._refused.clear()
        alive = [pid for pid in self._look() if _is_alive(pid)]
        return sorted(alive or self._just_ended)

    def start_over(self) -> None:
        """Let go of every handle."""
        for handle in (*self._sighted.values(), *self._certain.values()):
            os.close(handle)
        self._sighted.clear()
        self._certain.clear()

    def _look(self) -> set[int]:
        return {pid for pid in self._find() if pid not in self._keep} - self._never - self._refused

    def _sight(self, pids: Iterable[int]) -> None:
        reserve: list[int] = []
        try:
            while len(reserve) < _RESERVE:  # looking takes descriptors too
                reserve.append(os.pidfd_open(os.getpid()))
            for pid in pids:
                if len(self._sighted) + len(self._certain) >= _MAX_HANDLES:
                    break
                self._take_up(pid)
        except OSError:  # no descriptors left: go on with whom we have, they give theirs back
            if not self._sighted and not self._certain:
                raise
        finally:
            for handle in reserve:
                os.close(handle)

    def _take_up(self, pid: int) -> None:
        handle = proc.open_handle(pid)
        if handle is not None and proc.has_ended(handle):
            if proc.reap(os.P_PIDFD, handle):
                self._just_ended.append(pid)
            os.close(handle)
        elif handle is not None:
            self._sighted[pid] = handle

    def _kill_groups(self, found: set[int]) -> None:
        kept = {proc.group(pid) for pid in self._find() if pid in self._keep}
        for pid in found:
            stat = proc.stat(pid)
            if stat is None or int(stat[proc.PARENT]) != os.getpid():
                continue  # only a child that we have not reaped holds the number of its group for certain
            group = int(stat[proc.GROUP])
            if group in self._seen and group not in kept and group != os.getpgrp():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)

    def _send(self, pid: int, handle: int, signal_number: int) -> None:
        try:
            signal.pidfd_send_signal(handle, signal_number)
        except ProcessLookupError:
            pass  # it ended and was reaped by its parent: the wait sees it
        except PermissionError:
            self._refused.add(pid)
            os.close(self._certain.pop(pid))


def _is_alive(pid: int) -> bool:
    handle = proc.open_handle(pid)
    if handle is None:
        return False
    try:
        return not proc.has_ended(handle)
    finally:
        os.close(handle)
