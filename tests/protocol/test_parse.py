"""One line becomes one message, or an InvalidLine."""

import json
import pickle
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.messages import (
    MESSAGE_MAX_BYTES,
    AgentType,
    Artifact,
    Command,
    Event,
    Heartbeat,
    Log,
    Recipient,
    Retry,
    Version,
)
from lorch_actors.protocol.parse import InvalidLine, MessageHead, decode, encode, parse_legacy, parse_message
from lorch_actors.protocol.redaction import Redactor

CHECKSUM = "sha256:" + "0123456789abcdef" * 4
EVENT: dict[str, Any] = {
    "kind": "event",
    "message_id": "m-1",
    "correlation_id": "c-0123456789abcdef",
    "task_id": "T-1",
    "from": {"agent_type": "builder", "agent_id": "builder-1f00ba42"},
    "event": "builder.completed",
    "payload": {"tests": {"status": "pass"}},
    "artifacts": [{"path": "src/a.py", "sha256": CHECKSUM, "size": 12}],
    "occurred_at": "2026-01-01T00:00:00.000Z",
}
HEAD = MessageHead("event", "builder.completed", "c-0123456789abcdef", "T-1", "builder")
HEARTBEAT: dict[str, Any] = {
    "kind": "heartbeat",
    "agent": {"agent_type": "reviewer", "agent_id": "r"},
    "seq": 0,
    "status": "busy",
    "pid": 7,
    "uptime_s": 1.5,
    "last_activity_at": "2026-01-01T00:00:00Z",
}
LOG: dict[str, Any] = {"kind": "log", "level": "info", "message": "hello", "timestamp": "2026-01-01T00:00:00Z"}
COMMAND = Command(
    message_id="cmd-1",
    correlation_id="c-1",
    task_id="T-1",
    idempotency_key="ik:0123456789abcdef",
    to=Recipient("builder"),
    action="implement",
    inputs={"run_id": "r", "big": 2**70},
    version=Version("snap-0123456789ab"),
    deadline="2026-01-01T00:00:00.000Z",
    retry=Retry(0, 3),
    priority=0,
)


