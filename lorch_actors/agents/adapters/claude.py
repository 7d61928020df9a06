"""Claude Code (npm ``@anthropic-ai/claude-code``), as 2.1.329 behaves.

Its stream is ``stream-json`` (https://docs.claude.com/en/docs/claude-code/headless), read by key.
Its final `result` may say ``subtype: "success"`` beside ``is_error: true``, and exit code 0 beside denied permissions:
only when all of them agree is a turn done.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from lorch_actors.agents.adapters.client import Client, Turn
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage, of_provider
from lorch_actors.agents.adapters.reader import (
    Ask,
    Object,
    Reader,
    Tell,
    count_of,
    ended_early,
    number_of,
    object_of,
    objects_of,
    text_of,
)

_EVERYTHING: Final = ("Bash", "Edit", "Write", "NotebookEdit", "WebFetch", "WebSearch", "Task", "Skill")
_ASKING: Final = ("--input-format", "stream-json", "--permission-prompt-tool", "stdio")
_CAP_MIN_USD: Final = 1e-6
_CAPS: Final = {"error_max_turns": "its --max-turns", "error_max_budget_usd": "its --max-budget-usd"}


class Claude(Client):
    """Starts Claude Code."""

    name = "claude"
    program = "claude"
    install = "npm install -g @anthropic-ai/claude-code"
    key_variables = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
    login_root = ("CLAUDE_CONFIG_DIR", ".claude")
    login_files: ClassVar[Mapping[str, str]] = {".credentials.json": ".credentials.json"}
    cumulative = frozenset({"cost_usd"})

    def argv(self, turn: Turn) -> list[str]:
        """Return the flags; the prompt goes to stdin."""
        return [
            "--print",
            *(_ASKING if turn.permissions == "ask" else ()),
            *("--output-format", "stream-json", "--verbose", "--strict-mcp-config", "--setting-sources", ""),
            *self._permissions(turn),
            *(("--model", turn.model) if turn.model else ()),
            *(("--resume", turn.resume) if turn.resume else ()),
            *_cap(turn),
            *turn.extra,
        ]

    def _permissions(self, turn: Turn) -> list[str]:
        """Return what may be used without asking, beyond editing below the workspace, and what may not be used."""
        if turn.permissions == "allow":
            if os.geteuid() == 0 and os.environ.get("IS_SANDBOX") != "1":  # it refuses to bypass anything for root
                return ["--permission-mode", "acceptEdits", f"--allowedTools={','.join(_EVERYTHING)}"]
            return ["--permission-mode", "bypassPermissions"]
        allowed = [f"Bash({command}:*)" for command in turn.harmless]
        denied = [] if turn.may_write else ["--disallowedTools=Edit,Write,NotebookEdit"]
        return ["--permission-mode", "acceptEdits", f"--allowedTools={','.join(allowed)}", *denied]

    def environment(self, turn: Turn) -> dict[str, str]:
        """Return its own home, and little patience: waiting is done by us, where it is seen and survives."""
        return {
            "CLAUDE_CONFIG_DIR": str(turn.home),
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def is_talk(self, turn: Turn) -> bool:
        """Whoever may be asked has to be answered."""
        return turn.permissions == "ask"

    def opening(self, turn: Turn) -> bytes:
        """Return the prompt, as a message where stdin is a stream of them."""
        if turn.permissions != "ask":
            return super().opening(turn)
        content = [{"type": "text", "text": turn.prompt}]
        return _line({"type": "user", "message": {"role": "user", "content": content}})

    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who reads its stream."""
        return ClaudeReader(tell, ask)


