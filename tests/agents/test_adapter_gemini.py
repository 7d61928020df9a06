"""What Gemini CLI's stream, stderr and exit codes mean, trap by trap."""

from pathlib import Path
from typing import Any

import pytest

from lorch_actors.agents.adapters.client import Turn
from lorch_actors.agents.adapters.gemini import Gemini, GeminiReader
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage

INIT = {"type": "init", "session_id": "487353a1", "model": "gemini-2.5-pro"}
RESULT = {"type": "result", "status": "success", "stats": {"input_tokens": 22, "output_tokens": 14}}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": text, "delta": True}


def tool(status: str = "success", **error: str) -> tuple[dict[str, Any], ...]:
    used = {"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "t-1", "parameters": {}}
    return used, {"type": "tool_result", "tool_id": "t-1", "status": status, **({"error": error} if error else {})}


def failed(message: str) -> dict[str, Any]:
    return {"type": "result", "status": "error", "error": {"type": "unknown", "message": message}}


def read(*events: dict[str, Any]) -> GeminiReader:
    reader = GeminiReader(lambda _: None)
    for event in events:
        assert reader.hear(event) == b""
    return reader


def outcome(*events: dict[str, Any], exit_code: int = 0, errors: str = "") -> Outcome:
    return read(*events).outcome(exit_code, errors)


def test_done_is_a_result_of_success_with_exit_0():
    """The answer is what was said after the last tool, in pieces; cost is unknown."""
    reader = read(INIT, said("I will."), *tool(), said("all "), said("done"), RESULT)

    assert reader.outcome(0, "") == DONE
    assert (reader.session_id, reader.answer, reader.usage) == ("487353a1", "all done", Usage(22, 14, None))


def test_success_with_a_bad_exit_code_is_a_crash():
    """Two sources that contradict each other are no success."""
    assert outcome(INIT, RESULT, exit_code=1).kind is Kind.CRASHED


def test_a_session_that_it_did_not_keep_is_given_up():
    """Whatever exit code it has for that: one that broke off early is not there any more."""
    told = "Error resuming session: No previous sessions found for this project."

    assert [outcome(exit_code=code, errors=told).is_session_lost for code in (1, 42)] == [True, True]


def test_trap_exit_code_145_on_401():
    """What it says counts; 145 is no signal of ours."""
    event = failed('[API Error: {"error":{"code":401,"message":"API key not valid","status":"UNAUTHENTICATED"}}]')

    assert outcome(INIT, event, exit_code=145).kind is Kind.AUTHENTICATION


@pytest.mark.parametrize(
    ("exit_code", "kind"),
    [
        (41, Kind.AUTHENTICATION),
        (42, Kind.CRASHED),
        (44, Kind.CRASHED),
        (52, Kind.CRASHED),
        (53, Kind.OVER_BUDGET),
        (130, Kind.KILLED),
        (0, Kind.CRASHED),
    ],
)
def test_without_a_result_the_exit_code_is_all_there_is(exit_code: int, kind: Kind):
    """And 0 is no success."""
    assert outcome(INIT, exit_code=exit_code).kind is kind


def test_trap_on_429_nothing_on_stdout_and_retries_for_long():
    """It is ended as soon as it says on stderr that it waits; we wait instead."""
    reader = read(INIT)
    reader.overhear('Attempt 1 failed with status 429. Retrying with backoff... {"message":"quota"}')

    assert reader.waits is not None
    assert reader.waits.kind is Kind.RATE_LIMITED


def test_a_provider_that_fails_once_is_given_another_try():
    """After the second failure it is ended."""
    reader = read(INIT)
    waits = []
    for attempt in (1, 2):
        reader.overhear(f"Attempt {attempt} failed with status 500. Retrying with backoff...")
        waits.append(reader.waits and reader.waits.kind)

    assert waits == [None, Kind.OVERLOADED]


def test_a_tool_that_is_not_allowed_is_no_success_unless_another_way_was_found():
    """What may not be used is not even registered."""
    denied = tool("error", type="tool_not_registered", message='Tool "run_shell_command" not found.')

    assert outcome(INIT, *denied, RESULT).kind is Kind.PERMISSION_DENIED
    assert outcome(INIT, *denied, *tool(), RESULT).kind is Kind.DONE
    assert outcome(INIT, *tool("error", type="failed", message="exit code 1"), RESULT).kind is Kind.DONE


def test_permissions_become_a_mode_and_a_login_a_setting(monkeypatch: pytest.MonkeyPatch):
    """A reviewer plans; everything is allowed only when that was said."""
    for name in Gemini.key_variables:
        monkeypatch.delenv(name, raising=False)
    place = {"prompt": "p", "workspace": Path("/w"), "home": Path("/w/home")}
    turns = [Turn(**place), Turn(**place, may_write=False), Turn(**place, permissions="allow", resume="487353a1")]
    argvs = [Gemini().argv(turn) for turn in turns]
    without_key = Gemini().settings(turns[0])[".gemini/settings.json"]
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    with_key = Gemini().settings(turns[0])[".gemini/settings.json"]

    assert [argv[argv.index("--approval-mode") + 1] for argv in argvs] == ["auto_edit", "plan", "yolo"]
    assert argvs[2][-2:] == ["--resume", "487353a1"]
    assert (b"oauth-personal" in without_key, b"gemini-api-key" in with_key) == (True, True)
