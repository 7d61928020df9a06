"""The listener judges each line of an agent by itself: into the ledger, into the log, or both."""

import json
from typing import Any

import pytest

from lorch_actors.actors.agent_output import Listener, ToLedger, ToLog
from lorch_actors.protocol.framing import OversizeLine
from lorch_actors.protocol.messages import Command, Event, Log, Recipient, Retry, Version
from lorch_actors.protocol.redaction import Redactor

NOW_MS = 1_767_225_600_000
TOKEN = "s3cret-token"
REDACTOR = Redactor({"API_TOKEN": TOKEN, "DB_PASSWORD": 'pa"ss\\w\u00f6rd'})


def command(**changes: Any) -> Command:
    """Return the command that is under way."""
    fields = {
        "message_id": "cmd-1",
        "correlation_id": "c-1",
        "task_id": "T-1",
        "idempotency_key": "ik:0123456789abcdef",
        "to": Recipient("builder", "builder-1"),
        "action": "implement",
        "inputs": {},
        "version": Version("snap-1"),
        "deadline": "2026-01-01T00:10:00Z",
        "retry": Retry(0, 3),
        "priority": 0,
    }
    return Command(**{**fields, **changes})


@pytest.fixture
def listener() -> Listener:
    """Return a listener to a builder that has been given a command."""
    new = Listener(role="builder", redactor=REDACTOR, any_checksum=False, max_events=3)
    new.give(command())
    return new


def event(**changes: Any) -> bytes:
    """Return the line of a good answer, changed; what is None is left out."""
    fields = {
        "kind": "event",
        "message_id": "e-1",
        "correlation_id": "c-1",
        "task_id": "T-1",
        "from": {"agent_type": "builder"},
        "event": "builder.completed",
        "payload": {"tests": {"status": "pass"}},
        "occurred_at": "2026-01-01T00:00:00Z",
        **changes,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def progress(**changes: Any) -> bytes:
    """Return the line of an event that ends nothing."""
    return event(event="builder.progress", payload={"stage": "s"}, **changes)


def heartbeat(role: str = "builder") -> bytes:
    """Return a sign of life."""
    agent = {"agent_type": role, "agent_id": "builder-1"}
    rest = {"seq": 0, "status": "ready", "pid": 1, "uptime_s": 0, "last_activity_at": "2026-01-01T00:00:00Z"}
    return json.dumps({"kind": "heartbeat", "agent": agent, **rest}).encode()


LOG = b'{"kind":"log","level":"info","message":"m","timestamp":"2026-01-01T00:00:00Z"}'


def only(heard: list[ToLedger | ToLog]) -> Any:
    """Return the one thing that became of a line."""
    (one,) = heard
    return one


def test_an_answer_goes_into_the_ledger_at_once(listener: Listener) -> None:
    """Somebody waits for it."""
    heard = only(listener.hear(event(), NOW_MS))

    assert (heard.message.event, heard.urgent) == ("builder.completed", True)
    assert json.loads(heard.compact) == json.loads(event())


@pytest.mark.parametrize("line", [progress(), heartbeat()])
def test_what_nobody_waits_for_is_not_urgent(listener: Listener, line: bytes) -> None:
    """It may wait for the next sync."""
    assert not only(listener.hear(line, NOW_MS)).urgent


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (event(task_id="T-2"), "another command"),
        (event(correlation_id="c-2"), "another command"),
        (progress(correlation_id="c-2"), "another command"),
        (event(**{"from": {"agent_type": "reviewer"}}), "calls itself reviewer"),
        (event(event="system.run_finished", **{"from": {"agent_type": "system"}}), "calls itself system"),
        (event(event="review.completed", status="approved"), "not for a builder to send"),
        (event(event="system.approval_answered", payload={"approval_id": "../../x"}), "not for a builder to send"),
        (heartbeat("reviewer"), "a heartbeat of the reviewer"),
    ],
)
def test_what_is_not_its_business_becomes_a_log_entry(listener: Listener, line: bytes, reason: str) -> None:
    """The entry quotes it and says why it is not acted on."""
    note = only(listener.hear(line, NOW_MS)).message

    assert isinstance(note, Log)
    assert reason in note.message
    assert json.loads(note.fields["line"]) == json.loads(line)


