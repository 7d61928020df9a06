"""The actor system on one thread, with a clock that only moves when nothing is left to do.

Actors, supervisors, fronts and workers are the program's own; what is replaced are threads, processes, epoll and time.
So a run is a plain function call: the same calls in the same order each time, and a fork in the middle of it is whole.
"""

import heapq
import itertools
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.messages import CallbackFailed
from lorch_actors.actors.runtime import Runtime
from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.actors.worker_loop import WorkerLoop, failure

TURNS_MAX = 30_000


class Stuck(AssertionError):  # noqa: N818 - it is what it says
    """Nothing is left to do, and what was waited for has not come; or it does not come to an end."""


class Alarm:
    """A callback at a point in time."""

    def __init__(self, callback: Callable[[], object], owner: str) -> None:
        self.callback: Callable[[], object] | None = callback
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None


class Inbox:
    """A mailbox that has its actor take a turn for each envelope."""

    def __init__(self, loop: "OneThread") -> None:
        self._loop = loop
        self._envelopes: deque[Any] = deque()
        self.actor: Any = None
        self._closed = False

    def put(self, envelope: Any) -> None:
        self._envelopes.append(envelope)
        self._loop.soon(self.turn)

    def get(self) -> Any:
        return self._envelopes.popleft()

    def empty(self) -> bool:
        return not self._envelopes

    def begin(self) -> None:
        self.actor.begin()
        self._end_if_over()

    def turn(self) -> None:
        if self._envelopes and not self._closed:
            self.actor.step(self.get())
            self._end_if_over()

    def _end_if_over(self) -> None:
        if self.actor.ended and not self._closed:
            self._closed = True
            self.actor.end()


class OneThread:
    """Clock, reactor, execution and host of workers in one: everything a `Runtime` is made of."""

    def __init__(self, start_ms: int) -> None:
        self._now_ms = start_ms
        self._ready: deque[Callable[[], object]] = deque()
        self._alarms: list[tuple[int, int, Alarm]] = []
        self._order = itertools.count()
        self.links: list[InlineLink] = []
        self.runtime = Runtime(self, random.Random(1), self, self, self, execution=self)  # type: ignore[arg-type]
        # what the parts have in common is a name: ``start`` is the execution's and the host's
        self.runtime.execution = _Execution(self)  # type: ignore[assignment]

    # clock

    def wall_ms(self) -> int:
        return self._now_ms

    def steady_ms(self) -> int:
        return self._now_ms

    # reactor

    def call_at(self, steady_ms: int, callback: Callable[[], object], owner: str = "") -> Alarm:
        alarm = Alarm(callback, owner)
        heapq.heappush(self._alarms, (steady_ms, next(self._order), alarm))
        return alarm

    def soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)

    # host of workers

    def start(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> "InlineLink":
        link = InlineLink(self, create, wake)
        self.links.append(link)
        return link

    # the loop

    def run_until(self, reached: Callable[[], object]) -> None:
        """Take turns until something is so; time passes only when there is no turn left to take."""
        for _ in range(TURNS_MAX):
            if reached():
                return
            if self._ready:
                self._ready.popleft()()
            elif self._alarms:
                self._pass_time()
            else:
                raise Stuck("nothing is left to do")
        raise Stuck(f"not over after {TURNS_MAX} turns")

    def close(self) -> None:
        """Let go of what workers hold, as their processes' end would."""
        for link in self.links:
            link.bury()

    def _pass_time(self) -> None:
        at_ms, _, alarm = heapq.heappop(self._alarms)
        callback, alarm.callback = alarm.callback, None
        if callback is None:
            return
        self._now_ms = max(self._now_ms, at_ms)
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - its owner is told, as by the reactor
            self.runtime.directory.tell(alarm.owner, CallbackFailed(error))


class _Execution:
    """Actors take their turns on the loop."""

    def __init__(self, loop: OneThread) -> None:
        self._loop = loop

    def new_inbox(self, actor: Any) -> Inbox:
        return Inbox(self._loop)

    def apart(self, name: str, work: Callable[[], object]) -> None:
        self._loop.soon(work)

    def collect_garbage(self) -> None:
        """Leave it to the interpreter: a run is short."""

    def start(self, actor: Any) -> None:
        actor.actor_inbox.actor = actor
        self._loop.soon(actor.actor_inbox.begin)


class InlineLink:
    """A worker that takes its turns on the loop; messages and replies cross as the bytes of frames."""

    def __init__(self, loop: OneThread, create: Callable[[], Worker], wake: Callable[[], object]) -> None:
        self.identity = None
        self._loop = loop
        self._wake = wake
        self._inbox = bytearray()
        self._outbox: list[Frame] = []
        self._dead: str | None = None
        self._closing = False
        self._worker = create()
        self._work = WorkerLoop(self._worker, self._send)
        loop.soon(lambda: self._attempt(self._work.open))

    def send(self, number: int, message: object) -> None:
        self._inbox += encode_frame(Frame(FrameKind.MESSAGE, number, message))
        self._loop.soon(self._handle)

    def take(self) -> list[Frame]:
        frames, self._outbox = self._outbox, []
        return frames

    def dead(self) -> str | None:
        return self._dead if not self._outbox else None

    def close_sending(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.soon(self._close)

    def kill(self) -> None:
        self._die("killed")

    def release(self, wait_ms: int = 0) -> None:
        self.kill()

    def bury(self) -> None:
        """Free what a process would free by ending: its lock and its descriptors, with nothing written."""
        lock, file = getattr(self._worker, "_lock", None), getattr(self._worker, "_file", None)
        if lock is not None:
            lock.release()
        if file is not None:
            file.close()

    def _handle(self) -> None:
        if self._inbox and self._dead is None:
            frames = FrameReader().feed(bytes(self._inbox))
            self._inbox.clear()
            self._attempt(lambda: self._work.handle(frames))

    def _close(self) -> None:
        self._handle()
        if self._dead is None:
            self._attempt(self._work.close)
            self._die("closed")

    def _attempt(self, deed: Callable[[], object]) -> None:
        if self._dead is not None:
            return
        try:
            deed()
        except Exception as error:  # noqa: BLE001 - its front is told, as by a process
            self._send([failure(error)])
            self._die("failed")
        except BaseException:  # noqa: BLE001 - killed: it says nothing
            self._die("killed")

    def _send(self, frames: Sequence[Frame]) -> None:
        reader = FrameReader()
        self._outbox += [one for frame in frames for one in reader.feed(encode_frame(frame))]
        self._wake()

    def _die(self, why: str) -> None:
        if self._dead is None:
            self._dead = why
            self.bury()
            self._wake()


class _Everybody:
    """Holds whatever is looked for."""

    def __contains__(self, _: object) -> bool:
        return True


class SilentLink:
    """Stands in for the pipe to a guardian, who has started every orchestrator that there ever was."""

    pidfd = -1

    def __init__(self, run_id: str, workspace: str, start: int) -> None:
        self.run_id = run_id
        self.workspace = workspace
        self.start = start
        self.predecessors = _Everybody() if start else ()
        self.guardian_pid = os.getppid()

    def beat(self) -> None:
        pass

    def settled(self) -> None:
        pass