def compact(document: Any) -> bytes:
    """Return a document as one compact line."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def event_of_size(size_bytes: int) -> bytes:
    """Return an event that is exactly that long."""
    empty = compact(EVENT | {"payload": {"x": ""}})
    return compact(EVENT | {"payload": {"x": "y" * (size_bytes - len(empty))}})


@pytest.mark.parametrize(("document", "type_"), [(EVENT, Event), (HEARTBEAT, Heartbeat), (LOG, Log)])
def test_each_kind_becomes_its_type(document: dict[str, Any], type_: type):
    """The kind decides the type; the compact form is what came."""
    line = compact(document)

    message, again = parse_message(line)

    assert type(message) is type_
    assert again == line
    assert decode(again) == message


def test_a_command_survives_the_way_to_its_agent():
    """What is encoded can be parsed, integers of any size included."""
    assert parse_message(encode(COMMAND)) == (COMMAND, encode(COMMAND))


def test_unknown_keys_inside_free_parts_are_kept():
    """Payloads are kept as they came, to the byte."""
    line = compact(EVENT | {"payload": {"z": [1.0, None, {"ü": 10**30}], "a": {}}})

    assert parse_message(line)[1] == line


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"extra": 1}, "unknown field"),
        ({"kind": "evnt"}, "kind"),
        ({"event": "builder.done"}, "event"),
        ({"event": "builder.completed\n"}, "event"),
        ({"task_id": "../../escape"}, "task_id"),
        ({"task_id": "T-1\n"}, "task_id"),
        ({"message_id": ""}, "message_id"),
        ({"from": {"agent_type": "robot"}}, "from"),
        ({"from": {"agent_type": "builder", "x": 1}}, "from"),
        ({"payload": []}, "payload"),
        ({"artifacts": [{"path": "a", "sha256": "abc", "size": 1}]}, r"artifacts\[0\].sha256"),
        ({"artifacts": [{"path": "a", "sha256": CHECKSUM, "size": True}]}, "size"),
        ({"artifacts": [{"path": "a", "sha256": CHECKSUM, "size": 1.5}]}, "size"),
        ({"artifacts": [{"path": "a", "sha256": CHECKSUM, "size": -1}]}, "size"),
        ({"occurred_at": "2026-01-01T00:00:00+02:00"}, "occurred_at"),
    ],
)
def test_a_message_that_breaks_the_protocol_is_refused_with_its_path(change: dict[str, Any], where: str):
    """The reason names the field; the head still tells what the line was meant to be."""
    with pytest.raises(InvalidLine, match=where) as caught:
        parse_message(compact(EVENT | change))

    assert caught.value.head is not None
    assert caught.value.head.correlation_id == HEAD.correlation_id


@pytest.mark.parametrize("missing", ["message_id", "correlation_id", "task_id", "from", "event", "occurred_at"])
def test_a_message_without_a_required_field_is_refused(missing: str):
    """Every required field is missed by name."""
    with pytest.raises(InvalidLine, match=missing):
        parse_message(compact({name: value for name, value in EVENT.items() if name != missing}))


@pytest.mark.parametrize(
    "line",
    [
        compact(EVENT).replace(b'"pass"', b"NaN"),
        compact(EVENT).replace(b'"pass"', b'"\xff"'),
        compact(EVENT).replace(b'"pass"', b'"\\ud800"'),
        compact(EVENT).replace(b'"pass"', b'"\\uffff"'),
        compact(EVENT).replace(b'"pass"', b'"pass","status":"fail"'),
        compact(EVENT).replace(b'"pass"', b"1" * 5000),
        compact(EVENT).replace(b'"pass"', b"[" * 70 + b"]" * 70),
    ],
)
def test_a_terminal_event_that_is_not_strict_json_still_tells_what_it_was(line: bytes):
    """Whoever waits for that event learns that it came, broken."""
    with pytest.raises(InvalidLine) as caught:
        parse_message(line)

    assert caught.value.head == HEAD


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b"\xff", b'{"kind":', b"null"])
def test_a_line_that_is_no_object_has_no_head(line: bytes):
    """There is nothing to say about what is not an object."""
    with pytest.raises(InvalidLine) as caught:
        parse_message(line)

    assert caught.value.head is None


def test_a_head_holds_short_strings_only():
    """Fields of another type, or overlong ones, are left out of the head."""
    with pytest.raises(InvalidLine) as caught:
        parse_message(compact({"kind": 5, "event": "e" * 300, "task_id": "T", "from": "builder"}))

    assert caught.value.head == MessageHead(task_id="T")


def test_a_line_of_exactly_the_limit_can_be_read():
    """The limit is within the limit, one byte more is not."""
    assert parse_message(event_of_size(MESSAGE_MAX_BYTES))[1] == event_of_size(MESSAGE_MAX_BYTES)
    with pytest.raises(InvalidLine, match="262145 bytes long"):
        parse_message(event_of_size(MESSAGE_MAX_BYTES + 1))
    with pytest.raises(InvalidLine, match="262145 bytes long"):
        parse_message(event_of_size(MESSAGE_MAX_BYTES) + b" ")


def test_a_line_that_outgrows_the_limit_when_written_compactly_is_refused():
    """Fractions may become longer in the compact form; such a line could not be read again."""
    line = compact(EVENT)[:-1] + b',"status":"x"}'
    numbers = b"[" + b",".join([b"1E9"] * 60_000) + b"]"

    with pytest.raises(InvalidLine, match="compact and redacted") as caught:
        parse_message(line.replace(b'"pass"', numbers))

    assert caught.value.head == HEAD


def test_whole_fractions_are_integers_where_the_protocol_has_integers():
    """2048.0 is an integer to JSON Schema, so it is one here, and stands in the compact form as one."""
    line = compact(EVENT).replace(b'"size":12', b'"size":2048.0').replace(b'"pass"', b'"pass","took":2.0')

    message, again = parse_message(line)

    assert message.artifacts == [Artifact("src/a.py", CHECKSUM, 2048)]
    assert message.payload == {"tests": {"status": "pass", "took": 2.0}}
    assert b'"size":2048}' in again
    assert b'"took":2.0' in again


def test_any_checksum_is_accepted_when_asked_for():
    """With verification relaxed, a checksum that is none passes, and the types are the ordinary ones."""
    line = compact(EVENT | {"artifacts": [{"path": "a", "sha256": "abc", "size": 1}]})

    message, again = parse_message(line, any_checksum=True)

    assert type(message) is Event
    assert message.artifacts == [Artifact("a", "abc", 1)]
    assert message.sender.agent_type is AgentType.BUILDER
    assert encode(message) == again == line
    assert decode(line) == message


def test_any_checksum_loosens_nothing_else():
    """Other faults of the same event are still found."""
    with pytest.raises(InvalidLine, match="size"):
        parse_message(compact(EVENT | {"artifacts": [{"path": "a", "sha256": "x", "size": -1}]}), any_checksum=True)


def test_secrets_are_gone_from_message_bytes_reason_and_head():
    """Redaction happens before anything is looked at any further."""
    redactor = Redactor({"API_TOKEN": "hunter2hunter2"})
    line = compact(EVENT | {"payload": {"said": "it is hunter2hunter2"}})

    message, again = parse_message(line, redactor=redactor)

    assert message.payload == {"said": "it is [redacted:API_TOKEN]"}
    assert b"hunter2" not in again
    for change in ({"status": "hunter2hunter2"}, {"hunter2hunter2": 1}, {"task_id": "hunter2hunter2"}):
        with pytest.raises(InvalidLine, match="API_TOKEN") as caught:
            parse_message(compact(EVENT | change), redactor=redactor)
        assert "hunter2" not in f"{caught.value} {caught.value.head}"


def test_redaction_that_outgrows_the_limit_is_told():
    """A message that its marks make too long is refused as such."""
    redactor = Redactor({"A_VERY_LONG_NAME_FOR_A_TOKEN": "abcdefgh"})
    filler = "abcdefgh " * 20_000

    with pytest.raises(InvalidLine, match="redacted"):
        parse_message(compact(EVENT | {"payload": {"x": filler}}), redactor=redactor)


@given(st.binary(max_size=80) | st.text(alphabet='{}[]:,"\\u0af-1e.', max_size=60).map(str.encode))
def test_random_lines_never_raise_anything_but_invalid_line(line: bytes):
    """Garbage is a value, not a crash."""
    for parse in (parse_message, parse_legacy, decode):
        with suppress(InvalidLine):
            parse(line)


@given(st.data())
def test_mutilated_messages_never_raise_anything_but_invalid_line(data: st.DataObject):
    """A message with bytes cut out, doubled or exchanged is read or refused."""
    line = compact(data.draw(st.sampled_from([EVENT, HEARTBEAT, LOG, json.loads(encode(COMMAND))])))
    start = data.draw(st.integers(0, len(line)))
    stop = data.draw(st.integers(start, min(len(line), start + 20)))
    line = line[:start] + data.draw(st.binary(max_size=6)) + line[stop:]

    for parse in (parse_message, parse_legacy, decode):
        with suppress(InvalidLine):
            parse(line)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"payload":[', b"[[{"])
def test_nesting_as_deep_as_a_line_is_long_is_refused(opening: bytes):
    """A hundred thousand levels do not exhaust the stack, closed or not."""
    deep = opening * (131_072 // len(opening))
    for line in (deep, compact(EVENT).replace(b'"pass"', deep), b'{"kind":"event","payload":' + deep):
        for parse in (parse_message, parse_legacy, decode):
            with pytest.raises(InvalidLine):
                parse(line)


def test_a_reason_is_bounded():
    """However long a value the agent sends, the reason stays a sentence."""
    with pytest.raises(InvalidLine) as caught:
        parse_message(compact({"k" * 100_000: 1, "kind": "event"}))

    assert len(caught.value.reason) < 600


def test_an_invalid_line_can_cross_processes():
    """Reason and head survive pickling."""
    error = pickle.loads(pickle.dumps(InvalidLine("why", HEAD)))

    assert (error.reason, error.head, str(error)) == ("why", HEAD, "why")
