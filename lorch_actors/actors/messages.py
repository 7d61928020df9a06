"""What the actor system itself says: starts, ends and restarts of actors and workers.

Frozen values without behaviour. Actors match on them in ``receive``; what the program talks about stands with the
actors that talk about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

LATER: Final = True
"""Returned by ``started`` or ``stopping``: not done yet, ``ready`` or ``finish`` will be called."""


@dataclass(frozen=True, slots=True)
class Normal:
    """The actor ended of its own accord."""

    def __str__(self) -> str:
        return "normal end"


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The actor ended because it was asked to."""

    def __str__(self) -> str:
        return "shutdown"


@dataclass(frozen=True, slots=True)
class Crash:
    """The actor ended by an exception; ``message`` is the (shortened) text of what it was handling."""

    exception: BaseException
    message: str = ""

    def __str__(self) -> str:
        text = f"{type(self.exception).__name__}: {self.exception}"
        return f"{text} (while handling {self.message})" if self.message else text


Reason = Normal | Shutdown | Crash


@dataclass(frozen=True, slots=True)
class Started:
    """To the supervisor: the actor is ready for messages."""

    name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Down:
    """To the supervisor: the actor has ended. Before ``Started`` it means a failed start.

    ``discarded`` counts the messages of others that were still in its mailbox.
    """

    name: str
    incarnation: int
    reason: Reason
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """To an actor: end orderly. What was told before is handled first."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """To an actor that its supervisor has given up on: end without ceremony."""


@dataclass(frozen=True, slots=True)
class CallbackFailed:
    """To the actor that owns a callback of the reactor: it raised, and so does the actor."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class Call:
    """To an actor, from itself by way of the reactor or a worker host: run this in your own thread."""

    function: Callable[[], object]


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """From a process actor to its supervisor: its worker is dead for certain. The answer is ``RestartWorker``."""

    name: str
    reason: Crash


@dataclass(frozen=True, slots=True)
class RestartWorker:
    """From the supervisor to a process actor: start the next worker."""


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """From a process actor to its supervisor: its worker has died again and again on this one message."""

    name: str
    message: Any
    deaths: int


@dataclass(frozen=True, slots=True)
class ActorRestarted:
    """From a supervisor to the name it reports to: an actor or its worker is up again after a failure.

    ``count`` is the number of restarts of this name by this supervisor.
    """

    name: str
    reason: str
    count: int