def test_before_the_first_command_nothing_is_an_answer() -> None:
    """An agent that talks early is quoted."""
    new = Listener(role="builder", redactor=REDACTOR, any_checksum=False, max_events=3)

    assert isinstance(only(new.hear(event(), NOW_MS)).message, Log)


def test_a_foreign_message_too_long_to_quote_is_named_by_its_head(listener: Listener) -> None:
    """The entry stays below the limit of a line."""
    note = only(listener.hear(event(correlation_id="c-2", payload={"pad": "x" * 200_000}), NOW_MS)).message

    assert len(note.fields["head"]) == 1024
    assert note.fields["size_bytes"] > 200_000


@pytest.mark.parametrize(
    "line",
    [
        event(note="unknown field"),
        event(occurred_at="yesterday"),
        event(task_id="../escape"),
        event(payload={"ratio": float("nan")}),
        event(artifacts=[{"path": "a", "sha256": "md5:1", "size": 1}]),
        event(status=TOKEN),
        event(payload={"dump": TOKEN * 20_000}),
        event(**{"from": None}),
    ],
)
def test_an_answer_that_breaks_the_schema_counts_as_an_error(listener: Listener, line: bytes) -> None:
    """The line is in the log, and an error of ours, retryable, in the ledger."""
    logged, error = listener.hear(line, NOW_MS)

    assert logged.bad
    assert isinstance(error.message, Event)
    assert (error.message.sender.agent_type, error.message.event, error.urgent) == ("system", "error", True)
    assert error.message.payload["code"] == "invalid_event"
    assert error.message.payload["retryable"] is True
    assert (error.message.correlation_id, error.message.task_id) == ("c-1", "T-1")


def test_a_second_invalid_answer_is_only_a_bad_line(listener: Listener) -> None:
    """The first has settled the matter."""
    listener.hear(event(note="x"), NOW_MS)

    assert only(listener.hear(event(note="x"), NOW_MS)).bad


@pytest.mark.parametrize(
    "line", [progress(note="x"), event(correlation_id="c-2", note="x"), b"{", b"", b"null", b"\xff"]
)
def test_an_invalid_line_that_is_no_answer_is_only_a_bad_line(listener: Listener, line: bytes) -> None:
    """It costs nothing but its count."""
    heard = only(listener.hear(line, NOW_MS))

    assert isinstance(heard, ToLog)
    assert heard.bad
    assert heard.note["reason"]


def test_any_checksum_passes_when_artifacts_are_only_warned_of() -> None:
    """What it claims is judged later."""
    new = Listener(role="builder", redactor=REDACTOR, any_checksum=True, max_events=3)
    new.give(command())
    heard = only(new.hear(event(artifacts=[{"path": "a", "sha256": "md5:1", "size": 1}]), NOW_MS))

    assert heard.message.artifacts[0].sha256 == "md5:1"


def test_events_past_the_limit_go_to_the_log(listener: Listener) -> None:
    """They are counted until the next command; the answer itself never counts."""
    heard = [only(listener.hear(progress(), NOW_MS)) for _ in range(5)]

    assert [type(one) for one in heard] == [ToLedger] * 3 + [ToLog] * 2
    assert isinstance(only(listener.hear(event(), NOW_MS)), ToLedger)
    listener.give(command(correlation_id="c-2"))
    assert isinstance(only(listener.hear(progress(correlation_id="c-2"), NOW_MS)), ToLedger)


