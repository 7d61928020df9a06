"""The ways of running actors, with one face: threads, the reactor's, worker processes, and the simulator's versions.

A `System` has a runtime whose clock is moved by hand, makes children that log what happens to them, and waits for what
must come. Tests written against it hold for every way.
"""

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from actor_probes import PATIENCE_S, ManualClock
from scheduler import REACTOR, Scheduler
from simulated_worker import SimulatedHost

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.child import ChildSpec, Restart, child
from lorch_actors.actors.messages import LATER, Call, Reason, Shutdown
from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.runtime import Runtime, start_runtime
from lorch_actors.actors.thread_host import ThreadHost
from lorch_actors.actors.tree import Tree
from lorch_actors.actors.worker import Worker, WorkerContext

WAIT_MS = PATIENCE_S * 1000


class Record:
    """What happened, in order, as short texts."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.changed = threading.Condition()

    def tell(self, event: Any) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()


class Told(Actor):
    """Logs its life, and does what it is told: a callable is called with the actor.

    refuses, fails, hangs: in which incarnations its start does so; hangs for good, until it is cut off. stubborn: it
    does not end when it is asked to.
    """

    def __init__(self, context: ActorContext, *, record: Record, **ways: Any) -> None:
        super().__init__(context)
        self.record = record
        self.ways = ways
        context.fence.on_cut(lambda: record.tell(f"cut {context.name}"))

    def started(self) -> bool:
        if self.context.incarnation in self.ways.get("hangs", ()):
            self.record.tell(f"hangs {self.name}")
            return LATER
        self._appear()
        return not LATER

    def _appear(self) -> None:
        if self.context.incarnation in self.ways.get("fails", ()):
            raise RuntimeError("told to fail")
        if "refuses" in self.ways:
            raise self.ways["refuses"]
        self.record.tell(f"up {self.name}")

    def stopping(self) -> bool:
        if self.ways.get("stubborn"):
            self.record.tell(f"asked {self.name}")
        return bool(self.ways.get("stubborn"))

    def receive(self, message: Any) -> None:
        if callable(message):
            message(self)
        else:
            self.record.tell(f"{self.name} takes {message}")

    def cleanup(self) -> None:
        self.record.tell(f"down {self.name}")


class ToldInReactor(Told):
    """The same, without a thread of its own."""

    in_reactor = True


class Idle(Worker):
    """A worker that has nothing to do."""

    def handle(self, messages: Sequence[Any], context: WorkerContext) -> Iterable[Any]:
        return ()


class ToldFront(ProcessActor):
    """The same, in front of a worker; the worker's coming is its own."""

    def __init__(self, context: ActorContext, *, record: Record, **ways: Any) -> None:
        super().__init__(context, create=Idle)
        self.record = record
        self.ways = ways
        context.fence.on_cut(lambda: record.tell(f"cut {context.name}"))

    def started(self) -> bool:
        if self.context.incarnation in self.ways.get("hangs", ()):
            self.record.tell(f"hangs {self.name}")
            return LATER
        return super().started()

    def on_hello(self, hello: dict[str, Any]) -> None:
        if self._announced:
            self.record.tell(f"again {self.name}")
        else:
            Told._appear(self)  # type: ignore[arg-type]

    def stopping(self) -> bool:
        if self.ways.get("stubborn"):
            self.record.tell(f"asked {self.name}")
            return LATER
        return super().stopping()

    def receive(self, message: Any) -> None:
        Told.receive(self, message)  # type: ignore[arg-type]

    def cleanup(self) -> None:
        super().cleanup()
        self.record.tell(f"down {self.name}")


def end_normally(actor: Actor) -> None:
    """End of its own accord."""
    actor.finish()


def end_by_shutdown(actor: Actor) -> None:
    """End as if asked to."""
    actor.finish(Shutdown())


def crash(actor: Actor) -> None:
    """Raise what nobody expects."""
    raise RuntimeError("told to crash")


def exit_thread(actor: Actor) -> None:
    """Raise what no handler of exceptions stops: the nearest a thread comes to being killed."""
    raise SystemExit("told to exit")


