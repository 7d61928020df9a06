"""What Codex's stream means, trap by trap."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lorch_actors.agents.adapters.client import Turn
from lorch_actors.agents.adapters.codex import Codex, CodexReader, reset_time
from lorch_actors.agents.adapters.outcome import Kind, Outcome, Usage

STARTED = {"type": "thread.started", "thread_id": "019a"}
COMPLETED = {"type": "turn.completed", "usage": {"input_tokens": 11, "cached_input_tokens": 3, "output_tokens": 7}}
NOW = datetime(2026, 11, 27, 15, 30).astimezone()


def failed(message: str) -> tuple[dict[str, Any], ...]:
    return STARTED, {"type": "error", "message": message}, {"type": "turn.failed", "error": {"message": message}}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "item.completed", "item": {"id": "item_0", "type": kind, **fields}}


def read(*events: dict[str, Any]) -> CodexReader:
    reader = CodexReader(lambda _: None)
    for event in events:
        assert reader.hear(event) == b""
    return reader


def outcome(*events: dict[str, Any], exit_code: int = 0, errors: str = "") -> Outcome:
    return read(*events).outcome(exit_code, errors)


def test_done_is_a_completed_turn_with_exit_0():
    """The last message is the answer."""
    reader = read(STARTED, item("agent_message", text="a"), item("agent_message", text="b"), COMPLETED)

    assert reader.outcome(0, "") == Outcome(Kind.DONE)
    assert (reader.session_id, reader.answer) == ("019a", "b")


def test_trap_no_cost_field():
    """Unknown cost is unknown, not zero."""
    assert read(STARTED, COMPLETED).usage == Usage(11, 7, None)
    assert read(STARTED, COMPLETED).usage.as_payload() == {"input_tokens": 11, "output_tokens": 7}


def test_trap_an_error_item_can_be_harmless():
    """It is a remark; the turn's own event decides."""
    assert outcome(STARTED, item("error", message="Model metadata not found."), COMPLETED).kind is Kind.DONE


def test_an_error_that_was_reconnected_from_is_harmless():
    """It is told of every attempt."""
    event = {"type": "error", "message": "Reconnecting... 1/5 (stream disconnected before completion)"}

    assert outcome(STARTED, event, COMPLETED).kind is Kind.DONE


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("unexpected status 401 Unauthorized: invalid api key, url: http://x/responses", Kind.AUTHENTICATION),
        ("exceeded retry limit, last status: 429 Too Many Requests", Kind.RATE_LIMITED),
        ("You\u2019ve hit your usage limit. Try again later.", Kind.USAGE_LIMITED),
        ("Quota exceeded. Check your plan and billing details.", Kind.USAGE_LIMITED),
        ("We\u2019re currently experiencing high demand, which may cause temporary errors.", Kind.OVERLOADED),
        ("stream disconnected before completion: Transport error", Kind.OVERLOADED),
        ("Codex ran out of room in the model's context window. Start a new thread.", Kind.CONTEXT_TOO_LONG),
        ("something nobody has seen", Kind.CRASHED),
    ],
)
def test_trap_exit_1_on_every_failure(message: str, kind: Kind):
    """The exit code tells nothing, so the words do."""
    assert outcome(*failed(message), exit_code=1).kind is kind


@pytest.mark.parametrize(
    "events", [failed("boom"), (STARTED,), (), (*failed("boom"), COMPLETED), (STARTED, {"type": "turn.started"})]
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_nothing_but_a_completed_turn_is_done(events: tuple[dict[str, Any], ...], exit_code: int):
    """Neither exit code 0 nor a completion beside a failure."""
    assert outcome(*events, exit_code=exit_code).kind is not Kind.DONE


def test_a_completed_turn_with_a_bad_exit_code_is_a_crash():
    """Two sources that contradict each other are no success."""
    assert outcome(STARTED, COMPLETED, exit_code=1).kind is Kind.CRASHED


def test_a_wait_of_its_own_for_a_rate_limit_is_taken_over():
    """It would sleep for as long as the server says, unseen; so it is ended, and we wait."""
    reader = read(STARTED, {"type": "error", "message": "Reconnecting... 1/1 (… last status: 429 Too Many Requests)"})

    assert reader.waits is not None
    assert reader.waits.kind is Kind.RATE_LIMITED


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("or try again at 5:23 PM.", datetime(2026, 11, 27, 17, 24).astimezone()),
        ("or try again at Nov 30th, 2026 1:56 AM.", datetime(2026, 11, 30, 1, 57).astimezone()),
        ("try again at Dec 1st, 2026 12:00 AM.", datetime(2026, 12, 1, 0, 1).astimezone()),
        ("try again at 3:30 PM.", datetime(2026, 11, 27, 15, 31).astimezone()),
    ],
)
def test_trap_a_usage_limit_is_prose_with_a_local_time(said: str, expected: datetime):
    """It is read as the CLI writes it: local, cut to the minute."""
    assert reset_time(f"You\u2019ve hit your usage limit. {said}", NOW) == int(expected.timestamp() * 1000)


@pytest.mark.parametrize(
    "said",
    [
        "Try again later.",
        "try again at 3:29 PM.",
        "try again at 15:45.",
        "try again at 13:10 PM.",
        "try again at Feb 30th, 2026 3:42 PM.",
        "try again at Mai 3rd, 2027 3:42 PM.",
        "try again in 2 days",
    ],
)
def test_a_reset_time_that_cannot_be_read_for_certain_is_none(said: str):
    """It is not guessed."""
    assert reset_time(f"You\u2019ve hit your usage limit. {said}", NOW) is None


def test_a_limit_without_a_time_is_asked_about_again_now_and_then():
    """How long we wait is no reset time and is not called one; what the provider says goes before it."""
    payload = outcome(*failed("You\u2019ve hit your usage limit. Try again later."), exit_code=1).as_error("codex")
    told = outcome(*failed("429 Too Many Requests. Please retry after 7s"), exit_code=1).as_error("codex")

    assert (payload["code"], payload["retry_after_s"], "resets_at" in payload) == ("usage_limited", 900.0, False)
    assert (told["code"], told["retry_after_s"]) == ("rate_limited", 7.0)


def test_permissions_become_a_sandbox():
    """A reviewer reads only; everything is allowed only when that was said."""
    turn = Turn(prompt="p", workspace=Path("/w"), home=Path("/w/home"))
    reviewer = Turn(prompt="p", workspace=Path("/w"), home=Path("/w/home"), may_write=False, schema=Path("/s"))
    free = Turn(prompt="p", workspace=Path("/w"), home=Path("/w/home"), permissions="allow", resume="019a")
    sandboxes = [argv[argv.index("--sandbox") + 1] for argv in map(Codex().argv, (turn, reviewer, free))]

    assert sandboxes == ["workspace-write", "read-only", "danger-full-access"]
    assert Codex().argv(free)[-3:] == ["resume", "019a", "-"]
    assert Codex().argv(reviewer)[-3:] == ["--output-schema", "/s", "-"]
