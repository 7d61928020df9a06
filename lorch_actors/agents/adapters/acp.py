"""Any agent that speaks the Agent Client Protocol, version 1 (https://agentclientprotocol.com): JSON-RPC on its stdio.

What comes after ``--`` is its command, as in ``lorch-agent acp -- gemini --acp``. A turn is: initialize, a session (a
new one, or the one that broke off, if the agent can load it), one prompt, its answer. Files that it reads and writes
through us lie below the workspace. It is a server that we hang up on, and some of them never exit by themselves: so
its exit code says nothing once the prompt was answered.
"""

import os
from typing import Any, Final

import msgspec

from lorch_actors.agents import files
from lorch_actors.agents.adapters.client import Client, Turn
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage, of_provider
from lorch_actors.agents.adapters.reader import (
    Ask,
    Object,
    Reader,
    Tell,
    count_of,
    ended_early,
    object_of,
    objects_of,
    text_of,
)
from lorch_actors.errors import LorchError, PathRefused

_VERSION: Final = 1
_FILE_MAX_BYTES: Final = 16 << 20
_AUTH_REQUIRED: Final = -32000
_NOT_FOUND: Final = -32002
_INVALID: Final = -32602
_UNKNOWN_METHOD: Final = -32601
_STOPPED: Final = {
    "refusal": Outcome(Kind.REFUSED, "refused to go on"),
    "max_tokens": Outcome(Kind.CONTEXT_TOO_LONG, "reached the most tokens of its model", is_session_lost=True),
    "max_turn_requests": Outcome(Kind.OVER_BUDGET, "reached the most requests it makes in a turn"),
    "cancelled": Outcome(Kind.KILLED, "cancelled its turn"),
}
_INSIDE: Final = frozenset({"read", "edit", "delete", "move", "search", "think"})
"""Kinds of tool calls that stay inside the workspace if all their places do. Commands may do anything."""


