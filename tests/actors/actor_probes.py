"""What the tests of this room share: a clock moved by hand, a receiver that remembers, actors that do as told."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER, Shutdown

PATIENCE_S = 10
"""How long a test waits for what must come; only a failing test waits that long."""


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now_ms = 1_000_000
        self.on_move: Callable[[], None] = lambda: None

    def wall_ms(self) -> int:
        return self._now_ms

    def steady_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms
        self.on_move()


class Probe:
    """A receiver that keeps what it is told, in order."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def tell(self, message: Any) -> None:
        self._queue.put(message)

    def next(self) -> Any:
        return self._queue.get(timeout=PATIENCE_S)

    def take(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]

    def rest(self) -> list[Any]:
        kept = []
        while not self._queue.empty():
            kept.append(self._queue.get())
        return kept


class Obedient(Actor):
    """Logs its life to ``log`` and does what it is told: a callable is called with the actor."""

    def __init__(self, context: ActorContext, *, log: Probe, ended: Probe | None = None) -> None:
        super().__init__(context)
        self.log = log
        self.gone = ended

    def started(self) -> bool | None:
        self.log.tell(("up", self.name))
        return None

    def receive(self, message: Any) -> None:
        if callable(message):
            message(self)
        else:
            self.log.tell((self.name, message))

    def cleanup(self) -> None:
        self.log.tell(("down", self.name))

    def end(self) -> None:
        super().end()
        if self.gone is not None:
            self.gone.tell(self.name)


class HangsInStart(Obedient):
    """Does not come back from its start until ``release`` is set; from the incarnation ``hang_from`` on."""

    def __init__(
        self,
        context: ActorContext,
        *,
        log: Probe,
        release: threading.Event,
        hang_from: int = 1,
        ended: Probe | None = None,
    ) -> None:
        super().__init__(context, log=log, ended=ended)
        self.release = release
        self.hang_from = hang_from

    def started(self) -> None:
        super().started()
        if self.context.incarnation >= self.hang_from:
            self.log.tell(("hangs", self.name))
            self.release.wait(PATIENCE_S)


class NeverStops(Obedient):
    """Goes on when it is asked to stop."""

    def stopping(self) -> bool:
        self.log.tell(("asked to stop", self.name))
        return LATER


class HangsInStop(Obedient):
    """Does not come back from ``stopping`` until ``release`` is set, and then speaks."""

    def __init__(self, context: ActorContext, *, log: Probe, release: threading.Event, ended: Probe) -> None:
        super().__init__(context, log=log, ended=ended)
        self.release = release

    def stopping(self) -> None:
        self.log.tell(("hangs", self.name))
        self.release.wait(PATIENCE_S)
        self.log.tell(("spoke", self.tell("listener", "too late")))


def crash(actor: Obedient) -> None:
    """Raise what nobody expects."""
    raise RuntimeError("told to crash")


def end_normally(actor: Obedient) -> None:
    """End of its own accord."""
    actor.finish()


def end_by_shutdown(actor: Obedient) -> None:
    """End as if asked to."""
    actor.finish(Shutdown())
