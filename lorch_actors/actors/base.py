"""The base of all actors: a pykka actor that is alone in its failures.

Promises, on top of pykka's mailbox, references and envelopes:

- messages are handled one after the other in the order they were told;
- whatever a hook raises, ``SystemExit`` included, ends this actor and nobody else, and its supervisor is told
  ``Down`` with the exception and the message that led to it; what is left in the mailbox is discarded and counted;
- the start is acknowledged with ``Started``; an exception before that is a failed start, told as ``Down``;
- ``cleanup`` runs at every end, so descriptors, watches and processes never outlive their actor;
- pykka's registry does not know our actors, so its stop-everything cannot reach them.
"""

import reprlib
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self
from weakref import WeakSet

import pykka
from msgspec import Struct, field
from pykka import messages as pykka_messages

from lorch_actors.actors.messages import (
    Abandon,
    Call,
    CallbackFailed,
    Crash,
    Down,
    Normal,
    Reason,
    Shutdown,
    Started,
    Stop,
)
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.runtime import Runtime

_OWN: Final = (Abandon, Call, CallbackFailed, Stop)  # of no interest to anybody once the actor has ended
_FOR_THE_BASE: Final = (*_OWN, pykka_messages._ActorStop)  # noqa: SLF001 - what ``ref.stop()`` sends
_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 200