class Acp(Client):
    """Starts an ACP agent and talks to it."""

    name = "acp"
    program = ""
    install = "see the agent's own pages; its command comes after `--`"

    def argv(self, turn: Turn) -> list[str]:
        """Return what the user has given after the program."""
        return [*turn.extra]

    def environment(self, turn: Turn) -> dict[str, str]:
        """Return nothing: where its home is, only its own flags and variables can say."""
        return {}

    def is_talk(self, turn: Turn) -> bool:
        """Return that it is one."""
        return True

    def opening(self, turn: Turn) -> bytes:
        """Return the first request."""
        capabilities = {"fs": {"readTextFile": True, "writeTextFile": turn.may_write}, "terminal": False}
        return _call(
            _INITIALIZE,
            "initialize",
            protocolVersion=_VERSION,
            clientCapabilities=capabilities,
            clientInfo={"name": "lorch", "version": "1"},
        )

    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who talks to it."""
        return AcpReader(turn, tell, ask)


_INITIALIZE, _SESSION, _PROMPT = 1, 2, 3


class AcpReader(Reader):
    """The client's side of one prompt turn."""

    def __init__(self, turn: Turn, tell: Tell, ask: Ask) -> None:
        super().__init__(tell)
        self._turn = turn
        self._ask = ask
        self._is_prompted = False
        self._stop_reason: str | None = None
        self._error: Object | None = None
        self._denied: str | None = None

    def hear(self, event: Object) -> bytes:
        """Take a message; return ours that follow from it."""
        method = event.get("method")
        if method is None:
            return self._take_answer(event)
        params = object_of(event, "params")
        if "id" not in event:
            if method == "session/update" and self._is_prompted:
                self._update(object_of(params, "update"))
            return b""
        try:
            return _line({"id": event["id"], "result": self._serve(str(method), params)})
        except _Refused as refused:
            return _line({"id": event["id"], "error": {"code": refused.code, "message": str(refused)}})

    def _take_answer(self, event: Object) -> bytes:
        if "error" in event:
            self._error = object_of(event, "error")
            self.is_over = True
            return b""
        result = object_of(event, "result")
        if event.get("id") == _INITIALIZE:
            return self._begin(object_of(result, "agentCapabilities"))
        if event.get("id") == _SESSION:
            self.meet(result.get("sessionId") or self._turn.resume)
            self._is_prompted = True
            prompt = [{"type": "text", "text": self._turn.prompt}]
            return _call(_PROMPT, "session/prompt", sessionId=self.session_id, prompt=prompt)
        if event.get("id") == _PROMPT:
            self._stop_reason = text_of(result, "stopReason")
            used = object_of(result, "usage")
            self.usage = Usage(count_of(used, "inputTokens"), count_of(used, "outputTokens"))
            self.is_over = True
        return b""

    def _begin(self, capabilities: Object) -> bytes:
        place: Object = {"cwd": str(self._turn.workspace), "mcpServers": []}
        if self._turn.resume and capabilities.get("loadSession") is True:
            return _call(_SESSION, "session/load", sessionId=self._turn.resume, **place)
        return _call(_SESSION, "session/new", **place)

    def _update(self, update: Object) -> None:
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            self.answer += text_of(object_of(update, "content"), "text")
        elif kind == "tool_call":
            self.answer = ""  # what is said before a tool is used is no answer
            self.tell(f"uses {text_of(update, 'title')[:200]}")
        elif kind == "tool_call_update" and update.get("status") == "completed":
            self._denied = None

    def _serve(self, method: str, params: Object) -> Any:
        if method == "session/request_permission":
            return {"outcome": self._permit(params)}
        if method == "fs/read_text_file":
            return {"content": self._read(params)}
        if method == "fs/write_text_file" and self._turn.may_write:
            self._write(params)
            return {}
        raise _Refused(_UNKNOWN_METHOD, f"Method not found: {method}")

    def _permit(self, params: Object) -> Object:
        call = object_of(params, "toolCall")
        title = text_of(call, "title") or text_of(call, "kind") or "a tool"
        is_allowed = self._turn.permissions == "allow" or self._is_inside(call)
        if not is_allowed and self._turn.permissions == "ask":
            given: Object = {name: call[name] for name in ("kind", "rawInput", "locations") if name in call}
            is_allowed = self._ask(title, given).is_allowed
        wanted = ("allow_once", "allow_always") if is_allowed else ("reject_once", "reject_always")
        if not is_allowed:
            self._denied = title
        for kind in wanted:
            for option in objects_of(params, "options"):
                if option.get("kind") == kind:
                    return {"outcome": "selected", "optionId": option.get("optionId")}
        return {"outcome": "cancelled"}

    def _is_inside(self, call: Object) -> bool:
        """Tell whether a call is of a kind that stays at its places, and all of them lie below the workspace."""
        kind = call.get("kind")
        places = [text_of(place, "path") for place in objects_of(call, "locations")]
        if kind not in _INSIDE or (kind not in {"read", "search", "think"} and not (places and self._turn.may_write)):
            return False
        try:
            for place in places:
                files.reached(self._turn.workspace, self._locate(place))
        except (_Refused, PathRefused):
            return False
        return True

    def _locate(self, path: str) -> str:
        """Return a path below the workspace as relative to it."""
        relative = os.path.relpath(path, self._turn.workspace) if os.path.isabs(path) else path
        try:
            files.locate(self._turn.workspace, relative)
        except PathRefused as error:
            raise _Refused(_INVALID, f"{error.what}: {path}") from None
        return relative

    def _read(self, params: Object) -> str:
        path = text_of(params, "path")
        try:
            text = files.read(self._turn.workspace, self._locate(path), _FILE_MAX_BYTES).decode("utf-8", "replace")
        except (OSError, PathRefused):
            # The words matter: clients look for them to tell a new file from a broken one.
            raise _Refused(_NOT_FOUND, f"Resource not found: {path}") from None
        first, limit = count_of(params, "line"), count_of(params, "limit")
        if first is None and limit is None:
            return text
        start = max(0, (first or 1) - 1)
        lines = text.splitlines(keepends=True)[start:]
        return "".join(lines if limit is None else lines[:limit])

    def _write(self, params: Object) -> None:
        path = text_of(params, "path")
        try:
            files.write(self._turn.workspace, self._locate(path), text_of(params, "content").encode())
        except LorchError as error:
            raise _Refused(_INVALID, f"{error.what}: {path}") from None

    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of it: done when the prompt was answered with `end_turn` and nothing was denied last."""
        if self._error is not None:
            told = text_of(self._error, "message")
            more = self._error.get("data")
            words = f"{told} {msgspec.json.encode(more).decode()}" if more else told
            if self._error.get("code") == _AUTH_REQUIRED and of_provider(None, words).kind is Kind.CRASHED:
                return Outcome(Kind.AUTHENTICATION, words)
            found = of_provider(None, words or "failed without saying why")
            is_lost = self._turn.resume is not None and not self._is_prompted
            return msgspec.structs.replace(found, is_session_lost=True) if is_lost else found
        if self._stop_reason is None:
            return ended_early(exit_code, errors)
        if self._stop_reason != "end_turn":
            return _STOPPED.get(self._stop_reason, Outcome(Kind.CRASHED, f"stopped with {self._stop_reason!r}"))
        if self._denied is not None:
            return Outcome(Kind.PERMISSION_DENIED, f"was not allowed to use {self._denied}")
        return DONE


class _Refused(Exception):  # noqa: N818 - a request of the agent's that is answered with an error
    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def _line(message: Object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n"


def _call(number: int, method: str, **params: Any) -> bytes:
    return _line({"id": number, "method": method, "params": params})
