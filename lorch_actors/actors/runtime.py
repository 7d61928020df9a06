"""What actors stand on: clocks, randomness, threads, the reactor, names, and the hosts of workers and agents.

Everything that makes one run differ from the next comes through a ``Runtime``, so that a simulator can put seeded
parts in its place. Promise: no actor touches time, threads or selectors but through here.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from lorch_actors.actors.directory import Directory
from lorch_actors.actors.messages import CallbackFailed

if TYPE_CHECKING:
    from lorch_actors.actors.agent_link import AgentHost
    from lorch_actors.actors.base import Actor
    from lorch_actors.actors.worker import WorkerHost


class Clock(Protocol):
    """Two clocks: one people read, one that never jumps. Both in milliseconds."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch. May jump; only for what people read."""
        ...

    def steady_ms(self) -> int:
        """Return milliseconds of CLOCK_MONOTONIC. For deadlines, intervals and restart windows."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> int:
        """Return milliseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns() // 1_000_000


class Timer(Protocol):
    """Something that will happen unless it is called off."""

    def cancel(self) -> None:
        """Call it off. Harmless when it has already happened."""
        ...


class Reactor(Protocol):
    """Waits for files, processes and times; see ``reactor.EpollReactor`` for the promises.

    Callbacks run in the reactor's thread. ``owner`` is the name of the actor that is told to crash when one raises.
    """

    def watch_read(self, fd: int, callback: Callable[[], object], owner: str) -> None:
        """Call back as long as ``fd`` has something to read, has ended or is broken."""
        ...

    def watch_write(self, fd: int, callback: Callable[[], object], owner: str) -> None:
        """Call back once, when ``fd`` can be written or is broken."""
        ...

    def watch_process(self, pidfd: int, callback: Callable[[], object], owner: str) -> None:
        """Call back once, when the process is dead."""
        ...

    def pause_read(self, fd: int) -> None:
        """Stop reading ``fd`` for now."""
        ...

    def resume_read(self, fd: int) -> None:
        """Go on reading ``fd``."""
        ...

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``; when this returns no callback runs for it."""
        ...

    def call_at(self, steady_ms: int, callback: Callable[[], object], owner: str = "") -> Timer:
        """Call back at a time of the steady clock."""
        ...

    def call_soon(self, callback: Callable[[], object], owner: str = "") -> None:
        """Call back as soon as possible."""
        ...

    def close(self) -> None:
        """Forget everything and end."""
        ...


class Execution(Protocol):
    """How actors get to run: a thread each, or one after the other under a simulator."""

    def new_inbox(self) -> Any:
        """Return a mailbox with ``put``, ``get`` and ``empty``."""
        ...

    def start(self, actor: "Actor") -> None:
        """See to it that ``begin``, then ``step`` for each envelope until ``ended``, then ``end`` are called."""
        ...


class ThreadExecution:
    """One daemon thread an actor, named after it. The mailbox is the C queue: four times as fast as ``queue.Queue``."""

    def new_inbox(self) -> "queue.SimpleQueue[Any]":
        """Return an empty mailbox."""
        return queue.SimpleQueue()

    def start(self, actor: "Actor") -> None:
        """Run the actor in a thread of its own."""
        threading.Thread(target=self._run, args=(actor,), name=actor.name, daemon=True).start()

    @staticmethod
    def _run(actor: "Actor") -> None:
        actor.begin()
        while not actor.ended:
            actor.step(actor.actor_inbox.get())
        actor.end()


class Runtime(Struct):
    """The parts of one actor system. Build the real one with ``start_runtime``."""

    clock: Clock
    random: random.Random
    reactor: Reactor
    workers: "WorkerHost"
    agents: "AgentHost"
    directory: Directory = field(default_factory=Directory)
    execution: Execution = field(default_factory=ThreadExecution)

    def tell(self, name: str, message: Any) -> bool:
        """Send ``message`` to whoever has that name now; nobody there: dropped, counted, False."""
        return self.directory.tell(name, message)

    def tell_at(self, steady_ms: int, name: str, message: Any) -> Timer:
        """Send ``message`` at a time of the steady clock to whoever has that name then."""
        return self.reactor.call_at(steady_ms, lambda: self.directory.tell(name, message))

    def close(self) -> None:
        """End the reactor, then what starts workers. Actors must have ended before."""
        self.reactor.close()
        self.workers.close()


def start_runtime(
    *,
    clock: Clock | None = None,
    workers: "WorkerHost | None" = None,
    preload: Sequence[str] = (),
    seed: int | None = None,
) -> Runtime:
    """Return a running system of threads, worker processes and one reactor.

    Call it before there are other threads: then workers are forked from what is imported now. ``preload`` names their
    modules, for a fork server that has to be replaced. ``seed`` is for tests.
    """
    from lorch_actors.actors.agent_process import ProcessAgents
    from lorch_actors.actors.fork_server import ForkServer
    from lorch_actors.actors.process_host import ProcessHost
    from lorch_actors.actors.reactor import EpollReactor

    server = ForkServer(preload) if workers is None else None
    directory = Directory()
    chosen = clock if clock is not None else SystemClock()

    def report(owner: str, error: BaseException) -> None:
        directory.tell(owner, CallbackFailed(error))

    reactor = EpollReactor(chosen, report)
    reactor.start()
    host = ProcessHost(reactor, chosen, server) if server is not None else workers
    assert host is not None
    return Runtime(chosen, random.Random(seed), reactor, host, ProcessAgents(reactor), directory)