def test_a_command_from_an_agent_is_a_bad_line(listener: Listener) -> None:
    """Agents give no commands."""
    from lorch_actors.protocol.parse import encode

    assert only(listener.hear(encode(command()), NOW_MS)).bad


def test_secrets_are_out_of_what_goes_into_the_ledger(listener: Listener) -> None:
    """In the message and in its bytes."""
    heard = only(listener.hear(event(payload={"tests": {"status": "pass", "summary": f"used {TOKEN}"}}), NOW_MS))

    assert heard.message.payload["tests"]["summary"] == "used [redacted:API_TOKEN]"
    assert TOKEN.encode() not in heard.compact


@pytest.mark.parametrize(
    "spelled",
    [
        'pa"ss\\w\u00f6rd',
        json.dumps('pa"ss\\w\u00f6rd')[1:-1],
        json.dumps('pa"ss\\w\u00f6rd', ensure_ascii=False)[1:-1],
        json.dumps(json.dumps('pa"ss\\w\u00f6rd'))[3:-3],
        "".join(f"\\u{ord(char):04X}" for char in 'pa"ss\\w\u00f6rd'),
    ],
)
def test_secrets_are_out_of_bad_lines_however_json_spells_them(listener: Listener, spelled: str) -> None:
    """A line that is no message is kept without them."""
    heard = only(listener.hear(f'{{"no message": "{spelled}"'.encode(), NOW_MS))

    assert heard.note["line"] == '{"no message": "[redacted:DB_PASSWORD]"'


@pytest.mark.parametrize("shown", range(len(TOKEN) + 1))
def test_a_secret_that_is_cut_is_not_in_the_head(listener: Listener, shown: int) -> None:
    """However much of it was left, from four characters on."""
    head = b"x" * (1024 - shown) + TOKEN[:shown].encode()
    heard = only(listener.hear(OversizeLine(300_000, head), NOW_MS))

    assert heard.note["oversize_bytes"] == 300_000
    assert TOKEN[:4] not in heard.note["head"]
    assert heard.note["head"].startswith("x" * (1024 - shown))


@pytest.mark.parametrize("payload", [None, {}, {"request_id": "", "tool": "Bash"}, {"request_id": "r", "input": {}}])
def test_a_request_that_nobody_could_answer_is_told_and_not_acted_on(listener: Listener, payload: Any) -> None:
    """Without an id, or without saying what it is about; the line is kept, as a remark."""
    heard = only(listener.hear(event(event="approval.requested", payload=payload), NOW_MS))

    assert isinstance(heard.message, Log)
    assert "the request for leave cannot be answered" in heard.message.message


def test_requests_for_leave_are_heard_past_the_limit_of_events(listener: Listener) -> None:
    """What waits for an answer may not go to the log alone."""
    asked = event(event="approval.requested", payload={"request_id": "r", "tool": "Bash"})
    heard = [only(listener.hear(asked, NOW_MS)) for _ in range(5)]

    assert [(one.message.event, one.urgent) for one in heard] == [("approval.requested", True)] * 5


@pytest.mark.parametrize(
    "line",
    [heartbeat(), heartbeat("reviewer"), progress(correlation_id="c-0"), LOG],
    ids=["alive", "other", "old", "log"],
)
def test_an_agent_without_work_does_not_fill_the_ledger(line: bytes) -> None:
    """The same bound holds for what is about no command; the next command begins anew."""
    new = Listener(role="builder", redactor=REDACTOR, any_checksum=False, max_events=3)
    heard = [only(new.hear(line, NOW_MS)) for _ in range(5)]
    new.give(command())
    again = only(new.hear(line, NOW_MS))

    assert [type(one) for one in (*heard, again)] == [*3 * [ToLedger], *2 * [ToLog], ToLedger]
    assert heard[3].note["reason"] == "policy.max_events_per_command"
    assert not heard[3].bad
    assert isinstance(only(new.hear(event(), NOW_MS)), ToLedger)
