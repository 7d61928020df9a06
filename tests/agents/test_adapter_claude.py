"""What Claude Code's stream means, trap by trap."""

import json
from typing import Any

import pytest

from lorch_actors.agents.adapters.claude import Claude, ClaudeReader
from lorch_actors.agents.adapters.client import Turn
from lorch_actors.agents.adapters.outcome import Kind, Outcome, Usage
from lorch_actors.agents.approvals import Answer

DENIED = Answer(is_allowed=False, reason="use what is installed")
SESSION = "7d1d162c-0796-425c-9b37-6e00f26c5b94"
INIT = {"type": "system", "subtype": "init", "session_id": SESSION}


def result(**changes: Any) -> dict[str, Any]:
    """Return a final event; as the real one, with its type at the end."""
    return {
        "session_id": SESSION,
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 20, "cache_read_input_tokens": 2, "output_tokens": 14},
        "permission_denials": [],
        "terminal_reason": "completed",
        "is_error": False,
        "subtype": "success",
        "api_error_status": None,
        "result": "done",
        "type": "result",
    } | changes


def call(number: int, tool: str = "Bash") -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": f"toolu_{number}", "name": tool}]}}


def came_of(number: int, *, is_error: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": f"toolu_{number}", **({"is_error": True} if is_error else {})}
    return {"type": "user", "message": {"role": "user", "content": [block]}}


def denied(number: int) -> dict[str, Any]:
    return {"type": "system", "subtype": "permission_denied", "tool_name": "Bash", "tool_use_id": f"toolu_{number}"}


def read(*events: dict[str, Any]) -> ClaudeReader:
    reader = ClaudeReader(lambda _: None, lambda *_: DENIED)
    for event in events:
        assert reader.hear(event) == b""
    return reader


def outcome(*events: dict[str, Any], exit_code: int = 0, errors: str = "") -> Outcome:
    return read(*events).outcome(exit_code, errors)


def turn(**changes: Any) -> Turn:
    from pathlib import Path

    return Turn(**{"prompt": "p", "workspace": Path("/w"), "home": Path("/w/home")} | changes)


def test_done_is_what_final_event_error_fields_and_exit_code_agree_on():
    """Session, answer and usage come with it; tokens read from a cache were read."""
    reader = read(INIT, result())

    assert reader.outcome(0, "") == Outcome(Kind.DONE)
    assert (reader.session_id, reader.answer, reader.usage) == (SESSION, "done", Usage(22, 14, 0.25))


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (429, "API Error: Request rejected (429) · slow down", Kind.RATE_LIMITED),
        (401, "Invalid API key · Fix external API key", Kind.AUTHENTICATION),
        (529, "API Error: 529 overloaded", Kind.OVERLOADED),
        (400, "Prompt is too long", Kind.CONTEXT_TOO_LONG),
        (400, "Credit balance is too low", Kind.USAGE_LIMITED),
        (429, "Claude AI 5-hour limit reached", Kind.USAGE_LIMITED),
        (429, "Rate limit reached", Kind.RATE_LIMITED),
    ],
)
def test_trap_subtype_success_with_is_error(status: int, said: str, kind: Kind):
    """`subtype: "success"` beside `is_error: true` is a failure, whatever the exit code."""
    event = result(is_error=True, api_error_status=status, result=said)

    assert [outcome(INIT, event, exit_code=code).kind for code in (0, 1)] == [kind, kind]


@pytest.mark.parametrize("odd", [{"is_error": True}, {"is_error": None}, {"subtype": "error_during_execution"}])
def test_each_error_field_alone_forbids_success(odd: dict[str, Any]):
    """Also one that is missing: what is not said is not taken for said."""
    assert outcome(INIT, result(**odd)).kind is not Kind.DONE


def test_success_with_a_bad_exit_code_is_a_crash():
    """Two sources that contradict each other are no success."""
    assert outcome(INIT, result(), exit_code=1).kind is Kind.CRASHED


def test_trap_permission_denied_is_still_success_with_exit_0():
    """A denial that nothing came after is no success."""
    found = outcome(INIT, call(1), denied(1), came_of(1, is_error=True), result())

    assert (found.kind, found.message) == (Kind.PERMISSION_DENIED, "was not allowed to use Bash")


def test_a_denial_that_the_agent_found_a_way_around_is_no_failure():
    """It called another tool afterwards, and that succeeded."""
    events = (call(1), denied(1), came_of(1, is_error=True), call(2, "Write"), came_of(2))

    assert outcome(INIT, *events, result()).kind is Kind.DONE


def test_denials_are_taken_from_the_final_event_too():
    """Whether or not the stream told of them."""
    denial = {"tool_name": "Write", "tool_use_id": "toolu_1"}

    assert outcome(INIT, call(1), result(permission_denials=[denial])).kind is Kind.PERMISSION_DENIED


