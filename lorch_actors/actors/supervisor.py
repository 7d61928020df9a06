"""Supervisors: actors that start, stop and restart other actors, as in Erlang/OTP.

Children are started in order, each after the one before it has said ``Started``; stopped in reverse order, each with
its shutdown time, then cut off. A supervisor never waits inside a handler: every step it takes is followed by an
answer or a deadline in its mailbox, so it always answers ``Stop``. A start that fails is tried again by a message to
itself and counts like any restart. When there are more restarts than the intensity allows, it stops its children and
crashes upwards with ``RestartLimitExceeded``. A message on which workers die again and again ends every supervisor
above, since a restart would deliver it once more. While a supervisor stops, nothing is restarted.

Differences from OTP: a first start that fails is tried again as well, unless it was refused in so many words (see
``Child.starts_again_after``); a child that hangs in its start fails after ``start_timeout_ms``; deaths of worker
processes below a process actor count in the same window (``WorkerDied``); under ``one_for_one`` a child that is slow
to restart does not hold up the restart of another.
"""

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import pykka
from msgspec import Struct

from lorch_actors.actors.base import Actor, ActorContext, Fence
from lorch_actors.actors.child import (
    ActorHung,
    Child,
    ChildSpec,
    MessagePoisoned,
    Phase,
    Restart,
    RestartLimitExceeded,
    RestartWindow,
    Strategy,
    child,
)
from lorch_actors.actors.messages import (
    LATER,
    Abandon,
    ActorRestarted,
    Crash,
    Down,
    GaveUp,
    PoisonMessage,
    Reason,
    RestartWorker,
    Shutdown,
    Started,
    Stop,
    WorkerDied,
)

_MARGIN_MS: Final = 1_000


class _Overdue(Struct, frozen=True):
    """To self: the start or stop of this incarnation has taken too long."""

    child: str
    incarnation: int


class _NameFree(Struct, frozen=True):
    """To self: whoever bore the name of this child before has ended."""

    child: str


class _Retry(Struct, frozen=True):
    """To self: try the failed restart again."""

    child: str
    reason: Reason


