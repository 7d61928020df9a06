"""The reactor: one thread that waits for files, processes and points in time on behalf of all actors.

Promises: it sleeps in ``epoll`` until something happens, without polling; a callback runs in the reactor's thread,
never after ``unwatch`` has returned and never for an event of an earlier owner of the same descriptor number; a
callback that raises is taken off, reported to ``on_error`` under its owner's name, and harms nobody else.
Callbacks must be short and must not block: usually they tell an actor and return, or are the turn of one.
"""

import contextlib
import heapq
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from lorch_actors.actors.clock import Clock
from lorch_actors.actors.reactor import Callback

_READ: Final = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
_SOON_MAX: Final = 256  # so many calls before descriptors and timers are looked at again
_MANY_CANCELLED: Final = 64  # more than so many, and more than half of all, and the heap is rebuilt without them


class _Watch:
    """Who waits for what on one descriptor."""

    __slots__ = ("edge", "interest", "on_read", "on_write", "owner", "paused", "round")

    def __init__(self, owner: str, round_: int) -> None:
        self.owner = owner
        self.round = round_
        self.on_read: Callback | None = None
        self.on_write: Callback | None = None
        self.edge = 0
        self.paused = False
        self.interest = 0

    def wanted(self) -> int:
        """Return the epoll mask this watch asks for; 0 is none."""
        mask = _READ | self.edge if self.on_read is not None and not self.paused else 0
        return mask | (select.EPOLLOUT if self.on_write is not None else 0)


class _Timer:
    """A callback at a point in time."""

    __slots__ = ("__weakref__", "_reactor", "callback", "order", "owner", "steady_ms")

    def __init__(self, reactor: "EpollReactor", steady_ms: int, order: int, callback: Callback, owner: str) -> None:
        self._reactor = reactor
        self.steady_ms = steady_ms
        self.order = order
        self.callback: Callback | None = callback
        self.owner = owner

    def __lt__(self, other: "_Timer") -> bool:
        return (self.steady_ms, self.order) < (other.steady_ms, other.order)

    def cancel(self) -> None:
        """Call it off. Harmless when it has already run."""
        self._reactor.forget(self)


