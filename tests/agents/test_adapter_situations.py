"""Every way in which a CLI can fail, for every adapter: none of them is ever a success, each has its own name.

The CLIs are real processes that play a turn in the shape of a real one's stream.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from lorch_actors.agents.adapters.command import CLIENTS
from lorch_actors.agents.adapters.conversation import Conversation, Said
from lorch_actors.agents.adapters.outcome import RULES, Kind
from lorch_actors.agents.adapters.settings import Places, Settings
from lorch_actors.agents.approvals import Answer
from lorch_actors.agents.journal import Journal

HANGS: Final = "exec sleep 60"
PATIENCE_S: Final = 0.3
UNAUTHORIZED: Final = "unexpected status 401 Unauthorized: invalid api key"
LIMIT: Final = "You've hit your usage limit."
TOO_LONG: Final = "prompt is too long for the context window"
REFUSAL: Final = "the request was refused: content policy"
NO_CAP: Final = {("codex", Kind.OVER_BUDGET), ("opencode", Kind.OVER_BUDGET)}
"""What a CLI does not know: these two have no cap of their own that a turn could reach."""


def events(*told: dict[str, Any]) -> str:
    """Return the shell text that prints these events."""
    return "".join(f"cat <<'EVENT'\n{json.dumps(event)}\nEVENT\n" for event in told)


def logged(text: str) -> str:
    """Return the shell text that prints a line to stderr."""
    return f"cat >&2 <<'LINE'\n{text}\nLINE\n"


# -- Claude Code ------------------------------------------------------------------------------------------------------

CLAUDE_INIT = {"type": "system", "subtype": "init", "session_id": "s-1"}
CLAUDE_CALL = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "c-1", "name": "Bash"}]}}
CLAUDE_DENIED = {"type": "system", "subtype": "permission_denied", "tool_name": "Bash", "tool_use_id": "c-1"}


def claude_result(**changes: Any) -> dict[str, Any]:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "done",
        "session_id": "s-1",
        "api_error_status": None,
        "permission_denials": [],
        **changes,
    }


def claude_failed(status: int, told: str) -> str:
    """Return a turn that says `success` beside its error, and ends with exit code 0."""
    return events(CLAUDE_INIT, claude_result(is_error=True, api_error_status=status, result=told))


CLAUDE: Final[dict[tuple[Kind, str], str]] = {
    (Kind.REFUSED, "stop_reason"): events(CLAUDE_INIT, claude_result(stop_reason="refusal")),
    (Kind.PERMISSION_DENIED, "then success"): events(CLAUDE_INIT, CLAUDE_CALL, CLAUDE_DENIED, claude_result()),
    (Kind.AUTHENTICATION, "401"): claude_failed(401, "Invalid API key"),
    (Kind.RATE_LIMITED, "429"): claude_failed(429, "Request rejected (429)"),
    (Kind.USAGE_LIMITED, "429"): claude_failed(429, "Claude AI 5-hour limit reached"),
    (Kind.OVERLOADED, "500"): claude_failed(500, "API Error: 500 boom"),
    (Kind.CONTEXT_TOO_LONG, "400"): claude_failed(400, "Prompt is too long"),
    (Kind.CRASHED, "contradicts itself"): events(CLAUDE_INIT, claude_result()) + "exit 3",
    (Kind.CRASHED, "other subtype"): events(CLAUDE_INIT, claude_result(subtype="error_during_execution")),
    (Kind.OVER_BUDGET, "turns"): events(CLAUDE_INIT, claude_result(subtype="error_max_turns", is_error=True)),
    (Kind.HUNG, "in the middle"): events(CLAUDE_INIT) + HANGS,
    (Kind.KILLED, "in the middle"): events(CLAUDE_INIT) + "kill -9 $$",
}

# -- Codex ------------------------------------------------------------------------------------------------------------

CODEX_BEGUN = ({"type": "thread.started", "thread_id": "s-1"}, {"type": "turn.started"})
CODEX_DONE = {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 1}}


def codex_failed(told: str) -> str:
    error = {"type": "error", "message": told}
    return events(*CODEX_BEGUN, error, {"type": "turn.failed", "error": {"message": told}}) + "exit 1"


CODEX: Final[dict[tuple[Kind, str], str]] = {
    (Kind.REFUSED, "in words"): codex_failed(REFUSAL),
    (Kind.PERMISSION_DENIED, "asked for more than its sandbox gives"): (
        events(*CODEX_BEGUN)
        + logged("ERROR codex_core::tools::router: error=approval policy is Never; reject command")
        + events(CODEX_DONE)
    ),
    (Kind.AUTHENTICATION, "401"): codex_failed(UNAUTHORIZED),
    (Kind.RATE_LIMITED, "429"): codex_failed("exceeded retry limit, last status: 429 Too Many Requests"),
    (Kind.RATE_LIMITED, "waits by itself"): (
        events(*CODEX_BEGUN, {"type": "error", "message": "Reconnecting... 1/5 (unexpected status 429)"}) + HANGS
    ),
    (Kind.USAGE_LIMITED, "prose"): codex_failed(LIMIT),
    (Kind.OVERLOADED, "500"): codex_failed("unexpected status 500 Internal Server Error"),
    (Kind.OVERLOADED, "dropped stream"): codex_failed("stream disconnected before completion"),
    (Kind.CONTEXT_TOO_LONG, "in words"): codex_failed("Codex ran out of room in the model's context window."),
    (Kind.CRASHED, "contradicts itself"): events(*CODEX_BEGUN, CODEX_DONE) + "exit 3",
    (Kind.CRASHED, "failed without a word"): codex_failed(""),
    (Kind.HUNG, "in the middle"): events(*CODEX_BEGUN) + HANGS,
    (Kind.HUNG, "after its final event"): events(*CODEX_BEGUN, CODEX_DONE) + HANGS,
    (Kind.KILLED, "in the middle"): events(*CODEX_BEGUN) + "kill -9 $$",
    (Kind.KILLED, "below a wrapper"): events(*CODEX_BEGUN) + "exit 137",
}

# -- Gemini CLI -------------------------------------------------------------------------------------------------------

GEMINI_INIT = {"type": "init", "session_id": "s-1"}
GEMINI_CALL = {"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "t-1"}
GEMINI_DENIED = {"type": "tool_result", "tool_id": "t-1", "status": "error", "error": {"type": "tool_not_registered"}}
GEMINI_DONE = {"type": "result", "status": "success", "stats": {}}


def gemini_failed(told: str, exit_code: int = 1) -> str:
    error = {"type": "result", "status": "error", "error": {"type": "unknown", "message": told}}
    return events(GEMINI_INIT, error) + f"exit {exit_code}"


GEMINI: Final[dict[tuple[Kind, str], str]] = {
    (Kind.REFUSED, "in words"): gemini_failed(REFUSAL),
    (Kind.PERMISSION_DENIED, "then success"): events(GEMINI_INIT, GEMINI_CALL, GEMINI_DENIED, GEMINI_DONE),
    (Kind.AUTHENTICATION, "401"): gemini_failed('{"error":{"code":401,"message":"API key not valid"}}', 145),
    (Kind.AUTHENTICATION, "exit code 41"): "exit 41",
    (Kind.RATE_LIMITED, "waits by itself"): (
        events(GEMINI_INIT) + logged("Attempt 1 failed with status 429. Retrying with backoff") + HANGS
    ),
    (Kind.USAGE_LIMITED, "in words"): gemini_failed("[API Error: You have exhausted your daily quota on this model.]"),
    (Kind.OVERLOADED, "500, tries for ever"): (
        events(GEMINI_INIT) + logged("Attempt 2 failed with status 500. Retrying with backoff") + HANGS
    ),
    (Kind.CONTEXT_TOO_LONG, "in words"): gemini_failed("The input token count (9) exceeds the maximum"),
    (Kind.CRASHED, "contradicts itself"): events(GEMINI_INIT, GEMINI_DONE) + "exit 3",
    (Kind.CRASHED, "success with an error"): events(GEMINI_INIT, {**GEMINI_DONE, "error": {"message": "odd"}}),
    (Kind.CRASHED, "configuration"): "exit 52",
    (Kind.OVER_BUDGET, "turns"): "exit 53",
    (Kind.HUNG, "in the middle"): events(GEMINI_INIT) + HANGS,
    (Kind.KILLED, "in the middle"): events(GEMINI_INIT) + "kill -9 $$",
    (Kind.KILLED, "cancelled"): "exit 130",
}

# -- opencode ---------------------------------------------------------------------------------------------------------

OPENCODE_BEGUN = {"type": "step_start", "sessionID": "s-1", "part": {}}
OPENCODE_DONE = {"type": "step_finish", "sessionID": "s-1", "part": {"reason": "stop", "tokens": {}, "cost": 0}}
OPENCODE_DENIED = {
    "type": "tool_use",
    "sessionID": "s-1",
    "part": {"tool": "bash", "state": {"status": "error", "error": "a rule which prevents you from using this"}},
}


def opencode_failed(status: int, told: str) -> str:
    error = {"name": "APIError", "data": {"message": told, "statusCode": status}}
    return events(OPENCODE_BEGUN, {"type": "error", "sessionID": "s-1", "error": error})


def opencode_logs(told: str) -> str:
    return logged(f'ERROR service=llm message="stream error" error.error="{told}"')


OPENCODE: Final[dict[tuple[Kind, str], str]] = {
    (Kind.REFUSED, "in words"): opencode_failed(400, REFUSAL),
    (Kind.PERMISSION_DENIED, "then stop"): events(OPENCODE_BEGUN, OPENCODE_DENIED, OPENCODE_DONE),
    (Kind.AUTHENTICATION, "401"): opencode_failed(401, "invalid x-api-key"),
    (Kind.RATE_LIMITED, "waits by itself"): events(OPENCODE_BEGUN) + opencode_logs("Rate limit reached") + HANGS,
    (Kind.RATE_LIMITED, "429"): opencode_failed(429, "slow down"),
    (Kind.USAGE_LIMITED, "waits by itself"): events(OPENCODE_BEGUN) + opencode_logs("insufficient_quota") + HANGS,
    (Kind.OVERLOADED, "500, tries for ever"): events(OPENCODE_BEGUN) + 3 * opencode_logs("boom") + HANGS,
    (Kind.CONTEXT_TOO_LONG, "400"): opencode_failed(400, TOO_LONG),
    (Kind.CRASHED, "contradicts itself"): events(OPENCODE_BEGUN, OPENCODE_DONE) + "exit 3",
    (Kind.CRASHED, "stopped at a tool"): events(OPENCODE_BEGUN, {**OPENCODE_DONE, "part": {"reason": "tool-calls"}}),
    (Kind.HUNG, "in the middle"): events(OPENCODE_BEGUN) + HANGS,
    (Kind.KILLED, "in the middle"): events(OPENCODE_BEGUN) + "kill -9 $$",
}

# -- Agent Client Protocol --------------------------------------------------------------------------------------------


def acp(*after_prompt: dict[str, Any], end: str = "") -> str:
    """Return an agent that is asked to initialize, for a session and a prompt, and then says this."""
    begun = ({"id": 1, "result": {"protocolVersion": 1}}, {"id": 2, "result": {"sessionId": "s-1"}})
    return "".join(f"read -r line\n{events(answer)}" for answer in (*begun, *after_prompt)) + end


def acp_failed(told: str, code: int = -32603) -> str:
    return acp({"id": 3, "error": {"code": code, "message": told}})


ACP_ASKS = {
    "id": 9,
    "method": "session/request_permission",
    "params": {"toolCall": {"title": "rm", "kind": "execute"}, "options": [{"kind": "reject_once", "optionId": "no"}]},
}
ACP: Final[dict[tuple[Kind, str], str]] = {
    (Kind.REFUSED, "stop reason"): acp({"id": 3, "result": {"stopReason": "refusal"}}),
    (Kind.PERMISSION_DENIED, "then end_turn"): acp(ACP_ASKS, {"id": 3, "result": {"stopReason": "end_turn"}}),
    (Kind.AUTHENTICATION, "code"): acp_failed("Authentication required", -32000),
    (Kind.RATE_LIMITED, "in words"): acp_failed("429 Too Many Requests"),
    (Kind.USAGE_LIMITED, "in words"): acp_failed(LIMIT),
    (Kind.OVERLOADED, "in words"): acp_failed("503 Service Unavailable"),
    (Kind.CONTEXT_TOO_LONG, "stop reason"): acp({"id": 3, "result": {"stopReason": "max_tokens"}}),
    (Kind.CONTEXT_TOO_LONG, "in words"): acp_failed(TOO_LONG),
    (Kind.CRASHED, "unknown stop reason"): acp({"id": 3, "result": {"stopReason": "tired"}}),
    (Kind.CRASHED, "no stop reason"): acp({"id": 3, "result": {}}),
    (Kind.OVER_BUDGET, "stop reason"): acp({"id": 3, "result": {"stopReason": "max_turn_requests"}}),
    (Kind.HUNG, "in the middle"): acp(end=f"read -r line\n{HANGS}"),
    (Kind.KILLED, "in the middle"): acp(end="read -r line\nkill -9 $$"),
    (Kind.KILLED, "cancelled"): acp({"id": 3, "result": {"stopReason": "cancelled"}}),
}

SITUATIONS: Final[Mapping[str, Mapping[tuple[Kind, str], str]]] = {
    "acp": ACP,
    "claude": CLAUDE,
    "codex": CODEX,
    "gemini": GEMINI,
    "opencode": OPENCODE,
}
ENDS: Final = {
    "without a word": "",
    "in the middle of a line": 'printf \'{"type": "res\'',
    "with exit code 1": "exit 1",
}
"""How any of them may end without a final event, whatever it is; never a success, also not with exit code 0."""


def cases() -> Iterator[Any]:
    """Yield every situation of every adapter."""
    for name, situations in SITUATIONS.items():
        for (kind, how), text in situations.items():
            yield pytest.param(name, text, kind, id=f"{name}-{kind}-{how}".replace(" ", "_"))
        for how, text in ENDS.items():
            yield pytest.param(name, text, Kind.CRASHED, id=f"{name}-ends-{how}".replace(" ", "_"))


def have(name: str, text: str, workspace: Path) -> Said:
    """Have one turn with a CLI that does this."""
    program = workspace / "cli"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o700)
    journal = Journal(workspace / "journal", lambda: 0)
    try:
        talk = Conversation(
            CLIENTS[name](),
            Settings(program=str(program), silence_s=PATIENCE_S if text.endswith(HANGS) else 60.0),
            Places(workspace, workspace / "home", workspace / "spool" / "turn"),
            journal,
            key="one",
            environment={"PATH": "/usr/bin:/bin", "HOME": str(workspace)},
            until_s=time.monotonic() + 60,
            tell=lambda _: None,
            ask=lambda *_: Answer(is_allowed=False, reason="nobody is there"),
            active=lambda: None,
        )
        return talk.have("do it", resume=None, may_write=True)
    finally:
        journal.close()


@pytest.mark.parametrize(("name", "text", "kind"), list(cases()))
def test_no_failure_of_a_cli_is_a_success(name: str, text: str, kind: Kind, tmp_path: Path):
    """It has the name that the orchestrator goes by, and an `error` event with that code comes of it."""
    outcome = have(name, text, tmp_path).outcome

    assert (outcome.kind, outcome.as_error(name)["code"]) == (kind, kind.value), outcome


def test_every_failure_is_tried_with_every_adapter():
    """Whoever adds an adapter or a kind of failure is told here what is missing."""
    tried = {(name, kind) for name, situations in SITUATIONS.items() for kind, _ in situations}
    all_of_them = {(name, kind) for name in CLIENTS for kind in Kind if kind is not Kind.DONE}

    assert tried == all_of_them - NO_CAP
    assert set(RULES) == set(Kind) - {Kind.DONE}