class ClaudeReader(Reader):
    """Reads ``stream-json``."""

    def __init__(self, tell: Tell, ask: Ask) -> None:
        super().__init__(tell)
        self._ask = ask
        self._result: Object | None = None
        self._limit: Object = {}
        self._calls: list[str] = []
        self._succeeded: set[str] = set()
        self._denied: dict[str, str] = {}

    def hear(self, event: Object) -> bytes:
        """Take an event; only a request for leave is answered."""
        self.meet(event.get("session_id"))
        kind = event.get("type")
        if kind == "assistant":
            self._assistant(event)
        elif kind == "user":
            for block in objects_of(object_of(event, "message"), "content"):
                if block.get("type") == "tool_result" and not block.get("is_error"):
                    self._succeeded.add(text_of(block, "tool_use_id"))
        elif kind == "system":
            self._system(event)
        elif kind == "rate_limit_event":
            info = object_of(event, "rate_limit_info")
            self._limit = info if info.get("status") == "rejected" else {}
        elif kind == "result":
            self._take_result(event)
        elif kind == "control_request":
            return _line(self._answer(event))
        return b""

    def _answer(self, event: Object) -> Object:
        """Return the answer to a request: a person's to one for leave, a refusal to any other."""
        request, number = object_of(event, "request"), event.get("request_id")
        if request.get("subtype") != "can_use_tool":
            return _response(number, "error", error=f"{request.get('subtype')} is not served here")
        tool, given = text_of(request, "tool_name"), object_of(request, "input")
        answer = self._ask(tool, given)
        if answer.is_allowed:
            return _response(number, "success", response={"behavior": "allow", "updatedInput": given})
        return _response(number, "success", response={"behavior": "deny", "message": answer.reason or "not allowed"})

    def _assistant(self, event: Object) -> None:
        is_error = bool(event.get("is_api_error_message") or event.get("error"))
        for block in objects_of(object_of(event, "message"), "content"):
            if block.get("type") == "tool_use":
                self._calls.append(text_of(block, "id"))
                self.tell(f"uses {text_of(block, 'name')}")
            elif block.get("type") == "text" and not is_error:
                self.tell(text_of(block, "text")[:500])

    def _system(self, event: Object) -> None:
        if event.get("subtype") == "permission_denied":
            self._denied[text_of(event, "tool_use_id")] = text_of(event, "tool_name")
        elif event.get("subtype") == "api_retry":
            self.tell(f"tries again after {text_of(event, 'error') or 'an error'} ({event.get('error_status')})")

    def _take_result(self, event: Object) -> None:
        self._result = event
        self.is_over = True
        self.answer = text_of(event, "result")
        for denial in objects_of(event, "permission_denials"):
            self._denied[text_of(denial, "tool_use_id")] = text_of(denial, "tool_name")
        used = object_of(event, "usage")
        read = [count_of(used, f"{kind}input_tokens") for kind in ("", "cache_creation_", "cache_read_")]
        known = [count for count in read if count is not None]
        self.usage = Usage(
            sum(known) if known else None, count_of(used, "output_tokens"), number_of(event, "total_cost_usd")
        )

    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of it; see the top of this module."""
        result = self._result
        if result is None:
            found = ended_early(exit_code, errors)
            return _without_session(found) if "No conversation found" in errors else found
        if text_of(result, "subtype") in _CAPS:
            return Outcome(Kind.OVER_BUDGET, f"reached {_CAPS[text_of(result, 'subtype')]}")
        status = count_of(result, "api_error_status")
        more = result.get("errors")
        told = "; ".join([self.answer, *map(str, more if isinstance(more, list) else ())]).strip("; ")
        if result.get("subtype") != "success" or result.get("is_error") is not False or status is not None:
            return self._failure(status, told)
        if exit_code != 0:
            return Outcome(Kind.CRASHED, f"said success, but ended with exit code {exit_code}")
        if result.get("stop_reason") == "refusal":
            return Outcome(Kind.REFUSED, self.answer)
        return self._denial() or DONE

    def _failure(self, status: int | None, told: str) -> Outcome:
        found = of_provider(status, told or "failed without saying why")
        if found.kind not in {Kind.RATE_LIMITED, Kind.USAGE_LIMITED}:
            return _without_session(found) if "No conversation found" in told else found
        resets_at_s = count_of(self._limit, "resetsAt")
        if not self._limit or resets_at_s is None:
            return found
        which = text_of(self._limit, "rateLimitType")
        return Outcome(Kind.USAGE_LIMITED, f"{told} ({which})" if which else told, resets_at_ms=resets_at_s * 1000)

    def _denial(self) -> Outcome | None:
        """Tell of a denial that stopped it: no tool that it called after the denied one came to anything."""
        if not self._denied:
            return None
        last = max((at for at, call in enumerate(self._calls) if call in self._denied), default=len(self._calls))
        if any(call in self._succeeded for call in self._calls[last + 1 :]):
            return None
        return Outcome(
            Kind.PERMISSION_DENIED, f"was not allowed to use {', '.join(sorted(set(self._denied.values())))}"
        )


def _cap(turn: Turn) -> tuple[str, ...]:
    """Return the flag for what the turn may cost, which has to be over 0; a resumed session is counted from there."""
    return () if turn.budget_usd is None else ("--max-budget-usd", f"{max(turn.budget_usd, _CAP_MIN_USD):f}")


def _line(document: Object) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def _response(number: object, subtype: str, **content: Any) -> Object:
    return {"type": "control_response", "response": {"subtype": subtype, "request_id": number, **content}}


def _without_session(found: Outcome) -> Outcome:
    return Outcome(found.kind, found.message, is_session_lost=True)