class EpollReactor:
    """See the module. ``on_error`` gets the owner's name and what its callback raised."""

    def __init__(self, clock: Clock, on_error: Callable[[str, BaseException], None]) -> None:
        self._clock = clock
        self._on_error = on_error
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        # Held while a callback runs, so that nobody closes a descriptor under it; reentrant for the callback itself.
        self._lock = threading.RLock()
        self._watches: dict[int, _Watch] = {}
        self._round = 0
        self._timer_lock = threading.Lock()
        self._timers: list[_Timer] = []
        self._order = 0
        self._cancelled = 0
        self._soon: deque[tuple[Callback, str]] = deque()
        self._asleep = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reactor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and forget all watches and timers, once. The descriptors stay with their owners."""
        if self._closing:
            return
        self._closing = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock, self._timer_lock:
            self._watches.clear()
            self._timers.clear()
            self._epoll.close()
            os.close(self._wake_fd)

    def wake(self) -> None:
        """Make the reactor look at its timers again (the clock was moved)."""
        os.eventfd_write(self._wake_fd, 1)

    def watch_read(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back as long as ``fd`` has something to read, has ended or is broken."""
        with self._lock:
            watch = self._watch(fd, owner)
            watch.on_read = callback
            self._arm(fd, watch)

    def watch_arrivals(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back when more has come to ``fd``, once; see ``Reactor``."""
        with self._lock:
            watch = self._watch(fd, owner)
            watch.on_read = callback
            watch.edge = select.EPOLLET
            self._arm(fd, watch)

    def watch_write(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back once, when ``fd`` can be written or is broken."""
        with self._lock:
            watch = self._watch(fd, owner)
            watch.on_write = callback
            self._arm(fd, watch)

    def watch_process(self, pidfd: int, callback: Callback, owner: str) -> None:
        """Call back once, when the process behind ``pidfd`` is dead. Closing ``pidfd`` stays with the owner."""

        def dead() -> None:
            self.unwatch(pidfd)
            callback()

        self.watch_read(pidfd, dead, owner)

    def pause_read(self, fd: int) -> None:
        """Stop reading ``fd`` for now: no callback, not even when the other end closes."""
        self._set_paused(fd, paused=True)

    def resume_read(self, fd: int) -> None:
        """Go on reading ``fd``. Harmless when it is not watched any more."""
        self._set_paused(fd, paused=False)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``. When this returns no callback runs for it. Do it before closing ``fd``."""
        with self._lock:
            watch = self._watches.pop(fd, None)
            if watch is not None and watch.interest:
                with contextlib.suppress(OSError):  # closed already, against the rules; the kernel has forgotten it
                    self._epoll.unregister(fd)

    def call_at(self, steady_ms: int, callback: Callback, owner: str = "") -> _Timer:
        """Call back at a time of the steady clock; in the past means at once. Equal times keep their order."""
        with self._timer_lock:
            self._order += 1
            timer = _Timer(self, steady_ms, self._order, callback, owner)
            heapq.heappush(self._timers, timer)
            first = self._timers[0] is timer
        if first and threading.current_thread() is not self._thread and not self._closing:
            self.wake()
        return timer

    def call_soon(self, callback: Callback, owner: str = "") -> None:
        """Call back in the reactor's thread as soon as it gets to it."""
        self._soon.append((callback, owner))
        if self._asleep and not self._closing:  # said before the queue is looked at for the last time
            self._asleep = False
            self.wake()

    def forget(self, timer: _Timer) -> None:
        """Take a timer off; see ``Timer.cancel``."""
        with self._timer_lock:
            if timer.callback is None:
                return
            timer.callback = None
            self._cancelled += 1
            if self._cancelled > _MANY_CANCELLED and 2 * self._cancelled > len(self._timers):
                self._timers = [one for one in self._timers if one.callback is not None]
                heapq.heapify(self._timers)
                self._cancelled = 0

    def _watch(self, fd: int, owner: str) -> _Watch:
        watch = self._watches.get(fd)
        if watch is None:
            watch = self._watches[fd] = _Watch(owner, self._round)
        return watch

    def _arm(self, fd: int, watch: _Watch) -> None:
        wanted = watch.wanted()
        if wanted == watch.interest:
            return
        # Nothing wanted means taken out: a descriptor with an empty mask would still report a hang-up, endlessly.
        try:
            if not watch.interest:
                self._epoll.register(fd, wanted)
            elif not wanted:
                self._epoll.unregister(fd)
            else:
                self._epoll.modify(fd, wanted)
        except OSError:
            self._watches.pop(fd, None)
            raise
        watch.interest = wanted

    def _set_paused(self, fd: int, *, paused: bool) -> None:
        with self._lock:
            watch = self._watches.get(fd)
            if watch is not None:
                watch.paused = paused
                self._arm(fd, watch)

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                self._round += 1
            self._asleep = True
            found = self._epoll.poll(self._timeout_s())
            self._asleep = False
            for fd, mask in found:
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                else:
                    self._dispatch(fd, mask)
            self._run_timers()
            self._run_calls()

    def _timeout_s(self) -> float | None:
        if self._soon:
            return 0
        with self._timer_lock:
            if not self._timers:
                return None
            return max(0, self._timers[0].steady_ms - self._clock.steady_ms()) / 1000

    def _dispatch(self, fd: int, mask: int) -> None:
        with self._lock:
            watch = self._watches.get(fd)
            # A watch of this very round may be a new owner of a number that the event was not meant for. If it was,
            # it comes again in the next round: because it is level-triggered, or because we ask for it.
            if watch is None:
                return
            if watch.round == self._round:
                if watch.edge:
                    self._epoll.modify(fd, watch.interest)
                return
            if mask & (_READ | _BROKEN) and watch.on_read is not None and not watch.paused:
                self._call(watch.on_read, watch.owner, fd)
            if mask & (select.EPOLLOUT | _BROKEN) and self._watches.get(fd) is watch and watch.on_write is not None:
                callback, watch.on_write = watch.on_write, None
                self._arm(fd, watch)
                if watch.on_read is None:
                    self.unwatch(fd)
                self._call(callback, watch.owner, fd)

    def _call(self, callback: Callback, owner: str, fd: int | None = None) -> None:
        try:
            callback()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends its owner and not the reactor
            if fd is not None:
                self.unwatch(fd)
            self._on_error(owner, error)

    def _run_calls(self) -> None:
        for _ in range(_SOON_MAX):
            if not self._soon:
                return
            callback, owner = self._soon.popleft()
            self._call(callback, owner)

    def _run_timers(self) -> None:
        now = self._clock.steady_ms()
        while True:
            with self._timer_lock:
                if not self._timers or self._timers[0].steady_ms > now:
                    return
                timer = heapq.heappop(self._timers)
                callback, timer.callback = timer.callback, None
                if callback is None:
                    self._cancelled -= 1
                    continue
            self._call(callback, timer.owner)
