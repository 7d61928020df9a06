"""The ledger writer: the one place through which everything goes that ever happens in a run.

In the orchestrator a front drops repeats, numbers and seals what is to be appended, keeps it until it is durable, and
only then tells the subscribers. In a process of its own a worker (``ledger_worker``) holds the ledger's lock and file.

An answer and the command that follows from it are one write and one sync as well. Who decides hears of an answer when
it is sealed, and what the front has sealed goes to the worker when all who share its thread have had their turn.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.ledger_worker import LedgerPlace, LedgerWorker
from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.ring import MAIN, Append, Appended, Broken, FlushAll, Sealed, Subscribe, Subscribed
from lorch_actors.actors.worker_records import worker_started
from lorch_actors.errors import FailureCode
from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.messages import Entry, Event, Message, own_id
from lorch_actors.protocol.parse import decode, encode
from lorch_actors.storage.ledger_format import Position, seal
from lorch_actors.workflow.system import RunStarted

LAZY_SYNC_MS: Final = 1000
LAZY_ENTRIES_MAX: Final = 128
"""So many wait for each other at most: fewer than what an agent may have under way, else it would wait as well."""
TRAIL_MS: Final = 100
"""How long what is durable waits for more before those hear of it who only follow."""
BATCH_BYTES: Final = 256 * 1024
"""So much goes to the worker at once; what is more does not wait for more."""

REMEMBERED_IDS: Final = 16_384


class _Waiting(Struct, frozen=True):
    """An entry that is numbered and sealed but not durable yet."""

    entry: Entry
    line: bytes
    origin: str | None


class _SyncNow(Struct, frozen=True):
    """To self: what has waited for a sync has waited long enough."""


class _Foretell(Struct, frozen=True):
    """To self, behind the appends that are here: tell what is sealed to those who foresee."""


class _Send(Struct, frozen=True):
    """To self, when all in this thread have had their turn: give the worker what is sealed."""


class _TellTrailing(Struct, frozen=True):
    """To self: what those who only follow have not heard yet has waited long enough."""


class LedgerWriter(ProcessActor):
    """The front. See the module."""

    in_reactor = True

    def __init__(
        self, context: ActorContext, *, place: LedgerPlace, seen: Iterable[str] = (), stall_ms: int = 10_000
    ) -> None:
        super().__init__(context, create=partial(LedgerWorker, place), stall_ms=stall_ms)
        self._place = place
        self._subscribers: dict[str, Subscribe] = {}
        self._waiting: list[_Waiting] = []
        self._untold: list[_Waiting] = []  # durable; those who only follow have not heard of it
        self._durable: Position | None = None
        self._seq = 0
        self._chain = place.run_id
        self._seen = OrderedDict.fromkeys(seen)  # a plain dict is slow to tell its first once many were deleted
        self._urgent = 0  # number of the last entry that asked for a sync
        self._foretold = 0  # number of the last entry that those know who foresee
        self._unsent: list[list[Any]] = []  # [seq, line]: sealed, and not with the worker yet
        self._unsent_bytes = 0
        self._sync_wanted = False
        self._sync_timer: Timer | None = None
        self._unsynced = 0  # entries since the last one that was sent with the request to sync
        self._refused = False
        self._early: list[Append] = []  # what came before the first entry, which says what run this is

    def receive(self, message: Any) -> None:
        """Take appends and subscriptions."""
        match message:
            case Append():
                self._append(message)
            case _Foretell():
                self._foretell()
            case _Send():
                self._send_sealed()
            case _TellTrailing():
                self._tell_trailing()
            case FlushAll(name):
                self._tell_trailing()
                self.tell(name, message)
            case Subscribe(name):
                self._tell_trailing()  # meant for the predecessor
                self._subscribers[name] = message
                # Whoever picks out what is meant for him acts on it at once; who hears everything takes longer over it.
                self._subscribers = dict(sorted(self._subscribers.items(), key=lambda one: one[1].wants is None))
                if self._durable is not None:
                    self.tell(name, Subscribed(self._durable))
                    if message.foresees:
                        self._foretold = self._durable.seq  # what is under way it hears of when that is durable
            case _SyncNow():
                self._sync_timer = None
                if self._waiting:
                    self._sync_wanted = True
                    self._send_sealed()
            case _:
                super().receive(message)

    def stopping(self) -> bool:
        """Have the worker write what is sealed before it is closed."""
        self._send_sealed()
        return super().stopping()

    def on_worker_up(self, identity: ProcessIdentity) -> None:
        """Record who works from now on."""
        worker_started(self, self._place.run_id, identity)

    def on_hello(self, hello: dict[str, Any]) -> None:
        """Take over the ledger's end from a new worker; what it does not have is delivered again by the base."""
        if "refused" in hello:
            self._on_refused(hello["refused"])
            return
        if self._durable is None:
            end = Position(hello["seq"], hello["chain"], hello["offset"])
            self._durable, self._seq, self._chain = end, end.seq, end.chain
            for name in self._subscribers:
                self.tell(name, Subscribed(end))
        else:
            self._publish(hello["seq"], hello["offset"])

    def on_reply(self, reply: Any) -> None:
        """Publish what has become durable."""
        if "refused" in reply:
            self._on_refused(reply["refused"])
        else:
            self._publish(reply["seq"], reply["offset"])

    def _append(self, append: Append) -> None:
        message = append.message
        if self._seq == 0 and not _opens_a_run(message):
            self._early.append(append)
            return
        if self._refused or self._is_repeat(message):
            return
        try:
            compact = append.compact if append.compact is not None else _readable(message)
        except ValueError as error:
            self._on_refused([f"an entry of our own cannot be written: {error}", "", "Please report this."])
            return
        self._seq += 1
        durable = self._durable.seq if self._durable else 0
        line, self._chain = seal(compact, self._seq, durable, self._chain)
        entry = Entry(self._seq, self._chain, message, self.now_ms())
        self._waiting.append(_Waiting(entry, line, append.origin))
        self._unsynced += 1
        is_urgent = append.urgent or self._unsynced >= LAZY_ENTRIES_MAX
        self._send_soon(line, is_urgent=is_urgent)
        early, self._early = self._early, []
        for one in early:
            self._append(one)

    def _send_soon(self, line: bytes, *, is_urgent: bool) -> None:
        if not self._unsent:
            self.tell_later(0, _Send())
        self._unsent.append([self._seq, line])
        self._unsent_bytes += len(line)
        if is_urgent:
            self._unsynced = 0
            self._urgent = self._seq
            if not self._sync_wanted:
                self._sync_wanted = True
                self.tell_self(_Foretell())
        elif self._sync_timer is None:
            self._sync_timer = self.tell_later(LAZY_SYNC_MS, _SyncNow())
        if self._unsent_bytes > BATCH_BYTES or self._stopping:
            self._send_sealed()

    def _send_sealed(self) -> None:
        if self._unsent or self._sync_wanted:
            lines, sync = self._unsent, self._sync_wanted
            self._unsent, self._unsent_bytes, self._sync_wanted = [], 0, False
            self.send({"lines": lines, "sync": sync})
            self._foretell()  # what has been sealed since is thought about while the disk works

    def _foretell(self) -> None:
        durable = self._seq - len(self._waiting)  # what waits has the numbers behind it, without a gap
        fresh = self._waiting[max(0, self._foretold - durable) : max(0, self._urgent - durable)]
        if fresh:
            entries = tuple([one.entry for one in fresh])
            self._foretold = entries[-1].seq
            for name, subscriber in self._subscribers.items():
                if subscriber.foresees:
                    self.tell(name, Sealed(entries))

    def _is_repeat(self, message: Message) -> bool:
        """Tell whether a message of our own is in the ledger or under way already, and remember it if it is not."""
        known = own_id(message)
        if known is None:
            return False
        if known in self._seen:
            return True
        self._seen[known] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return False

    def _publish(self, seq: int, offset: int) -> None:
        """Tell everybody what has become durable, up to ``seq``; the file ends at ``offset`` there."""
        ready = [one for one in self._waiting if one.entry.seq <= seq]
        if not ready:
            return
        del self._waiting[: len(ready)]
        self._durable = Position(seq, ready[-1].entry.chain, offset)
        if self._sync_timer is not None and not self._waiting:
            self._sync_timer.cancel()
            self._sync_timer = None
        if not self._untold:
            self.tell_later(TRAIL_MS, _TellTrailing())
        self._untold += ready
        for subscriber in self._subscribers.values():
            if not subscriber.trails:
                self._tell_durable(subscriber, ready, self._durable)

    def _tell_trailing(self) -> None:
        ready, self._untold = self._untold, []
        if ready and self._durable is not None:
            for subscriber in self._subscribers.values():
                if subscriber.trails:
                    self._tell_durable(subscriber, ready, self._durable)

    def _tell_durable(self, subscriber: Subscribe, ready: Sequence[_Waiting], end: Position) -> None:
        wants, own = subscriber.wants, sum(one.origin == subscriber.name for one in ready)
        if subscriber.foresees:
            ready = [one for one in ready if one.entry.seq > self._foretold]
        chosen = ready if wants is None else [one for one in ready if wants(one.entry)]
        if chosen or own or subscriber.foresees:
            entries, lines = tuple([one.entry for one in chosen]), tuple([one.line for one in chosen])
            self.tell(subscriber.name, Appended(entries, lines, end, own))

    def _on_refused(self, refusal: Sequence[str]) -> None:
        """Stop the run: the disk refuses, and nothing may be acted on that is not durable."""
        self._refused = True
        self._unsent, self._unsent_bytes, self._sync_wanted = [], 0, False
        what, where, remedy = refusal
        self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{where}: {what}" if where else what, remedy))


def _readable(message: Message) -> bytes:
    """Return the message in bytes; raises ValueError for what no reader would take, which would be there for ever."""
    compact = encode(message)
    decode(compact)
    return compact


def _opens_a_run(message: Message) -> bool:
    return isinstance(message, Event) and message.event == f"system.{RunStarted.name}"