class Fence:
    """Cuts off an actor that its supervisor has given up on: from then on it tells nobody anything.

    A thread cannot be killed, but what it holds can be: ``on_cut`` registers what to kill.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []
        self.is_cut = False

    def on_cut(self, action: Callable[[], object]) -> None:
        """Run ``action`` (short, from any thread) when the actor is cut off; at once when it already is."""
        with self._lock:
            if not self.is_cut:
                self._actions.append(action)
                return
        action()

    def cut(self) -> None:
        """Cut off, once."""
        with self._lock:
            self.is_cut = True
            actions, self._actions = self._actions, []
        for action in actions:
            action()


class ActorContext(Struct, frozen=True):
    """What an actor is told when it is created. ``supervisor`` is the name its ``Started`` and ``Down`` go to."""

    name: str
    incarnation: int
    supervisor: str | None
    runtime: Runtime
    fence: Fence = field(default_factory=Fence)


class Actor(pykka.ThreadingActor):
    """See the module. Subclasses take ``context`` first, pass it on, and only assign in ``__init__``.

    They override ``started``, ``receive``, ``stopping``, ``cleanup``; never pykka's own hooks.

    in_reactor: it takes its turns in the reactor's thread, with all others of which that is said. So no message between
    them wakes a thread, and none of their turns may take long: a file is written or a process started, but not waited
    for; see ``apart``. ``cleanup`` may.
    """

    in_reactor: ClassVar[bool] = False

    def __init__(self, context: ActorContext) -> None:
        self.context = context  # before pykka asks for the inbox
        super().__init__()
        self._reason: Reason | None = None
        self._announced = False
        self._alarms: WeakSet[Timer] = WeakSet()  # weak: those that rang or were called off need nobody's care

    # -- for subclasses to override -----------------------------------------------------------------------------

    def started(self) -> bool | None:
        """Begin. Return ``LATER`` to acknowledge the start later, by calling ``ready``."""
        return None

    def receive(self, message: Any) -> None:
        """Handle one message."""
        raise TypeError(f"{self.name} does not expect {_REPR.repr(message)}")

    def stopping(self) -> bool | None:
        """End orderly, asked by the supervisor. Return ``LATER`` to go on receiving until ``finish`` is called."""
        return None

    def cleanup(self) -> None:
        """Release what is held. Called once at every kind of end, also after a failed start."""

    # -- for subclasses to use ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that stays across restarts."""
        return self.context.name

    @property
    def runtime(self) -> Runtime:
        """The system this actor lives in."""
        return self.context.runtime

    def tell(self, name: str, message: Any) -> bool:
        """Send ``message`` to whoever has that name now. Nothing is sent once this actor is cut off."""
        context = self.context
        return not context.fence.is_cut and context.runtime.directory.tell(name, message)

    def tell_supervisor(self, message: Any) -> None:
        """Send ``message`` to this actor's supervisor, if it has one."""
        if self.context.supervisor is not None:
            self.tell(self.context.supervisor, message)

    def tell_later(self, delay_ms: int, message: Any) -> Timer:
        """Send ``message`` to this very incarnation after a while."""
        at_ms = self.now_ms() + delay_ms
        timer = self.runtime.reactor.call_at(at_ms, lambda: self.tell_self(message), self.name)
        self._alarms.add(timer)
        return timer

    def tell_self(self, message: Any) -> None:
        """Send ``message`` to this very incarnation, from any thread. Dropped when it has ended."""
        try:
            self.actor_ref.tell(message)
        except pykka.ActorDeadError:
            return

    def apart(self, work: Callable[[], object], then: Callable[[], object]) -> None:
        """Do what may take long beside this actor, then ``then`` in its turn. What ``work`` raises, it raises."""

        def do() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - as in `step`
                self.tell_self(CallbackFailed(error))
            else:
                self.tell_self(Call(then))

        self.runtime.execution.apart(self.name, do)

    def now_ms(self) -> int:
        """Return milliseconds of the steady clock."""
        return self.context.runtime.clock.steady_ms()

    def ready(self) -> None:
        """Acknowledge the start, once."""
        if not self._announced:
            self._announced = True
            self.tell_supervisor(Started(self.name, self.context.incarnation))

    def finish(self, reason: Reason | None = None) -> None:
        """End after the current message; the rest of the mailbox is discarded."""
        if self._reason is None:
            self._reason = reason if reason is not None else Normal()
        self.actor_stopped.set()

    # -- how it runs --------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Create the actor and let it run: ``start(context, **arguments)``. pykka's registry is not told."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor.actor_ref

    def begin(self) -> None:
        """Run ``started``. For the execution only."""
        self._guard(self._begin)

    def step(self, envelope: Any) -> None:
        """Handle one envelope. For the execution only."""
        error = None
        try:
            self._handle(envelope.message)
        except BaseException as raised:  # noqa: BLE001 - a SystemExit in here must not stop anybody else
            error = raised
            self._crash(raised, _REPR.repr(envelope.message))
        if envelope.reply_to is not None:
            _answer(envelope.reply_to, error)

    @property
    def ended(self) -> bool:
        """Whether the loop is over. For the execution only."""
        return self.actor_stopped.is_set()

    def end(self) -> None:
        """Clean up, free the name and tell the supervisor. For the execution only."""
        self._guard(self.cleanup)
        for timer in tuple(self._alarms):
            timer.cancel()  # else the reactor would hold a dead actor, with all it knows, until they ring
        discarded = 0
        while not self.actor_inbox.empty():
            envelope = self.actor_inbox.get()
            discarded += not isinstance(envelope.message, _OWN)
            if envelope.reply_to is not None:
                _answer(envelope.reply_to, pykka.ActorDeadError(f"{self.name} has ended"))
        self.runtime.directory.unregister(self.name, self.actor_ref)
        if self.context.supervisor is not None:
            reason = self._reason if self._reason is not None else Shutdown()
            down = Down(self.name, self.context.incarnation, reason, discarded)
            self.runtime.directory.tell(self.context.supervisor, down)

    def _guard(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - as in `step`
            self._crash(error, hook.__name__)

    def _crash(self, error: BaseException, during: str) -> None:
        if not isinstance(self._reason, Crash):
            self._reason = Crash(error, during)
        self.actor_stopped.set()

    def _begin(self) -> None:
        if not self.started():
            self.ready()

    def _handle(self, message: Any) -> None:
        if not isinstance(message, _FOR_THE_BASE):
            self.receive(message)
        elif isinstance(message, Call):
            message.function()
        elif isinstance(message, Stop):
            if not self.stopping():
                self.finish(Shutdown())
        elif isinstance(message, CallbackFailed):
            raise message.exception
        elif isinstance(message, Abandon):
            self.finish(Shutdown())
        else:
            self.finish()

    def _create_actor_inbox(self) -> Any:  # type: ignore[override]  # pykka calls it on the instance
        return self.context.runtime.execution.new_inbox(self)

    def _start_actor_loop(self) -> None:
        self.runtime.directory.register(self.name, self.actor_ref)
        self.runtime.execution.start(self)


def _answer(reply_to: "pykka.Future[Any]", error: BaseException | None) -> None:
    # Nobody of ours asks; whoever does (a test, a shell) gets an answer and not a silence.
    if error is None:
        reply_to.set(None)
    else:
        reply_to.set_exception((type(error), error, error.__traceback__))
