"""What goes round the ring: appends one way, durable entries the other. Frozen values, and the names of the actors."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from lorch_actors.protocol.messages import AgentRole, Entry, Message
from lorch_actors.storage.ledger_format import Position
from lorch_actors.workflow.orders import Order
from lorch_actors.workflow.state import Run

MAIN: Final = "main"
RUN_SUPERVISOR: Final = "run-supervisor"
RING_SUPERVISOR: Final = "ring-supervisor"
AGENT_SUPERVISOR: Final = "agent-supervisor"
LEDGER: Final = "ledger"
RUN_STATE: Final = "run-state"
SNAPSHOTTER: Final = "snapshotter"
TRANSCRIPT: Final = "transcript"
APPROVER: Final = "approver"
CONDUCTOR: Final = "conductor"


class Append(Struct, frozen=True):
    """To the ledger: append this message. It is heard again, as an entry, when it is durable.

    compact: its line when it came through a pipe, else it is encoded. origin: who is told how many of its appends have
    become durable. urgent: sync at once; what is not may wait for the next sync, a second at most.
    """

    message: Message
    compact: bytes | None = None
    origin: str | None = None
    urgent: bool = True


class Subscribe(Struct, frozen=True):
    """To the ledger: tell this name every durable entry from now on that ``wants`` lets through (None: all).

    trails: it only follows, and hears what has become durable within a moment together: waking it for each entry would
    take the processors from those who act on the entry.

    foresees: it hears of entries when they are sealed, as `Sealed`, so that what it has to append because of them
    becomes durable together with them. `Appended` brings it only what it has not heard, and says that the rest is so.

    The answer is `Subscribed`; every entry after it comes as `Appended`. What comes before the answer was meant for a
    predecessor of that name: it is to be dropped.
    """

    name: str
    wants: Callable[[Entry], bool] | None = None
    trails: bool = False
    foresees: bool = False


class Subscribed(Struct, frozen=True):
    """To a subscriber: entries up to this place are durable and in the file; later ones will be told."""

    position: Position


class Sealed(Struct, frozen=True):
    """To a subscriber that foresees: these have their place in the ledger, and are on their way to the disk.

    They may still be lost, together with all behind them. So they may lead to appends, and to nothing else until they
    come to be `Appended`.
    """

    entries: tuple[Entry, ...]


class Appended(Struct, frozen=True):
    """To a subscriber: these are durable now, with their lines as they stand in the file; ``end``: after the last.

    own: how many appends of the subscriber's own are among what has become durable since the last time.
    """

    entries: tuple[Entry, ...]
    lines: tuple[bytes, ...]
    end: Position
    own: int = 0


class StartAgent(Struct, frozen=True):
    """To an agent actor: start the next process."""

    role: AgentRole
    nth: int


class EndAgent(Struct, frozen=True):
    """To an agent actor: end its process; no further one will be started."""


class Work(Struct, frozen=True):
    """To the snapshotter: carry out this order; its answer is appended."""

    order: Order
    run: Run


class FlushAll(Struct, frozen=True):
    """To the ledger, which passes it on to that projection behind everything durable: bring all of it on disk."""

    name: str
    reply_to: str = CONDUCTOR


class Projected(Struct, frozen=True):
    """To who asked for it: this projection has everything up to that number on disk."""

    name: str
    seq: int


class Finished(Struct, frozen=True):
    """To the main thread: the run is over, and the projections say so."""

    run: Run


class Halt(Struct, frozen=True):
    """To the conductor: give no more orders, record why the run stops, then say `Halted`."""

    code: str
    message: str


class Halted(Struct, frozen=True):
    """To the main thread: the stop is on record."""

    run: Run


class Beat(Struct, frozen=True):
    """To the conductor, from a timer: tell the guardian that the ring is alive."""


class Broken(Struct, frozen=True):
    """To the main thread: the run cannot go on; it stops resumably."""

    code: str
    message: str
    remedy: str = ""
