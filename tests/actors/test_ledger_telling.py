"""Whom the ledger tells what has become durable, when, and in which order."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from actor_probes import ManualClock, Probe

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.ledger_worker import LedgerPlace
from lorch_actors.actors.ledger_writer import LAZY_SYNC_MS, TRAIL_MS, LedgerWriter
from lorch_actors.actors.messages import Down, Started, Stop
from lorch_actors.actors.ring import LEDGER, MAIN, Append, Appended, FlushAll, Sealed, Subscribe, Subscribed
from lorch_actors.actors.runtime import Runtime
from lorch_actors.storage.ledger import read_entries
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.system import RunStarted, RunStopped

RUN_ID = "run-20260101-000000-0a1b2c3d"


class Subscriber:
    """Notes what it is told, under its name, in a log that all share."""

    def __init__(self, name: str, log: Probe) -> None:
        self._name = name
        self._log = log

    def tell(self, message: Any) -> None:
        if isinstance(message, Appended):
            self._log.tell((self._name, [entry.seq for entry in message.entries]))
        elif not isinstance(message, Subscribed):
            self._log.tell((self._name, type(message).__name__))


@pytest.fixture
def ledger(
    runtime: Runtime, context: Callable[[str], ActorContext], boss: Probe, log: Probe, tmp_path: Path
) -> Iterator[Any]:
    """Have a ledger with one that only follows, one that hears everything, and one that picks out what it hears."""
    place = LedgerPlace(tmp_path / "ledger.ndjson", tmp_path / "lock", RUN_ID, "2026-01-01T00:00:00.000Z")
    ref = LedgerWriter.start(context(LEDGER), place=place)
    assert boss.next() == Started(LEDGER, 1)
    for name, how in (
        ("follower", {"trails": True}),
        ("listener", {}),
        ("picker", {"wants": lambda _: True}),
    ):
        runtime.directory.register(name, Subscriber(name, log))
        ref.tell(Subscribe(name, **how))
    yield ref
    ref.tell(Stop())
    assert isinstance(boss.next(), Down)


def append(ledger: Any, nth: int, *, urgent: bool = True) -> None:
    """Have an entry of its own appended, the first of which begins the run."""
    note = RunStarted(policy={}, agents={}, task_count=0, tasks=[]) if nth == 1 else RunStopped(nth, "signal", "why")
    event = event_of(note, task_id=RUN_ID, correlation_id=RUN_ID, now_ms=0, cause=(nth,))
    ledger.tell(Append(event, urgent=urgent))


class Foreseer:
    """Notes what it hears of before it is durable and after; answers each odd entry with the next one, at once."""

    def __init__(self, ledger: Any, log: Probe) -> None:
        self._ledger = ledger
        self._log = log

    def tell(self, message: Any) -> None:
        if isinstance(message, (Sealed, Appended)):
            numbers = [entry.seq for entry in message.entries]
            self._log.tell((type(message).__name__, numbers))
            for number in numbers:
                if number % 2:
                    append(self._ledger, number + 1)


@pytest.fixture
def foreseen(ledger: Any, log: Probe, runtime: Runtime) -> Probe:
    """Have one subscriber that foresees; return what it notes."""
    heard = Probe()
    runtime.directory.register("foreseer", Foreseer(ledger, heard))
    ledger.tell(Subscribe("foreseer", foresees=True))
    return heard


def test_who_picks_out_what_it_hears_hears_it_first(ledger: Any, log: Probe) -> None:
    """An agent is given its command before the conductor considers that it is on its way."""
    append(ledger, 1)

    assert log.take(2) == [("picker", [1]), ("listener", [1])]


@pytest.mark.parametrize("task_id", ["[redacted:A_KEY]-1", "\udcff"])
def test_what_no_reader_would_take_is_not_sealed(
    ledger: Any, log: Probe, runtime: Runtime, tmp_path: Path, task_id: str
) -> None:
    """A sealed line stays. The run stops instead, and can be resumed by a version that knows better."""
    main = Probe()
    runtime.directory.register(MAIN, main)
    append(ledger, 1)
    log.take(2)
    note = RunStopped(2, "signal", "why")
    ledger.tell(Append(event_of(note, task_id=task_id, correlation_id=RUN_ID, now_ms=0, cause=(2,))))
    append(ledger, 3)

    assert "an entry of our own cannot be written" in main.next().message
    assert [entry.seq for entry, _ in read_entries(tmp_path / "ledger.ndjson", RUN_ID)] == [1]
    assert log.rest() == []


def test_who_only_follows_hears_of_it_later_and_together(ledger: Any, clock: ManualClock, log: Probe) -> None:
    """It is not woken for each entry while others act on it."""
    for nth in (1, 2):
        append(ledger, nth)
        assert log.take(2) == [("picker", [nth]), ("listener", [nth])]
    clock.advance(TRAIL_MS)

    assert log.next() == ("follower", [1, 2])


def test_a_request_to_flush_comes_behind_everything_durable(ledger: Any, log: Probe) -> None:
    """Whoever asks for it has heard of an entry that the follower has not."""
    append(ledger, 1)
    log.take(2)
    ledger.tell(FlushAll("follower"))

    assert log.take(2) == [("follower", [1]), ("follower", "FlushAll")]


def test_what_its_predecessor_has_not_heard_is_not_told_to_the_next(
    ledger: Any, clock: ManualClock, log: Probe, runtime: Runtime
) -> None:
    """It reads that in the file: the answer to its subscription says up to where."""
    append(ledger, 1)
    log.take(2)
    heard = Probe()
    runtime.directory.register("follower", heard)
    ledger.tell(Subscribe("follower", trails=True))
    told = heard.take(2)
    clock.advance(TRAIL_MS)
    append(ledger, 2)
    log.take(2)

    assert [type(message) for message in told] == [Appended, Subscribed]
    assert heard.rest() == []


def test_an_answer_and_what_follows_from_it_go_to_the_worker_together(
    ledger: Any, log: Probe, foreseen: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who decides hears of an entry when it is sealed; what is appended because of it shares its write and its sync."""
    sent = []
    send = LedgerWriter.send

    def noting(front: LedgerWriter, message: Any) -> int:
        sent.append([seq for seq, _ in message["lines"]])
        return send(front, message)

    monkeypatch.setattr(LedgerWriter, "send", noting)
    append(ledger, 1)

    assert foreseen.take(3) == [("Sealed", [1]), ("Sealed", [2]), ("Appended", [])]
    assert log.take(2) == [("picker", [1, 2]), ("listener", [1, 2])]
    assert sent == [[1, 2]]


