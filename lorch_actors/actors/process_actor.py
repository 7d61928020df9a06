"""Process actors: actors whose work is done by a worker in an operating-system process of its own.

This is the front, the actor that holds the link. Promises: every message given to ``send`` is handled by a worker
at least once and in order, however often workers die, until it is acknowledged; a worker that dies or stands still is
killed for certain before the next one starts; the supervisor decides whether there is a next one. A message on which
a worker dies again and again is named to the supervisor (``PoisonMessage``) instead of being delivered for ever.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from lorch_actors import errors
from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.child import Mishap
from lorch_actors.actors.messages import (
    LATER,
    Call,
    Crash,
    PoisonMessage,
    RestartWorker,
    Shutdown,
    Started,
    WorkerDied,
)
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.worker import Frame, FrameKind, Worker, WorkerLink
from lorch_actors.processes import ProcessIdentity

_LAUNCHES_MAX: Final = 3
_DEATH_WAIT_MS: Final = 2_000  # for a killed worker to be dead when its front ends; it is usually one or two


class WorkerFailed(Mishap):
    """A worker process died, stood still, or ended by an exception that is none of ours."""


class ProcessActor(Actor):
    """See the module. ``create`` makes the worker, over there: a picklable callable, such as a class or a partial.

    stall_ms: how long the oldest message may take without acknowledgement or sign of progress.
    start_ms: how long a worker may take to say hello.
    deaths_max: so many deaths on one message make it poison.
    Subclasses override ``on_hello``, ``on_worker_up``, ``on_reply``, ``on_acked`` and, for what others tell them,
    ``receive``.
    """

    def __init__(
        self,
        context: ActorContext,
        *,
        create: Callable[[], Worker],
        stall_ms: int = 10_000,
        start_ms: int = 10_000,
        deaths_max: int = 3,
    ) -> None:
        super().__init__(context)
        self._create = create
        self._stall_ms = stall_ms
        self._start_ms = start_ms
        self._deaths_max = deaths_max
        self._link: WorkerLink | None = None
        self._launches = 0  # what is said about an earlier worker is told by its number
        self._up = False  # the worker has said hello
        self._stillborn = 0  # launches in a row that ended without a word before that
        self._stopping = False
        self._failure: errors.LorchError | None = None  # what the worker, or we, say about its end
        self._unacknowledged: deque[tuple[int, Any]] = deque()
        self._last = 0  # number of the last message
        self._sent = 0  # number of the last message given to this worker
        self._deaths = 0  # of workers that had only the oldest unacknowledged message in hand
        self._suspect_until = 0  # a worker died with several messages in hand, up to this one
        self._careful_until = 0  # it happened again: up to this one they are delivered one at a time
        self._sign_ms = 0  # when the worker last showed that it works
        self._start_timer: Timer | None = None
        self._stall_timer: Timer | None = None
        context.fence.on_cut(self._kill)

    # -- for subclasses -----------------------------------------------------------------------------------------

    def on_hello(self, hello: dict[str, Any]) -> None:
        """Take what the worker's ``open`` returned: at the start and after every restart of the worker."""

    def on_worker_up(self, identity: ProcessIdentity) -> None:
        """Note which process the worker is, before each ``on_hello``. Not called where workers are no processes."""

    def on_reply(self, reply: Any) -> None:
        """Take one reply. After a restart of the worker, replies to messages may come a second time."""

    def on_acked(self, number: int) -> None:
        """Note that every message up to ``number`` has been handled."""

    def send(self, message: Any) -> int:
        """Send a message to the worker, this one or the next; return its number, counted from 1. Never blocks."""
        self._last += 1
        self._unacknowledged.append((self._last, message))
        self._deliver()
        return self._last

    @property
    def unacknowledged(self) -> int:
        """How many messages have been sent and not acknowledged."""
        return len(self._unacknowledged)

    @property
    def worker_pid(self) -> int | None:
        """The pid of the worker process; None while there is none."""
        identity = self._link.identity if self._link is not None else None
        return identity.pid if identity is not None else None

    # -- life of the actor --------------------------------------------------------------------------------------

    def started(self) -> bool:
        """Start the first worker; its hello acknowledges the start."""
        self._launch()
        return LATER

    def stopping(self) -> bool:
        """Let the worker finish what it was given, close it, end."""
        self._stopping = True
        if self._link is None:
            self._end_without_worker(WorkerFailed(f"the worker of {self.name} was dead when it was to stop"))
        self._close_when_done()
        return LATER

    def cleanup(self) -> None:
        """Kill the worker, for certain, so that a successor meets nobody."""
        self._drop_link(_DEATH_WAIT_MS)

    def _handle(self, message: Any) -> None:
        if isinstance(message, RestartWorker):
            if self._link is None and not self._stopping:
                self._launch()
        else:
            super()._handle(message)

    # -- life of the worker -------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._up = False
        self._failure = None
        self._sent = 0
        self._launches += 1
        wake = Call(partial(self._on_wake, self._launches))
        overdue = Call(partial(self._on_start_overdue, self._launches))
        self._link = self.runtime.workers.start(self.name, self._create, lambda: self.tell_self(wake))
        self._start_timer = self.tell_later(self._start_ms, overdue)

    def _current(self, launch: int) -> WorkerLink | None:
        return self._link if launch == self._launches else None

    def _on_wake(self, launch: int) -> None:
        link = self._current(launch)
        if link is None:
            return
        for frame in link.take():
            self._on_frame(frame)
        why = link.dead()
        if why is not None:
            self._on_death(why)

    def _on_frame(self, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.HELLO:
                self._on_worker_up(frame.body)
            case FrameKind.ACK:
                for reply in frame.body:
                    self.on_reply(reply)
                self._on_ack(frame.number)
            case FrameKind.PROGRESS:
                self._sign_ms = self.now_ms()
            case FrameKind.FAILED:
                self._failure = _rebuild(self.name, frame.body)
            case FrameKind.MESSAGE:
                raise TypeError(f"{self.name}: a worker sent a message instead of a reply")

    def _on_worker_up(self, body: Any) -> None:
        self._up = True
        self._stillborn = 0
        if self._start_timer is not None:
            self._start_timer.cancel()
        if self._link is not None and self._link.identity is not None:
            self.on_worker_up(self._link.identity)
        self.on_hello(body)
        if self._announced:
            # Again, for the new worker: the supervisor reports the restart.
            self.tell_supervisor(Started(self.name, self.context.incarnation))
        self.ready()
        self._deliver()
        self._close_when_done()

    def _on_ack(self, number: int) -> None:
        self._sign_ms = self.now_ms()
        while self._unacknowledged and self._unacknowledged[0][0] <= number:
            self._unacknowledged.popleft()
            self._deaths = 0
        self.on_acked(number)
        self._deliver()
        self._close_when_done()

    def _deliver(self) -> None:
        """Give the worker what it has not had yet."""
        if self._link is None or not self._up or not self._unacknowledged:
            return
        first = self._unacknowledged[0][0]
        if not self._in_hand():
            self._sign_ms = self.now_ms()
        until = 1 if first <= self._careful_until else len(self._unacknowledged)
        for number, message in islice(self._unacknowledged, max(0, self._sent + 1 - first), until):
            self._link.send(number, message)
            self._sent = number
        if self._stall_timer is None:
            self._watch_for_stall()

    def _in_hand(self) -> bool:
        return bool(self._unacknowledged) and self._unacknowledged[0][0] <= self._sent

    def _watch_for_stall(self) -> None:
        left_ms = self._sign_ms + self._stall_ms - self.now_ms()
        self._stall_timer = self.tell_later(left_ms, Call(partial(self._on_stall, self._launches)))

    def _on_stall(self, launch: int) -> None:
        self._on_wake(launch)  # perhaps it is we who stood still, and the answer is here
        link = self._current(launch)
        if link is None:
            return
        self._stall_timer = None
        if self._in_hand():
            if self.now_ms() >= self._sign_ms + self._stall_ms:
                self._failure = WorkerFailed(f"the worker of {self.name} stood still for {self._stall_ms} ms")
                link.kill()
            else:
                self._watch_for_stall()

    def _on_start_overdue(self, launch: int) -> None:
        link = self._current(launch)
        if link is not None and not self._up:
            self._failure = WorkerFailed(f"the worker of {self.name} did not start within {self._start_ms} ms")
            link.kill()

    def _on_death(self, why: str) -> None:
        self._blame()
        error = self._failure or WorkerFailed(f"the worker of {self.name}: {why}")
        never_was = self._link is not None and self._link.identity is None
        silent = not self._up and self._failure is None  # it did not come to saying why
        self._drop_link(0)
        if self._stopping:
            self._end_without_worker(error)
        elif silent and (never_was or not self._announced) and self._stillborn + 1 < _LAUNCHES_MAX:
            self._stillborn += 1
            self._launch()  # most likely the fork server died under it: no death of a worker, and no restart
        elif not self._announced:
            raise error
        elif self._deaths >= self._deaths_max:
            self.tell_supervisor(PoisonMessage(self.name, self._unacknowledged[0][1], self._deaths))
        else:
            self.tell_supervisor(WorkerDied(self.name, Crash(error)))

    def _blame(self) -> None:
        """Count a death against the message in hand.

        Of several in hand any may be the cause. They are delivered together once more, since most deaths have nothing
        to do with messages; after the second time one by one, so that the innocent are handled and the culprit is left.
        """
        if not self._up or not self._in_hand():
            return
        first = self._unacknowledged[0][0]
        if self._sent == first:
            self._deaths += 1
        elif first <= self._suspect_until:
            self._careful_until = self._sent
        else:
            self._suspect_until = self._sent

    def _end_without_worker(self, error: errors.LorchError) -> None:
        self.finish(Crash(error) if self._unacknowledged else Shutdown())

    def _close_when_done(self) -> None:
        if self._stopping and self._link is not None and not self._unacknowledged:
            self._link.close_sending()

    def _drop_link(self, wait_ms: int) -> None:
        for timer in (self._start_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._start_timer = self._stall_timer = None
        link, self._link = self._link, None
        self._up = False
        if link is not None:
            link.release(wait_ms)

    def _kill(self) -> None:
        link = self._link
        if link is not None:
            link.kill()


def _rebuild(name: str, body: dict[str, str]) -> errors.LorchError:
    """Return the worker's exception as it was, if it is one of ours."""
    kind = getattr(errors, body["type"], None)
    if isinstance(kind, type) and issubclass(kind, errors.LorchError):
        return kind(body["what"], where=body["where"], remedy=body["remedy"])
    return WorkerFailed(f"the worker of {name} failed with {body['what']}", where=body["where"])
