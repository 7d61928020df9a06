"""Nothing is acted on before it is on the disk: it is synced before any agent or file hears of what is in it."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench import Bench

from lorch_actors.actors.ledger_worker import LedgerPlace, LedgerWorker
from lorch_actors.errors import StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.ledger_format import seal

RUN_ID = "run-20260101-000000-00000000"


class Context:
    """Stands for the link of a worker: takes its signs of life."""

    def progress(self) -> None:
        return


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is done to the disk, as it is done."""
    done: list[str] = []

    def call(name: str, real: Callable[..., Any], *arguments: Any) -> Any:
        done.append(name)
        return real(*arguments)

    for name in ("write", "sync_data", "sync_file", "sync_directory"):
        monkeypatch.setattr(disk, name, partial(call, name, getattr(disk, name)))
    return done


@pytest.fixture
def worker(tmp_path: Path, calls: list[str]) -> Any:
    """Make the process half of the ledger writer, in this process."""
    place = LedgerPlace(tmp_path / "ledger", tmp_path / "ledger.lock", RUN_ID, "2026-01-01T00:00:00.000Z")
    made = LedgerWorker(place)
    made.open()
    calls.clear()
    yield made
    made.close()


def lines(count: int) -> list[list[Any]]:
    """Return sealed lines, as the front sends them."""
    chain, found = RUN_ID, []
    for seq in range(1, count + 1):
        line, chain = seal(b'{"kind":"log"}', seq, 0, chain)
        found.append([seq, line])
    return found


def test_the_ledger_is_synced_before_the_writer_answers(worker: Any, calls: list[str]) -> None:
    """One write and one sync for all that has arrived together."""
    one, two, three = lines(3)

    (answer,) = worker.handle([{"lines": [one], "sync": True}, {"lines": [two, three], "sync": True}], Context())

    assert calls == ["write", "sync_data"]
    assert answer["seq"] == 3


def test_what_is_not_synced_is_not_called_durable(worker: Any, calls: list[str]) -> None:
    """Heartbeats wait for the next sync."""
    one, two = lines(2)

    (first,) = worker.handle([{"lines": [one], "sync": False}], Context())
    (second,) = worker.handle([{"lines": [two], "sync": False}], Context())
    (third,) = worker.handle([{"lines": [], "sync": True}], Context())

    assert [first["seq"], second["seq"], third["seq"]] == [0, 0, 2]
    assert calls == ["write", "write", "sync_data"]


def test_a_writer_that_was_refused_writes_no_more(
    worker: Any, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way meanwhile does not follow from what is left in the file: it is passed over."""
    one, two = lines(2)

    def refuse(_fd: int) -> None:
        raise StorageError("no", where="ledger")

    monkeypatch.setattr(disk, "sync_data", refuse)
    (answer,) = worker.handle([{"lines": [one], "sync": True}], Context())
    calls.clear()

    assert answer["refused"][0] == "no"
    assert worker.handle([{"lines": [two], "sync": True}], Context()) == []
    assert calls == []


def test_file_and_directory_are_synced_when_the_ledger_is_opened(tmp_path: Path, calls: list[str]) -> None:
    """A ledger whose name is not on the disk is no ledger."""
    place = LedgerPlace(tmp_path / "ledger", tmp_path / "ledger.lock", RUN_ID, "2026-01-01T00:00:00.000Z")
    worker = LedgerWorker(place)

    worker.open()

    assert calls[-2:] == ["sync_file", "sync_directory"]
    worker.close()


def test_a_command_does_not_wait_for_the_sync_of_the_answer_that_led_to_it(tmp_path: Path) -> None:
    """Each line says up to where the ledger was on the disk when it was sealed: for both, that is the same place."""
    there = Bench(tmp_path / "w")
    assert there.run().code == 0

    pairs = [
        (answer["ledger"]["durable"], command["ledger"]["durable"])
        for answer, command in pairwise(there.ledger())
        if command["kind"] == "command" and answer["kind"] == "event" and answer["from"]["agent_type"] != "system"
    ]
    assert pairs
    assert all(before == after for before, after in pairs), pairs
