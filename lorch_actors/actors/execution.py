"""How actors get to run: in a thread of their own, or in the reactor's, one turn after the other."""

import gc
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from lorch_actors.actors.clock import Clock
from lorch_actors.actors.reactor import Reactor

TURN_MESSAGES_MAX: Final = 64
"""So many messages an actor that shares a thread handles before the others have their turn."""
ENDED_MS: Final = 1000
"""After so long the thread in which an actor has ended is over as well, and holds it no more."""


class Performer(Protocol):
    """What an execution knows of an actor. ``actor_inbox``: what ``new_inbox`` returned, as pykka calls it."""

    actor_inbox: Any

    @property
    def name(self) -> str:
        """What to call its thread."""
        ...

    @property
    def in_reactor(self) -> bool:
        """Whether it takes its turns in the reactor's thread: no turn of it takes long."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the loop is over."""
        ...

    def begin(self) -> None:
        """Start."""
        ...

    def step(self, envelope: Any) -> None:
        """Handle one envelope."""
        ...

    def end(self) -> None:
        """Clean up; this may block."""
        ...


class Execution(Protocol):
    """How actors get to run: in threads, or one after the other under a simulator."""

    def new_inbox(self, actor: Performer) -> Any:
        """Return a mailbox with ``put``, ``get`` and ``empty``."""
        ...

    def start(self, actor: Performer) -> None:
        """See to it that ``begin``, then ``step`` for each envelope until ``ended``, then ``end`` are called."""
        ...

    def apart(self, name: str, work: Callable[[], object]) -> None:
        """Have that done which may take long, beside the actor of that name."""
        ...

    def collect_garbage(self) -> None:
        """Let go, in a while, of actors that were replaced, and of all they knew.

        An actor, its reference and its mailbox know each other, so no count of references tells that it is not needed.
        """
        ...


class ThreadExecution:
    """One daemon thread an actor, named after it, but for those that share the reactor's.

    The mailbox of a thread is the C queue: four times as fast as ``queue.Queue``.
    """

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._is_collecting = False

    def new_inbox(self, actor: Performer) -> "queue.SimpleQueue[Any] | SharedMailbox":
        """Return an empty mailbox."""
        return SharedMailbox(actor, self._reactor) if actor.in_reactor else queue.SimpleQueue()

    def start(self, actor: Performer) -> None:
        """Run the actor."""
        if actor.in_reactor:
            actor.actor_inbox.begin()
        else:
            _in_thread(actor.name, lambda: self._run(actor))

    def apart(self, name: str, work: Callable[[], object]) -> None:
        """Do it in a thread of its own."""
        _in_thread(name, work)

    def collect_garbage(self) -> None:
        """Look through what was made since the workers' server was forked, once for all that end meanwhile."""
        if not self._is_collecting:
            self._is_collecting = True
            self._reactor.call_at(self._clock.steady_ms() + ENDED_MS, self._collect)

    def _collect(self) -> None:
        self._is_collecting = False
        gc.collect()

    @staticmethod
    def _run(actor: Performer) -> None:
        actor.begin()
        while not actor.ended:
            actor.step(actor.actor_inbox.get())
        actor.end()


class SharedMailbox:
    """The mailbox of an actor that shares the reactor's thread: a message to an idle actor asks for a turn.

    Between actors of that thread a message takes no hand-over: nobody is woken, nobody waits for the interpreter.
    """

    __slots__ = ("_actor", "_envelopes", "_is_due", "_reactor")

    def __init__(self, actor: Performer, reactor: Reactor) -> None:
        self._actor = actor
        self._reactor = reactor
        self._envelopes: deque[Any] = deque()
        self._is_due = True  # from the start to the end of its life it waits for `begin`, or for nothing any more

    def put(self, envelope: Any) -> None:
        """Take an envelope, from any thread."""
        self._envelopes.append(envelope)
        if not self._is_due:
            self._ask_for_turn()

    def get(self) -> Any:
        """Return the first envelope."""
        return self._envelopes.popleft()

    def empty(self) -> bool:
        """Say whether there is none."""
        return not self._envelopes

    def begin(self) -> None:
        """Have the actor begin as soon as it is its turn."""
        self._reactor.call_soon(self._begin, self._actor.name)

    def _begin(self) -> None:
        self._actor.begin()
        self._turn()

    def _ask_for_turn(self) -> None:
        self._is_due = True
        self._reactor.call_soon(self._turn, self._actor.name)

    def _turn(self) -> None:
        actor, envelopes = self._actor, self._envelopes
        self._is_due = False  # before looking: what comes from now on asks for a turn, needed or not
        for _ in range(TURN_MESSAGES_MAX):
            if actor.ended:
                self._is_due = True
                _in_thread(actor.name, actor.end)
                return
            if not envelopes:
                return
            actor.step(envelopes.popleft())
        self._ask_for_turn()


def _in_thread(name: str, work: Callable[[], object]) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()
