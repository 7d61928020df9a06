"""What opencode's stream and log mean, trap by trap."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorch_actors.agents.adapters.client import Turn
from lorch_actors.agents.adapters.opencode import Opencode, OpencodeReader
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage

PLACE = {"prompt": "p", "workspace": Path("/w"), "home": Path("/w/home")}


def event(kind: str, **content: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": 1, "sessionID": "ses_1", **content}


def step(reason: str, cost: float = 0.25) -> dict[str, Any]:
    part = {"type": "step-finish", "reason": reason, "tokens": {"input": 11, "output": 7}, "cost": cost}
    return event("step_finish", part=part)


def tool(**state: Any) -> dict[str, Any]:
    return event("tool_use", part={"type": "tool", "tool": "bash", "state": state})


def failed(message: str, **data: Any) -> dict[str, Any]:
    return event("error", error={"name": "APIError", "data": {"message": message, **data}})


TEXT = event("text", part={"type": "text", "text": "done"})


def read(*events: dict[str, Any]) -> OpencodeReader:
    reader = OpencodeReader(lambda _: None)
    for one in events:
        assert reader.hear(one) == b""
    return reader


def outcome(*events: dict[str, Any], exit_code: int = 0, errors: str = "") -> Outcome:
    return read(*events).outcome(exit_code, errors)


def test_done_is_a_last_step_that_stopped():
    """With exit code 0 and no error beside it."""
    reader = read(step("tool-calls"), TEXT, step("stop"))

    assert reader.outcome(0, "") == DONE
    assert (reader.session_id, reader.answer) == ("ses_1", "done")


def test_trap_cost_is_summed_over_steps():
    """Each tells its own."""
    assert read(step("tool-calls", 0.25), step("stop", 0.5)).usage == Usage(22, 14, 0.75)


@pytest.mark.parametrize(
    "events", [(), (TEXT,), (step("tool-calls"),), (step("length"),), (step("stop"), failed("boom"))]
)
def test_nothing_but_a_last_step_that_stopped_is_done(events: tuple[dict[str, Any], ...]):
    """Whatever the exit code."""
    assert outcome(*events).kind is not Kind.DONE


def test_a_step_that_stopped_with_a_bad_exit_code_is_a_crash():
    """Two sources that contradict each other are no success."""
    assert outcome(step("stop"), exit_code=1).kind is Kind.CRASHED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed("bad key", statusCode=401), Kind.AUTHENTICATION),
        (failed("slow down", statusCode=429), Kind.RATE_LIMITED),
        (failed("boom", statusCode=500), Kind.OVERLOADED),
        (failed("prompt is too long", statusCode=400), Kind.CONTEXT_TOO_LONG),
        (failed("what is this"), Kind.CRASHED),
    ],
)
def test_an_error_is_classified_by_its_status(error: dict[str, Any], kind: Kind):
    """And by its words where it has none."""
    assert outcome(error, exit_code=1).kind is kind


def test_trap_on_500_nothing_for_40_seconds():
    """It is ended after a few failures in its log; for a limit at once."""
    line = 'level=ERROR message="stream error" providerID=fake error.error="AI_APICallError: {}"'
    failing, limited = read(), read()
    waits = []
    for _ in range(3):
        failing.overhear(line.format("boom"))
        waits.append(failing.waits and failing.waits.kind)
    limited.overhear(line.format("Rate limit reached"))

    assert waits == [None, None, Kind.OVERLOADED]
    assert limited.waits is not None
    assert limited.waits.kind is Kind.RATE_LIMITED


def test_a_tool_that_is_not_allowed_is_no_success_unless_another_way_was_found():
    """It says so in the tool's own state."""
    denied = tool(status="error", error="The user has specified a rule which prevents you from using this tool call.")

    assert outcome(denied, step("stop")).kind is Kind.PERMISSION_DENIED
    assert outcome(denied, tool(status="completed"), step("stop")).kind is Kind.DONE
    assert outcome(tool(status="error", error="exit code 1"), step("stop")).kind is Kind.DONE


def test_permissions_are_added_to_the_users_own_configuration(monkeypatch: pytest.MonkeyPatch):
    """A reviewer may not edit; the tests may be run; everything is allowed only when that was said."""
    monkeypatch.setenv("OPENCODE_CONFIG_CONTENT", '{"provider": {"mine": {}}, "permission": {"bash": "allow"}}')
    turns = [Turn(**PLACE, tests=("make", "test")), Turn(**PLACE, may_write=False), Turn(**PLACE, permissions="allow")]
    builder, reviewer, free = (json.loads(Opencode().environment(turn)["OPENCODE_CONFIG_CONTENT"]) for turn in turns)

    assert builder["provider"] == {"mine": {}}
    assert (builder["permission"]["bash"]["*"], builder["permission"]["bash"]["make test*"]) == ("deny", "allow")
    assert (builder["permission"]["edit"], reviewer["permission"]["edit"]) == ("allow", "deny")
    assert set(free["permission"].values()) == {"allow"}
