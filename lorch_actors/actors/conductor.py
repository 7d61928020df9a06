"""The conductor: folds what comes into the ledger and carries out what `decide` says.

It has no state of its own but the fold, so restarting it means folding again. It repeats nothing: an order is given
once as long as `decide` keeps naming it, and whatever a former incarnation gave as well is known by its derived id.

It folds what is sealed, before that is durable. What it has appended because of it stands behind it in the ledger, so
neither is durable without what came before. Everything else it does waits until what it follows from is durable.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.ring import (
    APPROVER,
    LEDGER,
    MAIN,
    RUN_STATE,
    SNAPSHOTTER,
    TRANSCRIPT,
    Append,
    Appended,
    Beat,
    Broken,
    EndAgent,
    Finished,
    FlushAll,
    Halt,
    Halted,
    Projected,
    Sealed,
    StartAgent,
    Subscribe,
    Subscribed,
    Work,
)
from lorch_actors.errors import StorageError
from lorch_actors.guardian.link import GuardianLink
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import Entry, Event, own_event
from lorch_actors.records.history import Loaded
from lorch_actors.storage.atomic import write_atomic
from lorch_actors.storage.ledger import read_entries
from lorch_actors.workflow import orders
from lorch_actors.workflow.commands import RequestFile
from lorch_actors.workflow.decide import decide
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.state import LOOP_ROLES, Moment
from lorch_actors.workflow.system import RunStopped

BEAT_MS: Final = 2500
BEAT_EVERY_ENTRIES: Final = 100_000
END_MS: Final = 10_000
AHEAD_MAX: Final = 512
"""Entries that are not durable yet: behind so many nothing is decided, else the disk would not keep up."""
RESTARTED: Final = "system.actor_restarted"


class Score(Struct, frozen=True):
    """What a conductor starts from.

    loaded: the run as it was read at the start. opening: the entry that says that this orchestrator has the run now.
    process: this orchestrator. root, ledger: where workspace and ledger lie.
    """

    root: Path
    ledger: Path
    loaded: Loaded
    opening: Event
    process: ProcessRef
    link: GuardianLink


class _Wake(Struct, frozen=True):
    """To self: the time has come that `decide` named."""


class _EndOverdue(Struct, frozen=True):
    """To self: agents or projections have had long enough to come to their end."""


class Conductor(Actor):
    """See the module."""

    in_reactor = True

    def __init__(self, context: ActorContext, *, score: Score) -> None:
        super().__init__(context)
        self._score = score
        self._run = score.loaded.run
        self._position = score.loaded.position
        self._durable_seq = self._position.seq
        self._held: deque[tuple[int, Callable[[], object]]] = deque()  # what waits until that number is durable
        self._given: set[str] = set()
        self._wake: Timer | None = None
        self._halt: Halt | None = None
        self._ending = False  # the run is over or halted: agents are ended, nothing new is begun
        self._projected: dict[str, int] = {}
        self._asked_for: tuple[str, int] = ("", 0)
        self._settled_before = self._run.settled_count

    def started(self) -> bool:
        """Ask for entries; the start is acknowledged when everything durable has been folded."""
        self.tell(LEDGER, Subscribe(self.name, foresees=True))
        self.tell_self(Beat())
        return LATER

    def receive(self, message: Any) -> None:
        """Take one turn."""
        match message:
            case Subscribed(position):
                self._catch_up(position.seq)
                self._durable_seq = position.seq
                self.ready()
                self._advance()
            case Sealed(new):
                self._hear(new)
            case Appended(new, _, end):
                if self._announced:
                    was_ahead = self._is_ahead
                    self._durable_seq = end.seq
                    self._let_go()
                    if new or was_ahead:
                        self._hear(new)
            case _Wake():
                self._wake = None
                self._advance()
            case Beat():
                self._score.link.beat()
                self.tell_later(BEAT_MS, Beat())
            case Halt():
                self._halt = message
                self._advance()
            case Projected(name, seq):
                self._projected[name] = seq
                self._advance()
            case _EndOverdue():
                self._say_end()
            case _:
                super().receive(message)

    def _catch_up(self, upto_seq: int) -> None:
        now_ms = self.now_ms()
        run_id = self._run.run_id
        for entry, position in read_entries(self._score.ledger, run_id, after=self._position, upto_seq=upto_seq):
            self._run = fold(self._run, replace(entry, heard_ms=now_ms))
            self._position = position
            if entry.seq % BEAT_EVERY_ENTRIES == 0:
                self._score.link.beat()
        if self._run.process != self._score.process:
            self.tell(LEDGER, Append(self._score.opening))

    def _hear(self, entries: tuple[Entry, ...]) -> None:
        if self._announced:
            for entry in entries:
                self._fold(entry)
            if not self._is_ahead:
                self._advance()

    @property
    def _is_ahead(self) -> bool:
        return self._position.seq - self._durable_seq > AHEAD_MAX

    def _fold(self, entry: Entry) -> None:
        if entry.seq <= self._position.seq:
            return
        if entry.seq != self._position.seq + 1:
            raise RuntimeError(f"entry {entry.seq} came after entry {self._position.seq}")
        self._run = fold(self._run, entry)
        self._position = replace(self._position, seq=entry.seq, chain=entry.chain)
        if self._run.settled_count != self._settled_before:
            self._settled_before = self._run.settled_count
            self._when_durable(self._score.link.settled)
        event = own_event(entry.message)
        if event is not None and event.event == RESTARTED:
            self._given.clear()  # what the restarted actor was asked for may be lost

    def _advance(self) -> None:
        if self._run.process != self._score.process:
            return  # until the opening is in the ledger
        if self._ending or self._run.status is not RunStatus.RUNNING or self._run.stopped is not None:
            self._end()
        elif self._halt is not None:
            self._record_halt(self._halt)
        else:
            self._carry_out()

    def _carry_out(self) -> None:
        clock = self.runtime.clock
        now = Moment(clock.wall_ms(), clock.steady_ms())
        decision = decide(self._run, now, self.runtime.random.random())
        keys = {order.key for order in decision.orders}
        fresh = [order for order in decision.orders if order.key not in self._given]
        self._given = keys
        for order in fresh:
            self._give(order)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if decision.wake_after_ms is not None:
            self._wake = self.tell_later(decision.wake_after_ms, _Wake())

    def _give(self, order: orders.Order) -> None:
        match order:
            case orders.Append(message, file):
                if file is None:
                    self.tell(LEDGER, Append(message))
                else:
                    self._when_durable(partial(self._append_with_file, Append(message), file))
            case orders.StartAgent(role, nth):
                self._tell_when_durable(role, StartAgent(role, nth))
            case orders.AskOperator():
                self._tell_when_durable(APPROVER, order)
            case _:
                self._tell_when_durable(SNAPSHOTTER, Work(order, self._run))

    def _tell_when_durable(self, name: str, message: object) -> None:
        self._when_durable(partial(self.tell, name, message))

    def _when_durable(self, deed: Callable[[], object]) -> None:
        """Do it when everything is durable that is folded now."""
        if self._position.seq <= self._durable_seq:
            deed()
        else:
            self._held.append((self._position.seq, deed))

    def _let_go(self) -> None:
        while self._held and self._held[0][0] <= self._durable_seq:
            _, deed = self._held.popleft()
            deed()

    def _append_with_file(self, append: Append, file: RequestFile) -> None:
        try:
            write_atomic(self._score.root / file.path, file.content)
        except StorageError as error:
            self.tell(MAIN, Broken("storage_failed", f"{error.where}: {error.what}", error.remedy))
        else:
            self.tell(LEDGER, append)

    def _record_halt(self, halt: Halt) -> None:
        """Have the stop recorded; when it is heard, the ending begins."""
        if self._run.stopped is not None:
            self._end()
            return
        note = RunStopped(nth=self._run.resumes, code=halt.code, message=halt.message)
        run_id = self._run.run_id
        now_ms = self.runtime.clock.wall_ms()
        event = event_of(note, task_id=run_id, correlation_id=run_id, now_ms=now_ms, cause=(self._run.resumes,))
        self.tell(LEDGER, Append(event))

    def _end(self) -> None:
        """End the agents, then the projections, then say so: nothing is appended after that."""
        if not self._ending:
            self._ending = True
            self._given = set()
            self.tell_later(END_MS, _EndOverdue())
            for role in LOOP_ROLES:
                self._tell_when_durable(role, EndAgent())
        if any(agent.up is not None for agent in self._run.agents.values()):
            return
        last = self._position.seq
        # One after the other: the checkpoint that the second one writes says that everything else is on disk.
        behind = next((name for name in (TRANSCRIPT, RUN_STATE) if self._projected.get(name, 0) < last), None)
        if behind is None:
            self._say_end()
        elif self._asked_for != (behind, last):
            self._asked_for = (behind, last)
            self._tell_when_durable(LEDGER, FlushAll(behind))

    def _say_end(self) -> None:
        over = self._run.status is not RunStatus.RUNNING
        self._tell_when_durable(MAIN, Finished(self._run) if over else Halted(self._run))