class Supervisor(Actor):
    """See the module. ``report_to`` is the name that is told ``ActorRestarted`` and ``GaveUp``, None for nobody."""

    def __init__(
        self,
        context: ActorContext,
        *,
        children: Sequence[ChildSpec],
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 5,
        period_ms: int = 30_000,
        report_to: str | None = None,
    ) -> None:
        super().__init__(context)
        self._children = [Child(spec) for spec in children]
        self._by_name = {one.name: one for one in self._children}
        if len(self._by_name) != len(self._children):
            raise ValueError(f"{context.name}: two children with one name")
        self._strategy = strategy
        self._window = RestartWindow(intensity, period_ms)
        self._report_to = report_to
        self._ending: Reason | None = None
        self._has_replaced = False
        self._unreported: deque[ActorRestarted | GaveUp] = deque()
        context.fence.on_cut(self._cut_children)

    def started(self) -> bool:
        """Start the children; the start is acknowledged when all are up."""
        self._advance()
        return LATER

    def stopping(self) -> bool:
        """Stop the children in reverse order, then end."""
        self._end(Shutdown())
        return LATER

    def cleanup(self) -> None:
        """Ask those that are left to stop: none after an orderly end, all of them when the supervisor itself fails."""
        for one in reversed(self._children):
            if one.ref is not None:
                _tell(one.ref, Stop())

    def receive(self, message: Any) -> None:
        """Take one step for each report or deadline."""
        match message:
            case Started(name, incarnation):
                self._on_started(name, incarnation)
            case Down(name, incarnation, reason):
                self._on_down(self._current(name, incarnation), reason)
            case _Overdue(name, incarnation):
                self._on_overdue(self._current(name, incarnation))
            case _NameFree(name):
                if self._by_name[name].phase is Phase.STARTING and self._by_name[name].ref is None:
                    self._launch(self._by_name[name])
            case _Retry(name, reason):
                self._by_name[name].retrying = False
                if self._ending is None:
                    self._restart(self._by_name[name], reason)
            case WorkerDied(name, reason):
                self._on_worker_died(self._by_name.get(name), reason)
            case PoisonMessage():
                self._on_poison(message)
            case _:
                super().receive(message)

    # -- what has happened --------------------------------------------------------------------------------------

    def _on_started(self, name: str, incarnation: int) -> None:
        one = self._current(name, incarnation)
        if one is None or one.phase not in (Phase.STARTING, Phase.RUNNING):
            return
        if one.phase is Phase.STARTING:
            one.disarm()
            one.phase = Phase.RUNNING
            one.was_up = True
            one.failed_starts = 0
        if one.cause is not None:
            one.restarts += 1
            self._unreported.append(ActorRestarted(one.name, one.cause, one.restarts))
            one.cause = None
        self._report()
        self._advance()

    def _on_down(self, one: Child | None, reason: Reason) -> None:
        if one is None:
            return
        was, expected = one.phase, one.doomed
        one.gone()
        if expected:
            self._advance()
        elif isinstance(reason, Crash) and isinstance(reason.exception, MessagePoisoned):
            self._end(reason)
        elif was is Phase.STARTING:
            self._on_failed_start(one, reason)
        elif one.restarts_after(reason):
            self._restart(one, reason)
        else:
            one.wanted = False
            self._advance()

    def _on_failed_start(self, one: Child, reason: Reason) -> None:
        one.failed_starts += 1
        if self._announced or one.starts_again_after(reason):
            one.retrying = True
            self.tell_self(_Retry(one.name, reason))
        else:
            self._end(reason)  # the first start of all was refused: fail as the child did

    def _on_overdue(self, one: Child | None) -> None:
        if one is None or one.phase is Phase.RUNNING:
            return
        starting = one.phase is Phase.STARTING
        limit_ms = one.spec.start_timeout_ms if starting else one.spec.shutdown_ms
        self._abandon(one)
        what = f"{one.name} did not {'start' if starting else 'stop'} within {limit_ms} ms"
        self._on_down(one, Crash(ActorHung(what)))

    def _on_worker_died(self, one: Child | None, reason: Crash) -> None:
        if one is None or one.ref is None or one.doomed or self._ending is not None:
            return
        if one.spec.restart is Restart.TEMPORARY:
            one.wanted = False
            one.doomed = True
            self._advance()
        elif self._admit(one, reason):
            one.cause = str(reason)
            _tell(one.ref, RestartWorker())

    def _on_poison(self, message: PoisonMessage) -> None:
        text = repr(message.message)
        shown = text if len(text) <= 300 else f"{text[:300]}…"
        what = f"the process of {message.name} died {message.deaths} times while handling the same message"
        self._end(
            Crash(MessagePoisoned(what, where=shown, remedy="The run can be resumed; please report this message."))
        )

    # -- what is done about it ----------------------------------------------------------------------------------

    def _restart(self, one: Child, reason: Reason) -> None:
        if not self._admit(one, reason):
            return
        one.cause = str(reason)
        position = self._children.index(one)
        group = {Strategy.ONE_FOR_ONE: [], Strategy.REST_FOR_ONE: self._children[position + 1 :]}
        for other in group.get(self._strategy, self._children):
            if other is not one:
                other.wanted = other.spec.restart is not Restart.TEMPORARY
                other.doomed = other.alive
                other.cause = f"restarted with {one.name}" if other.alive and other.wanted else other.cause
        self._advance()

    def _report(self) -> None:
        """Tell what is to be told; who is to hear of it may be restarted as well, and hears of it then."""
        while self._unreported and (
            self._report_to is None or self.runtime.directory.tell(self._report_to, self._unreported[0])
        ):
            self._unreported.popleft()

    def _admit(self, one: Child, reason: Reason) -> bool:
        limit = f"more than {self._window.intensity} restarts in {self._window.period_ms / 1000:g} s"
        if one.failed_starts > self._window.intensity:
            # Starts that hang may lie so far apart that the window alone would let them go on without end.
            limit = f"{one.failed_starts} starts failed one after the other"
        elif self._window.admit(self.now_ms()):
            return True
        what = f"{self.name} gave up on {one.name}: {limit}; the last time: {reason}"
        self._end(Crash(RestartLimitExceeded(what, remedy="The run can be resumed.")))
        return False

    def _end(self, reason: Reason) -> None:
        if self._ending is None:
            self._ending = reason
            if isinstance(reason, Crash):
                self._unreported.append(GaveUp(self.name, reason))
                self._report()
            for one in self._children:
                one.doomed = one.alive
        self._advance()

    def _advance(self) -> None:
        """Take the next step that is due: stop the last doomed child, else end, else start what may be started."""
        doomed = [one for one in self._children if one.doomed]
        if doomed:
            if doomed[-1].phase is not Phase.STOPPING:
                self._stop_child(doomed[-1])
        elif self._ending is not None:
            self.finish(self._ending)
        else:
            self._start_what_may()

    def _start_what_may(self) -> None:
        """Start the children in order, each when those before it are up; one for one, that counts the first time."""
        are_up = True
        for one in self._children:
            if not one.wanted:
                continue
            may_start = are_up or (self._strategy is Strategy.ONE_FOR_ONE and one.was_up)
            if may_start and not one.alive and not one.retrying:
                self._start_child(one)
            are_up = are_up and one.phase is Phase.RUNNING
        if are_up:
            self.ready()
            if self._has_replaced:
                self._has_replaced = False
                self.runtime.execution.collect_garbage()

    def _start_child(self, one: Child) -> None:
        self._has_replaced |= one.was_up
        one.phase = Phase.STARTING
        one.incarnation = self.runtime.directory.next_incarnation(one.name)
        one.deadline = self.tell_later(one.spec.start_timeout_ms, _Overdue(one.name, one.incarnation))
        # After a failure of this supervisor's predecessor, the children of that one may still be ending.
        if self.runtime.directory.when_free(one.name, lambda: self.tell_self(_NameFree(one.name))):
            self._launch(one)

    def _launch(self, one: Child) -> None:
        assert one.incarnation is not None
        one.fence = Fence()
        context = ActorContext(one.name, one.incarnation, self.name, self.runtime, one.fence)
        try:
            one.ref = one.spec.start(context)
        except BaseException as error:  # noqa: BLE001 - a constructor that fails is a start that failed
            self.tell_self(Down(one.name, one.incarnation, Crash(error, "creation")))

    def _stop_child(self, one: Child) -> None:
        one.disarm()
        one.phase = Phase.STOPPING
        assert one.incarnation is not None
        one.deadline = self.tell_later(one.spec.shutdown_ms, _Overdue(one.name, one.incarnation))
        if one.ref is not None:
            _tell(one.ref, Stop())
        else:
            self.tell_self(Down(one.name, one.incarnation, Shutdown()))

    def _abandon(self, one: Child) -> None:
        ref = one.ref  # from here on it may end, and this may be another thread than the one that notes it
        one.fence.cut()
        if ref is not None:
            self.runtime.directory.unregister(one.name, ref)
            _tell(ref, Abandon())
            ref.actor_stopped.set()

    def _cut_children(self) -> None:
        for one in reversed(self._children):
            if one.alive:
                self._abandon(one)

    def _current(self, name: str, incarnation: int) -> Child | None:
        one = self._by_name.get(name)
        return one if one is not None and one.incarnation == incarnation else None


def branch(name: str, *, children: Sequence[ChildSpec], **options: Any) -> ChildSpec:
    """Return the spec of a supervisor below another one. Its times are those of all its children together.

    Each of them has its own deadline below it; a shorter one above would cut off what is still in its time.
    """
    return child(
        Supervisor,
        name,
        children=children,
        start_timeout_ms=_MARGIN_MS + sum(spec.start_timeout_ms for spec in children),
        shutdown_ms=_MARGIN_MS + sum(spec.shutdown_ms for spec in children),
        **options,
    )


def _tell(ref: "pykka.ActorRef[Any]", message: Any) -> None:
    # One that has ended already has its report under way.
    with contextlib.suppress(pykka.ActorDeadError):
        ref.tell(message)
