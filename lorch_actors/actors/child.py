"""Children of a supervisor: how one is specified, and what its supervisor knows about it.

The words and their meaning are those of Erlang/OTP's ``supervisor``.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pykka
from msgspec import Struct, field

from lorch_actors.actors.base import Actor, ActorContext, Fence
from lorch_actors.actors.messages import Crash, Reason
from lorch_actors.actors.reactor import Timer
from lorch_actors.errors import FailureCode, InterruptedRun, LorchError


class Restart(StrEnum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # after a crash
    TEMPORARY = "temporary"  # never


class Strategy(StrEnum):
    """Who is restarted together with a child that has to be."""

    ONE_FOR_ONE = "one_for_one"  # nobody
    REST_FOR_ONE = "rest_for_one"  # those that were started after it
    ONE_FOR_ALL = "one_for_all"  # all


class ChildSpec(Struct, frozen=True):
    """How to start, restart and stop one child.

    ``start`` gets the context and returns the reference without waiting for the actor. A child that has not said
    ``Started`` after ``start_timeout_ms``, or has not ended ``shutdown_ms`` after it was asked to, is abandoned.
    """

    name: str
    start: Callable[[ActorContext], "pykka.ActorRef[Any]"]
    restart: Restart = Restart.PERMANENT
    shutdown_ms: int = 5_000
    start_timeout_ms: int = 10_000


def child(
    actor_class: type[Actor],
    name: str,
    *,
    restart: Restart = Restart.PERMANENT,
    shutdown_ms: int = 5_000,
    start_timeout_ms: int = 10_000,
    **arguments: Any,
) -> ChildSpec:
    """Return the spec of a child that is ``actor_class(context, **arguments)``."""

    def start(context: ActorContext) -> "pykka.ActorRef[Any]":
        return actor_class.start(context, **arguments)

    return ChildSpec(name, start, restart, shutdown_ms, start_timeout_ms)


class RestartLimitExceeded(InterruptedRun):
    """A supervisor gave up: something below it failed more often than its intensity allows."""

    code = FailureCode.RESTART_LIMIT


class Mishap(InterruptedRun):
    """A child failed in a way that says nothing about its next start."""


class ActorHung(Mishap):
    """An actor did not start or stop in its time."""


class MessagePoisoned(InterruptedRun):
    """A worker died again and again on one message. Whoever is restarted would have it delivered once more."""

    code = FailureCode.POISON_MESSAGE


class Phase(Enum):
    """Where a child stands."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Child(Struct):
    """What its supervisor knows about a child."""

    spec: ChildSpec
    phase: Phase = Phase.DOWN
    incarnation: int | None = None  # of the actor that counts now; what others of that name say is ignored
    ref: "pykka.ActorRef[Any] | None" = None
    fence: Fence = field(default_factory=Fence)
    deadline: Timer | None = None
    wanted: bool = True  # it should be running
    doomed: bool = False  # it is alive and has to end
    retrying: bool = False  # its start failed, and the message to try again is under way
    was_up: bool = False
    failed_starts: int = 0  # one after the other
    cause: str | None = None  # why it is being restarted; told when it is up again
    restarts: int = 0

    @property
    def name(self) -> str:
        """The name of the child."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """Whether there is something to stop."""
        return self.phase is not Phase.DOWN

    def restarts_after(self, reason: Reason) -> bool:
        """Say whether it is to be started again after ending like that."""
        if self.spec.restart is Restart.TRANSIENT:
            return isinstance(reason, Crash)
        return self.spec.restart is Restart.PERMANENT

    def starts_again_after(self, reason: Reason) -> bool:
        """Say whether its start, which has failed like that, is to be tried again.

        A bug or a death may be the only one of its kind. What was refused in so many words (a lock that is held, a
        damaged ledger, a supervisor that gave up) is refused the next time as well, unless it was up before.
        """
        error = reason.exception if isinstance(reason, Crash) else None
        return self.was_up or not isinstance(error, LorchError) or isinstance(error, Mishap)

    def disarm(self) -> None:
        """Call off the deadline of its start or stop."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def gone(self) -> None:
        """Note that it has ended."""
        self.disarm()
        self.phase = Phase.DOWN
        self.incarnation = None
        self.ref = None
        self.doomed = False


class RestartWindow:
    """At most ``intensity`` restarts within any ``period_ms`` (sliding, on the steady clock)."""

    def __init__(self, intensity: int, period_ms: int) -> None:
        self.intensity = intensity
        self.period_ms = period_ms
        self._times: deque[int] = deque()

    def admit(self, now_ms: int) -> bool:
        """Count one more restart; False when that is one too many."""
        while self._times and self._times[0] < now_ms - self.period_ms:
            self._times.popleft()
        self._times.append(now_ms)
        return len(self._times) <= self.intensity
