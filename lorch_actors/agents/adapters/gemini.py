"""Gemini CLI (npm ``@google/gemini-cli``), as 0.61.0 behaves; its stream is what ``-o stream-json`` prints.

On a limit it prints nothing on stdout and tries again for long: what it says to people on stderr is the only sign. It
tells no cost, and cannot ask for leave in the middle of a turn: under `ask` it may do what it may under `workspace`.
"""

import json
import re
from collections.abc import Mapping
from typing import ClassVar, Final

from lorch_actors.agents.adapters.client import Client, Turn
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage, of_provider
from lorch_actors.agents.adapters.reader import Ask, Object, Reader, Tell, count_of, ended_early, object_of, text_of

_SETTINGS: Final = ".gemini/settings.json"
_OF_EXIT: Final = {
    41: Outcome(Kind.AUTHENTICATION, "is not logged in"),
    42: Outcome(Kind.CRASHED, "did not accept its input"),
    44: Outcome(Kind.CRASHED, "could not start its sandbox"),
    52: Outcome(Kind.CRASHED, "did not accept its configuration"),
    53: Outcome(Kind.OVER_BUDGET, "reached the most turns it may take"),
    130: Outcome(Kind.KILLED, "was cancelled"),
}
"""Exit codes of its own (packages/core/src/utils/errors.ts), where the stream says nothing."""


class Gemini(Client):
    """Starts Gemini CLI."""

    name = "gemini"
    program = "gemini"
    install = "npm install -g @google/gemini-cli"
    key_variables = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    login_root = ("GEMINI_CLI_HOME", "")
    login_files: ClassVar[Mapping[str, str]] = {
        ".gemini/oauth_creds.json": ".gemini/oauth_creds.json",
        ".gemini/google_accounts.json": ".gemini/google_accounts.json",
    }

    def argv(self, turn: Turn) -> list[str]:
        """Return the flags; the prompt goes to stdin."""
        mode = "yolo" if turn.permissions == "allow" else "auto_edit" if turn.may_write else "plan"
        return [
            *("--output-format", "stream-json", "--skip-trust", "--approval-mode", mode),
            *(("--model", turn.model) if turn.model else ()),
            *(("--resume", turn.resume) if turn.resume else ()),
            *turn.extra,
        ]

    def environment(self, turn: Turn) -> dict[str, str]:
        """Return its own home."""
        return {"GEMINI_CLI_HOME": str(turn.home)}

    def settings(self, turn: Turn) -> dict[str, bytes]:
        """Return how it logs in, which it asks for at its first start: by key if there is one, else by the login."""
        import os

        has_key = any(os.environ.get(name) for name in self.key_variables)
        kind = "gemini-api-key" if has_key else "oauth-personal"
        document = {"security": {"auth": {"selectedType": kind}}, "general": {"disableAutoUpdate": True}}
        return {_SETTINGS: json.dumps(document).encode()}

    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who reads its stream."""
        return GeminiReader(tell)


_RETRIES: Final = re.compile(r"Attempt (\d+) failed with status (\d{3})\b")
_DENIES: Final = re.compile(r"denied|not allowed|tool_not_registered|requires? (approval|confirmation)", re.IGNORECASE)
_PATIENCE: Final = 2
"""After so many failures of the provider it is ended; a rate limit is not waited for at all."""


class GeminiReader(Reader):
    """Reads ``stream-json``."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self._result: Object | None = None
        self._denied: str | None = None
        self._tools: dict[str, str] = {}

    def hear(self, event: Object) -> bytes:
        """Take an event; nothing is ever answered."""
        kind = event.get("type")
        if kind == "init":
            self.meet(event.get("session_id"))
        elif kind == "message" and event.get("role") == "assistant":
            self.answer += text_of(event, "content")
        elif kind == "tool_use":
            self.answer = ""  # what is said before a tool is used is no answer
            self._tools[text_of(event, "tool_id")] = text_of(event, "tool_name")
            self.tell(f"uses {text_of(event, 'tool_name')}")
        elif kind == "tool_result":
            self._take_tool(event)
        elif kind == "result":
            used = object_of(event, "stats")
            self._result = event
            self.usage = Usage(count_of(used, "input_tokens"), count_of(used, "output_tokens"))
        return b""

    def _take_tool(self, event: Object) -> None:
        error = object_of(event, "error")  # a tool that may not be used is not even registered
        told = " ".join([text_of(error, "type"), text_of(error, "message"), text_of(event, "output")])
        if event.get("status") == "success":
            self._denied = None
        elif _DENIES.search(told):
            self._denied = self._tools.get(text_of(event, "tool_id"), "a tool")

    def overhear(self, line: str) -> None:
        """Take a line of stderr: it tells there that it tries again."""
        found = _RETRIES.search(line)
        if found is None:
            return
        self.tell(found[0])
        status = int(found[2])
        if status == 429 or int(found[1]) >= _PATIENCE:
            self.waits = of_provider(status, line.strip())

    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of it: done when the result is `success` without an error and the exit code says so too."""
        result = self._result
        if result is None:
            return self._early(exit_code, errors)
        error = object_of(result, "error")
        if result.get("status") != "success" or error:
            told = text_of(error, "message")
            status = re.search(r"\bcode\\?\"? ?: ?(\d{3})\b", told)
            found = of_provider(int(status[1]) if status else None, told or "failed without saying why")
            return _OF_EXIT.get(exit_code, found) if found.kind is Kind.CRASHED else found
        if exit_code != 0:
            return Outcome(Kind.CRASHED, f"said success, but ended with exit code {exit_code}")
        if self._denied is not None:
            return Outcome(Kind.PERMISSION_DENIED, f"was not allowed to use {self._denied}")
        return DONE

    def _early(self, exit_code: int, errors: str) -> Outcome:
        if "Error resuming session" in errors or "Invalid session" in errors:
            return Outcome(Kind.CRASHED, errors.strip(), is_session_lost=True)
        return _OF_EXIT.get(exit_code) or ended_early(exit_code, errors)
