"""Appending under load: 64 appenders, each waiting until its entry is on the disk before it appends the next.

The reference gives each appender a connection to one SQLite database in WAL mode with synchronous=FULL, and each entry
a transaction of its own.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import LINE, in_threads, place
from lorch_actors.actors.child import child
from lorch_actors.actors.ledger_worker import LedgerPlace
from lorch_actors.actors.ledger_writer import LedgerWriter
from lorch_actors.actors.ring import LEDGER, Append, Appended, Subscribe, Subscribed
from lorch_actors.actors.runtime import Runtime, start_runtime
from lorch_actors.actors.supervisor import Supervisor
from lorch_actors.actors.tree import start_tree
from lorch_actors.protocol.messages import AgentType, Entry, Event, Sender
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.system import RunStarted

TITLE = "ledger append under load"
APPENDERS = 64
RUN_ID = "run-20260101-000000-0a1b2c3d"
TIMEOUT_S = 60.0


def measure(*, quick: bool) -> Iterator[Result]:
    each = 30 if quick else 200
    points = []
    for appenders in (1, 8, APPENDERS):
        with place() as directory:
            ours = _ours(directory, appenders, each)
        points.append((float(appenders), ours))
    with place() as directory:
        theirs = _sqlite(directory, APPENDERS, max(10, each // 10))
    yield Figure(f"{APPENDERS} appenders", ours, "entries/s", "SQLite WAL FULL", theirs, 5.0, "at least")
    yield Growth("group commit", "appenders", "entries/s", tuple(points))


class _Heard:
    """A subscriber that wakes whoever waits for an entry."""

    def __init__(self) -> None:
        self.subscribed = threading.Event()
        self.waiting: dict[str, queue.SimpleQueue[None]] = {}

    def tell(self, message: Any) -> None:
        match message:
            case Subscribed():
                self.subscribed.set()
            case Appended(entries):
                for entry in entries:
                    self._wake(entry)

    def _wake(self, entry: Entry) -> None:
        message = entry.message
        if isinstance(message, Event) and message.correlation_id in self.waiting:
            self.waiting[message.correlation_id].put(None)


def _ours(directory: Path, appenders: int, each: int) -> float:
    place_ = LedgerPlace(directory / "ledger.ndjson", directory / "lock", RUN_ID, "2026-01-01T00:00:00.000Z")
    runtime = start_runtime(preload=["lorch_actors.actors.ledger_writer"])
    heard = _Heard()
    heard.waiting = {f"appender-{number}": queue.SimpleQueue() for number in range(appenders)}
    runtime.directory.register("heard", heard)
    tree = start_tree(runtime, child(Supervisor, "top", children=[child(LedgerWriter, LEDGER, place=place_)]))
    try:
        if not tree.wait_started(int(TIMEOUT_S * 1000)):
            raise RuntimeError("the ledger did not start")
        runtime.tell(LEDGER, Subscribe("heard"))
        heard.subscribed.wait(TIMEOUT_S)
        runtime.tell(LEDGER, Append(_opening()))
        seconds = in_threads(appenders, partial(_append, runtime, heard, each))
    finally:
        tree.stop()
        tree.wait(int(TIMEOUT_S * 1000))
        runtime.close()
    return appenders * each / seconds


def _append(runtime: Runtime, heard: _Heard, each: int, number: int) -> None:
    name = f"appender-{number}"
    mine = heard.waiting[name]
    for entry in range(each):
        runtime.tell(LEDGER, Append(_event(name, entry)))
        mine.get(timeout=TIMEOUT_S)


def _event(name: str, number: int) -> Event:
    return Event(
        message_id=f"{name}-{number}",
        correlation_id=name,
        task_id="T-1",
        sender=Sender(agent_type=AgentType.BUILDER),
        event="builder.progress",
        payload={"text": 280 * "x"},
        occurred_at="2026-01-01T00:00:00.000Z",
    )


def _opening() -> Event:
    note = RunStarted(policy={}, agents={}, task_count=0, tasks=[])
    return event_of(note, task_id=RUN_ID, correlation_id=RUN_ID, now_ms=int(time.time() * 1000), cause=(0,))


def _sqlite(directory: Path, appenders: int, each: int) -> float:
    path = directory / "reference.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE ledger (seq INTEGER PRIMARY KEY, line BLOB)")
    connection.close()

    def append(_number: int) -> None:
        own = sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None)
        own.execute("PRAGMA synchronous=FULL")
        for _ in range(each):
            own.execute("INSERT INTO ledger (line) VALUES (?)", (LINE,))
        own.close()

    return appenders * each / in_threads(appenders, append)