def test_trap_exit_0_on_sigint():
    """Exit code 0 without a final event is a crash."""
    assert outcome(INIT, call(1)).kind is Kind.CRASHED


def test_trap_401_is_retried_ten_times():
    """Its own retries are turned down."""
    assert int(Claude().environment(turn())["CLAUDE_CODE_MAX_RETRIES"]) <= 2


def test_trap_json_schema_does_not_enforce():
    """It is not relied on: the verdict is asked for in words and validated by us."""
    from pathlib import Path

    assert "--json-schema" not in Claude().argv(turn(schema=Path("/s")))


def test_a_usage_limit_comes_with_its_reset_time():
    """The event says when; the final one says that it stopped the turn."""
    limit = {"status": "rejected", "resetsAt": 1795803810, "rateLimitType": "five_hour"}
    event = {"type": "rate_limit_event", "rate_limit_info": limit}
    found = outcome(INIT, event, result(is_error=True, api_error_status=429, result="limit"), exit_code=1)

    assert (found.kind, found.resets_at_ms) == (Kind.USAGE_LIMITED, 1795803810000)


def test_a_limit_that_only_warns_is_none():
    """The turn went well."""
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning", "resetsAt": 1}}

    assert outcome(INIT, event, result()).kind is Kind.DONE


@pytest.mark.parametrize("subtype", ["error_max_turns", "error_max_budget_usd"])
def test_a_cap_of_its_own_is_over_budget(subtype: str):
    """Turns and money."""
    assert outcome(INIT, result(subtype=subtype, is_error=True), exit_code=1).kind is Kind.OVER_BUDGET


def test_a_refusal_is_no_success():
    """The model stopped because it would not."""
    assert outcome(INIT, result(stop_reason="refusal")).kind is Kind.REFUSED


def test_a_session_that_is_unknown_is_given_up():
    """A new one has to begin."""
    found = outcome(exit_code=1, errors=f"No conversation found with session ID: {SESSION}")

    assert found.is_session_lost


@pytest.mark.parametrize(
    "event", [{}, {"type": "assistant"}, {"type": "assistant", "message": {"content": 7}}, {"type": 1}]
)
def test_events_of_another_shape_are_passed_over(event: dict[str, Any]):
    """Versions move."""
    assert outcome(INIT, event, result()).kind is Kind.DONE


@pytest.mark.parametrize("is_root", [False, True])
def test_permissions_become_flags(is_root: bool, monkeypatch: pytest.MonkeyPatch):
    """A reviewer may not write; the tests may be run; everything only when that was said; to root by name."""
    monkeypatch.setattr("os.geteuid", lambda: 0 if is_root else 1000)
    monkeypatch.delenv("IS_SANDBOX", raising=False)
    builder = Claude().argv(turn(tests=("python", "-m", "pytest")))
    reviewer = Claude().argv(turn(may_write=False))
    free = Claude().argv(turn(permissions="allow", resume=SESSION, model="m", extra=("--max-turns", "3")))

    assert "Bash(python -m pytest:*)" in next(flag for flag in builder if flag.startswith("--allowedTools="))
    assert "--disallowedTools=Edit,Write,NotebookEdit" in reviewer
    assert free[free.index("--permission-mode") + 1] == ("acceptEdits" if is_root else "bypassPermissions")
    assert ("--allowedTools=Bash,Edit" in " ".join(free)) == is_root
    assert free[-6:] == ["--model", "m", "--resume", SESSION, "--max-turns", "3"]


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_request_for_leave_is_answered_as_the_person_said(is_allowed: bool):
    """With exactly the input that was shown, or with the reason."""
    asked = []

    def ask(tool: str, given: dict[str, Any]) -> Answer:
        asked.append((tool, given))
        return Answer(is_allowed, "use what is installed")

    reader = ClaudeReader(lambda _: None, ask)
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "pip install x"}}
    answer = json.loads(reader.hear({"type": "control_request", "request_id": "r-1", "request": request}))["response"]

    assert asked == [("Bash", {"command": "pip install x"})]
    assert (answer["subtype"], answer["request_id"]) == ("success", "r-1")
    assert answer["response"] == (
        {"behavior": "allow", "updatedInput": {"command": "pip install x"}}
        if is_allowed
        else {"behavior": "deny", "message": "use what is installed"}
    )


def test_stdin_stays_open_under_ask_until_the_final_event():
    """Then it is closed, for the CLI would wait for another prompt."""
    asking, plain = turn(permissions="ask"), turn()
    reader = ClaudeReader(lambda _: None, lambda *_: DENIED)
    open_until = [reader.hear(event) or reader.is_over for event in (INIT, result())]

    assert (Claude().is_talk(asking), Claude().is_talk(plain), open_until) == (True, False, [False, True])
    assert json.loads(Claude().opening(asking))["message"]["content"] == [{"type": "text", "text": "p"}]
    assert Claude().opening(plain) == b"p"
