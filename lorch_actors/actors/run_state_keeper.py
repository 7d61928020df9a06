"""The run-state keeper: projects the ledger into receipts, `run.json`, `index.json` and the checkpoint.

The front passes durable entries on; the worker, in a process of its own and under the lock of `run.json`, folds them
with the same function as everybody. Receipts are written as the entries come, the rest at most five times a second.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.ring import (
    CONDUCTOR,
    LEDGER,
    MAIN,
    Appended,
    Broken,
    FlushAll,
    Projected,
    Subscribe,
    Subscribed,
)
from lorch_actors.actors.worker import Worker, WorkerContext
from lorch_actors.actors.worker_records import worker_started
from lorch_actors.errors import FailureCode, StorageError
from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.messages import Entry
from lorch_actors.protocol.parse import decode
from lorch_actors.records.projector import Projector
from lorch_actors.storage.ledger_format import Position, split
from lorch_actors.storage.locks import Lock, hold, this_process
from lorch_actors.storage.workspace import Workspace

FLUSH_MS: Final = 200
LOCK_WAIT_S: Final = 5.0
CATCH_UP_ENTRIES: Final = 1000


class KeeperPlace(Struct, frozen=True):
    """Whose state is kept, and where."""

    root: Path
    run_id: str
    started_at: str


class RunStateWorker(Worker):
    """Folds and writes.

    Messages: ``{"catch_up": seq}``, ``{"lines": […], "end": offset}``, ``{"flush": whether with a checkpoint}``.
    """

    def __init__(self, place: KeeperPlace) -> None:
        self._place = place
        self._lock: Lock | None = None
        self._projector: Projector | None = None

    def open(self) -> dict[str, Any]:
        """Take the lock of `run.json`."""
        workspace = Workspace(self._place.root)
        holder = this_process(self._place.run_id, self._place.started_at)
        self._lock = hold(workspace.run_state_lock, holder, wait_s=LOCK_WAIT_S)
        self._projector = Projector(workspace, self._place.run_id)
        return {}

    def handle(self, messages: Sequence[Any], context: WorkerContext) -> Iterable[Any]:
        """Bring the projections forward. A disk that refuses is told, not raised: a new process would not help."""
        assert self._projector is not None
        try:
            for message in messages:
                self._handle(self._projector, message, context)
        except StorageError as error:
            return [{"refused": [error.what, error.where, error.remedy]}]
        return [{"seq": self._projector.position.seq, "dirty": self._projector.dirty}]

    def _handle(self, projector: Projector, message: Any, context: WorkerContext) -> None:
        if "lines" in message:
            offset = message["end"] - sum(len(line) + 1 for line in message["lines"])
            for line in message["lines"]:
                context.progress()
                offset += len(line) + 1
                sealed = split(line)
                assert sealed is not None
                if sealed.seq > projector.position.seq + 1:
                    _catch_up(projector, sealed.seq - 1, context)  # a new worker begins with what its front still holds
                entry = Entry(sealed.seq, sealed.chain, decode(sealed.message_json))
                projector.apply(entry, Position(entry.seq, entry.chain, offset))
            projector.settle()
        elif "catch_up" in message:
            _catch_up(projector, message["catch_up"], context)
        else:
            projector.flush()
            if message["flush"]:
                projector.checkpoint()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()


def _catch_up(projector: Projector, upto_seq: int, context: WorkerContext) -> None:
    """Fold what the file holds up to an entry, with signs of life in between."""
    while projector.position.seq < upto_seq:
        context.progress()
        projector.catch_up(min(upto_seq, projector.position.seq + CATCH_UP_ENTRIES))


class _FlushNow(Struct, frozen=True):
    """To self: run state and index have been behind long enough."""


class RunStateKeeper(ProcessActor):
    """The front. See the module."""

    def __init__(self, context: ActorContext, *, place: KeeperPlace, stall_ms: int = 10_000) -> None:
        super().__init__(context, create=partial(RunStateWorker, place), stall_ms=stall_ms)
        self._place = place
        self._seq = 0
        self._told = 0
        self._final: int | None = None
        self._reply_to = CONDUCTOR
        self._flush_timer: Timer | None = None

    def on_worker_up(self, identity: ProcessIdentity) -> None:
        """Record who works from now on."""
        worker_started(self, self._place.run_id, identity)

    def on_hello(self, hello: dict[str, Any]) -> None:
        """Ask for entries; a later worker catches up by itself when it gets the next one."""
        if not self._announced:
            self.tell(LEDGER, Subscribe(self.name, trails=True))

    def receive(self, message: Any) -> None:
        """Pass durable entries on."""
        match message:
            case Subscribed(position):
                self._seq = position.seq
                self.send({"catch_up": position.seq})
            case Appended(_, lines, end):
                self._seq = end.seq
                self.send({"lines": lines, "end": end.offset})
            case _FlushNow():
                self._flush_timer = None
                self.send({"flush": False})
            case FlushAll(_, reply_to):
                self._final, self._reply_to = self._seq, reply_to
                self.send({"flush": True})
            case _:
                super().receive(message)

    def on_reply(self, reply: Any) -> None:
        """Ask for a flush when there is something to write; tell the conductor when the last one is done."""
        if "refused" in reply:
            what, where, remedy = reply["refused"]
            self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{where}: {what}", remedy))
        elif reply["dirty"]:
            if self._flush_timer is None:
                self._flush_timer = self.tell_later(FLUSH_MS, _FlushNow())
        elif self._final is not None and reply["seq"] >= self._final:
            self.tell(self._reply_to, Projected(self.name, reply["seq"]))