def test_who_foresees_hears_of_each_entry_once(ledger: Any, runtime: Runtime, clock: ManualClock) -> None:
    """What nobody is in a hurry about is not foretold, unless something follows that somebody is."""
    heard = Probe()
    runtime.directory.register("foreseer", heard)
    ledger.tell(Subscribe("foreseer", foresees=True))
    append(ledger, 1)
    told = heard.take(3)[1:]
    append(ledger, 2, urgent=False)
    ledger.ask(FlushAll("nobody"))  # now it waits for its sync
    clock.advance(LAZY_SYNC_MS)
    told.append(heard.next())
    append(ledger, 3, urgent=False)
    append(ledger, 4)
    told += heard.take(2)

    seen = [(type(message), [entry.seq for entry in message.entries]) for message in told]
    assert seen == [(Sealed, [1]), (Appended, []), (Appended, [2]), (Sealed, [3, 4]), (Appended, [])]


def test_a_successor_hears_of_what_its_predecessor_foresaw(ledger: Any, log: Probe, runtime: Runtime) -> None:
    """It reads what is durable in the file; what was sealed behind that, it hears of all the same."""
    append(ledger, 1)
    log.take(2)
    heard = Probe()

    class Predecessor:
        def tell(self, message: Any) -> None:
            if isinstance(message, Sealed):  # in the ledger's turn: the entry has not left it yet
                runtime.directory.register("foreseer", heard)
                ledger.tell(Subscribe("foreseer", foresees=True))

    runtime.directory.register("foreseer", Predecessor())
    ledger.tell(Subscribe("foreseer", foresees=True))
    append(ledger, 2)
    subscribed, appended = heard.take(2)

    assert (subscribed.position.seq, [entry.seq for entry in appended.entries]) == (1, [2])
