"""Lines of ledgers of lorch 1.5."""

import json
from typing import Any

import pytest

from lorch_actors.protocol.messages import Artifact, Command, Event, Heartbeat, Retry
from lorch_actors.protocol.parse import InvalidLine, parse_legacy

EVENT: dict[str, Any] = {
    "kind": "event",
    "message_id": "6f1c1f3e-5a5e-4d3c-8f3e-0a1b2c3d4e5f",
    "correlation_id": "corr-1",
    "task_id": "T-1",
    "from": {"agent_type": "builder", "agent_id": "builder#1"},
    "event": "builder.completed",
    "payload": {"tests": {"status": "pass"}},
    "occurred_at": "2025-10-19T14:08:18.123456789-07:00",
}
HEARTBEAT: dict[str, Any] = {
    "kind": "heartbeat",
    "agent": {"agent_type": "reviewer", "agent_id": "reviewer#1"},
    "seq": 1,
    "status": "ready",
    "pid": 7,
    "uptime_s": 0.5,
    "last_activity_at": "2025-10-19T21:08:18Z",
}
COMMAND: dict[str, Any] = {
    "kind": "command",
    "message_id": "cmd-6f1c1f3e",
    "correlation_id": "corr-1",
    "task_id": "T-1",
    "idempotency_key": "ik:0123456789abcdef",
    "to": {"agent_type": "builder"},
    "action": "implement",
    "inputs": None,
    "expected_outputs": None,
    "version": {"snapshot_id": "snap-0123456789ab"},
    "deadline": "0001-01-01T00:00:00Z",
}


def compact(document: Any) -> bytes:
    """Return a document as one line."""
    return json.dumps(document).encode()


@pytest.mark.parametrize("line", [b"", b"  \r", b"null", b" null "])
def test_blank_and_null_lines_are_nothing(line: bytes):
    """They were written around crashes and mean nothing."""
    assert parse_legacy(line) is None


def test_what_that_version_wrote_differently_is_read():
    """Unknown fields, nulls, offsets, odd checksums and foreign ids are brought into today's form."""
    line = compact(
        EVENT
        | {
            "message_id": "6f1c1f3e-…",
            "correlation_id": "",
            "status": None,
            "payload": None,
            "artifacts": [{"path": "a", "sha256": "sha256:abc", "size": 1}],
            "occurred_at": "2025-10-19T14:08:18.123456789-07:00",
            "trace": {"any": 1},
        }
    )

    message = parse_legacy(line)

    assert isinstance(message, Event)
    assert message.correlation_id == "-"
    assert message.payload is None
    assert message.artifacts == [Artifact("a", "sha256:abc", 1)]
    assert message.occurred_at == "2025-10-19T21:08:18.123Z"


def test_a_command_with_null_lists_is_read():
    """Absent inputs and outputs are empty, absent priority and retry have their least value."""
    message = parse_legacy(compact(COMMAND))

    assert isinstance(message, Command)
    assert (message.inputs, message.expected_outputs, message.priority) == ({}, [], 0)


def test_a_command_that_allowed_no_attempt_is_read():
    """That version wrote 0 where its configuration said nothing."""
    message = parse_legacy(compact(COMMAND | {"retry": {"attempt": 0, "max_attempts": 0}}))

    assert isinstance(message, Command)
    assert message.retry == Retry(attempt=0, max_attempts=1)


def test_an_event_of_an_unknown_name_is_nothing():
    """That version kept whatever its agents said; a name that means nothing does not damage the ledger."""
    assert parse_legacy(compact(EVENT | {"event": "builder.thinking"})) is None


def test_a_partial_heartbeat_is_nothing():
    """That version's heartbeats may have process id 0; they are not worth a refusal."""
    assert parse_legacy(compact(HEARTBEAT | {"pid": 0})) is None
    assert isinstance(parse_legacy(compact(HEARTBEAT)), Heartbeat)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"kind": None},
        {"from": {}},
        {"event": 5},
        {"task_id": "../x"},
        {"occurred_at": 5},
        {"occurred_at": "today"},
    ],
)
def test_what_cannot_be_understood_is_refused(change: dict[str, Any]):
    """A task id that leaves its directory, an unknown kind or a date that is none are still refused."""
    with pytest.raises(InvalidLine):
        parse_legacy(compact(EVENT | change))