class System(ABC):
    """See the module. front: whether children have workers behind them; kind: what they are."""

    def __init__(self, runtime: Runtime, *, front: bool, kind: type[Actor] = Told) -> None:
        self.runtime = runtime
        self.front = front
        self.kind = ToldFront if front else kind
        self.record = Record()
        self.reports: list[Any] = []
        runtime.directory.register("news", _News(self))

    def child(self, name: str, restart: Restart = Restart.PERMANENT, **ways: Any) -> ChildSpec:
        """Return the spec of a child that logs."""
        times = {key: ways.pop(key) for key in ("shutdown_ms", "start_timeout_ms") if key in ways}
        return child(self.kind, name, restart=restart, record=self.record, **times, **ways)

    def kill(self, name: str) -> None:
        """Kill what does the work: the worker process, or the thread as far as that goes."""
        self.runtime.tell(name, _kill_worker if self.front else exit_thread)

    def until(self, reached: Callable[[], object]) -> None:
        """Wait until something is so."""
        with self.record.changed:
            assert self.record.changed.wait_for(reached, PATIENCE_S), self.record.events

    def is_up(self, tree: Tree) -> bool:
        """Wait for the start of a tree to be over; tell whether it is up."""
        return tree.wait_started(WAIT_MS)

    def reason(self, tree: Tree) -> Reason | None:
        """Wait for the end of a tree."""
        return tree.wait(WAIT_MS)

    def settle(self, name: str) -> None:
        """Let an actor deal with everything that it has been told."""
        self.runtime.directory.find(name).ask(Call(lambda: None), timeout=PATIENCE_S)  # type: ignore[union-attr]

    @abstractmethod
    def advance(self, ms: int) -> None:
        """Let time go on."""

    def events(self, *expected: str) -> None:
        """Wait until so much has happened, and compare it."""
        self.until(lambda: len(self.record.events) >= len(expected))
        seen, self.record.events[:] = self.record.events[: len(expected)], self.record.events[len(expected) :]
        assert [*expected] == seen

    def rest(self) -> list[str]:
        """Return what has happened since."""
        seen, self.record.events[:] = [*self.record.events], []
        return seen


class _News:
    def __init__(self, system: System) -> None:
        self._system = system

    def tell(self, message: Any) -> None:
        with self._system.record.changed:
            self._system.reports.append(message)
            self._system.record.changed.notify_all()


def _kill_worker(front: ProcessActor) -> None:
    pid = front.worker_pid
    if isinstance(front.runtime.clock, Scheduler):
        front.runtime.workers.links[front.name].die("its process died")  # type: ignore[attr-defined]
    else:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


class _Threads(System):
    def __init__(self, *, front: bool, kind: type[Actor]) -> None:
        self.clock = ManualClock()
        workers = None if front else ThreadHost()
        runtime = start_runtime(clock=self.clock, workers=workers, preload=["systems"], seed=1)
        super().__init__(runtime, front=front, kind=kind)
        self.clock.on_move = self.runtime.reactor.wake  # type: ignore[attr-defined]

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)


class _Simulated(System):
    def __init__(self, seed: int, *, front: bool) -> None:
        self.scheduler = Scheduler(seed)
        self.scheduler.runtime.workers = SimulatedHost(self.scheduler)  # type: ignore[assignment]
        super().__init__(self.scheduler.runtime, front=front)

    def until(self, reached: Callable[[], object]) -> None:
        self.scheduler.run_until(reached)

    def is_up(self, tree: Tree) -> bool:
        self.scheduler.run_until(lambda: tree.wait_started(0) or tree.wait(0) is not None)
        return tree.wait_started(0)

    def reason(self, tree: Tree) -> Reason | None:
        self.scheduler.run_until(lambda: tree.wait(0) is not None)
        return tree.wait(0)

    def settle(self, name: str) -> None:
        self.scheduler.settle()

    def advance(self, ms: int) -> None:
        self.scheduler.advance(ms)

    def kill(self, name: str) -> None:
        self.scheduler.run_as(REACTOR, lambda: super(_Simulated, self).kill(name))


@contextmanager
def running(kind: str, seed: int) -> Iterator[System]:
    """Have a system: ``threads``, ``reactor``, ``processes``, ``simulator`` or ``simulated processes``."""
    front = kind.endswith("processes")
    if kind.startswith("simulat"):
        system: System = _Simulated(seed, front=front)
    else:
        system = _Threads(front=front, kind=ToldInReactor if kind == "reactor" else Told)
    yield system
    system.runtime.close()
