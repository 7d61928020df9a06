"""The outside reader knows what was acknowledged, and is not misled by a tail that is cut off and written anew."""

import json
from pathlib import Path
from typing import Any

from lorch_actors.chaos.tail import Tail
from lorch_actors.protocol.times import to_timestamp

WHO = {"boot_id": "boot", "pid": 7, "start_ticks": 9}


def line(seq: int, durable: int, chain: str = "", **given: Any) -> bytes:
    """Return a ledger line as the reader sees it."""
    body = {"kind": "log", **given, "ledger": {"seq": seq, "durable": durable, "chain": chain or f"c{seq}"}}
    return json.dumps(body).encode() + b"\n"


def event(name: str, payload: dict[str, Any], message_id: str) -> dict[str, Any]:
    """Return a system event."""
    return {
        "kind": "event",
        "event": f"system.{name}",
        "payload": payload,
        "message_id": message_id,
        "occurred_at": to_timestamp(5000),
    }


STARTED = event("agent_started", {"agent_type": "builder", "agent_id": "b-1", "process": WHO}, "m-1")


def test_what_a_later_line_vouches_for_is_acknowledged(tmp_path: Path):
    """Not what stands at the end, however whole it looks."""
    path = tmp_path / "x.ndjson"
    path.write_bytes(line(1, 0) + line(2, 1) + line(3, 2)[:-9])
    tail = Tail(path)

    tail.look(1.0)
    assert tail.acknowledged == {1: "c1"}

    path.write_bytes(line(1, 0) + line(2, 1) + line(3, 2))
    tail.look(2.0)
    assert tail.acknowledged == {1: "c1", 2: "c2"}


def test_a_tail_that_was_cut_is_read_again(tmp_path: Path):
    """Nothing is noted twice, and what took the place of the old end is what counts."""
    path = tmp_path / "x.ndjson"
    path.write_bytes(line(1, 0, **STARTED) + line(2, 1) + line(3, 1, "lost"))
    tail = Tail(path)
    tail.look(1.0)

    path.write_bytes(line(1, 0, **STARTED) + line(2, 1))
    tail.look(2.0)
    path.write_bytes(line(1, 0, **STARTED) + line(2, 1) + line(3, 2, "new") + line(4, 3))
    tail.look(3.0)
    tail.look(4.0)

    assert tail.acknowledged == {1: "c1", 2: "c2", 3: "new"}
    assert [note.name for note in tail.notes] == ["agent_started"]


def test_it_knows_who_is_up(tmp_path: Path):
    """Agents until their exit is recorded or a new orchestrator took over, with the identity to kill them by."""
    path = tmp_path / "x.ndjson"
    exited = event("agent_exited", {"agent_type": "builder", "agent_id": "b-1"}, "m-2")
    worker = event("worker_started", {"actor": "ledger", "process": WHO}, "m-3")
    tail = Tail(path)

    path.write_bytes(line(1, 0, **STARTED) + line(2, 1, **worker))
    tail.look(1.0)
    assert (tail.agents["builder"][1].pid, tail.workers["ledger"].start_ticks) == (7, 9)

    path.write_bytes(path.read_bytes() + line(3, 2, **exited))
    tail.look(2.0)
    assert tail.agents == {}

    path.write_bytes(path.read_bytes() + line(4, 3, **event("run_resumed", {"nth": 1}, "m-4")))
    tail.look(3.0)
    assert tail.workers == {}


def test_a_ledger_that_is_not_there_yet_says_nothing(tmp_path: Path):
    """The run has only been started."""
    tail = Tail(tmp_path / "x.ndjson")

    tail.look(1.0)

    assert not tail.started
