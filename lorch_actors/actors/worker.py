"""Workers: the part of a process actor that runs in an operating-system process of its own.

The same worker class runs in a process, in a thread (tests) or under a simulator; a ``WorkerHost`` decides. Messages
and replies are plain values (dict, list, str, bytes, int of 64 bits, float, bool, None). Promises of a host: messages
arrive in the order sent; a dead link delivers nothing more once ``dead`` has said so; ``kill`` works on a stopped
process too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, Protocol

from msgspec import Struct

from lorch_actors.actors.clock import Clock
from lorch_actors.processes import ProcessIdentity


class WorkerContext(Protocol):
    """What a worker may use while it handles messages. ``clock``: the one of its host."""

    clock: Clock

    def progress(self) -> None:
        """Give a sign of life: the deadline of the oldest message starts anew. Cheap enough for every step."""
        ...


class Worker(ABC):
    """Handles messages in a process of its own. Must be picklable before ``open``; single-threaded.

    Whatever it raises ends the process; the messages that were not acknowledged come again to the next one, so
    handling one twice has to be harmless. A message is acknowledged when the batch it came in has been handled.
    """

    def open(self) -> dict[str, Any]:
        """Take what is needed (locks, files) and say hello: the value goes to ``on_hello`` of the front."""
        return {}

    @abstractmethod
    def handle(self, messages: Sequence[Any], context: WorkerContext) -> Iterable[Any]:
        """Handle everything that has arrived, as one batch, in order; return or yield replies for ``on_reply``.

        The replies of a batch are sent together, after it.
        """

    def orphaned(self) -> None:
        """Do what is left to do when the orchestrator is dead, in a thread of its own; then the process ends."""

    def close(self) -> None:
        """Release what ``open`` took. Called at an orderly end only; a killed process closes nothing."""


class FrameKind(IntEnum):
    """What a frame between front and worker is."""

    MESSAGE = 0  # to the worker: number, message
    HELLO = 1  # from the worker: 0, what ``open`` returned
    ACK = 2  # everything up to this number has been handled; the replies
    PROGRESS = 3  # still at work
    FAILED = 4  # the exception that ends the worker: {"type", "what", "where", "remedy"}


class Frame(Struct, frozen=True, array_like=True):
    """One frame. ``number`` counts messages from 1 and is 0 where it means nothing."""

    kind: FrameKind
    number: int = 0
    body: Any = None


class WorkerLink(Protocol):
    """A front's hold on one incarnation of its worker. Only the front's thread calls it, but for ``kill``."""

    identity: ProcessIdentity | None  # of the worker process, once ``take`` returns frames; None in other hosts

    def send(self, number: int, message: Any) -> None:
        """Send a message. Never blocks: what the worker does not take yet is kept and follows."""
        ...

    def take(self) -> list[Frame]:
        """Return what has arrived, without blocking. To be called after each wake-up."""
        ...

    def dead(self) -> str | None:
        """Return why the worker is dead, None while it is not known to be. Final; asked after ``take``."""
        ...

    def close_sending(self) -> None:
        """Ask the worker to close and end when it has handled everything sent."""
        ...

    def kill(self) -> None:
        """End the worker now, for certain, in any state. From any thread. Its death is then reported as usual."""
        ...

    def release(self, wait_ms: int = 0) -> None:
        """Kill it if it lives, wait up to ``wait_ms`` for its death, free all descriptors."""
        ...


class WorkerHost(Protocol):
    """Starts workers."""

    def start(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> WorkerLink:
        """Start one, without blocking. ``wake`` is called from any thread when ``take`` or ``dead`` have news."""
        ...

    def close(self) -> None:
        """End what starts workers. No worker is started after that."""
        ...
