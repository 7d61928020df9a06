"""What the actor system itself says: starts, ends and restarts of actors and workers.

Frozen values without behaviour. Actors match on them in ``receive``; what the program talks about stands with the
actors that talk about it.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

LATER: Final = True
"""Returned by ``started`` or ``stopping``: not done yet, ``ready`` or ``finish`` will be called."""


class Normal(Struct, frozen=True):
    """The actor ended of its own accord."""

    def __str__(self) -> str:
        return "normal end"


class Shutdown(Struct, frozen=True):
    """The actor ended because it was asked to."""

    def __str__(self) -> str:
        return "shutdown"


class Crash(Struct, frozen=True):
    """The actor ended by an exception; ``message`` is the (shortened) text of what it was handling."""

    exception: BaseException
    message: str = ""

    def __str__(self) -> str:
        text = f"{type(self.exception).__name__}: {self.exception}"
        return f"{text} (while handling {self.message})" if self.message else text


Reason = Normal | Shutdown | Crash


class Started(Struct, frozen=True):
    """To the supervisor: the actor is ready for messages."""

    name: str
    incarnation: int


class Down(Struct, frozen=True):
    """To the supervisor: the actor has ended. Before ``Started`` it means a failed start.

    ``discarded`` counts the messages of others that were still in its mailbox.
    """

    name: str
    incarnation: int
    reason: Reason
    discarded: int = 0


class Stop(Struct, frozen=True):
    """To an actor: end orderly. What was told before is handled first."""


class Abandon(Struct, frozen=True):
    """To an actor that its supervisor has given up on: end without ceremony."""


class CallbackFailed(Struct, frozen=True):
    """To the actor that owns a callback of the reactor: it raised, and so does the actor."""

    exception: BaseException


class Call(Struct, frozen=True):
    """To an actor, from itself by way of the reactor or a worker host: run this in your own thread."""

    function: Callable[[], object]


class WorkerDied(Struct, frozen=True):
    """From a process actor to its supervisor: its worker is dead for certain. The answer is ``RestartWorker``."""

    name: str
    reason: Crash


class RestartWorker(Struct, frozen=True):
    """From the supervisor to a process actor: start the next worker."""


class PoisonMessage(Struct, frozen=True):
    """From a process actor to its supervisor: its worker has died again and again on this one message."""

    name: str
    message: Any
    deaths: int


class GaveUp(Struct, frozen=True):
    """From a supervisor to the name it reports to: it ends, as a crash, with all that it had to keep running."""

    name: str
    reason: Crash


class ActorRestarted(Struct, frozen=True):
    """From a supervisor to the name it reports to: an actor or its worker is up again after a failure.

    ``count`` is the number of restarts of this name by this supervisor.
    """

    name: str
    reason: str
    count: int
