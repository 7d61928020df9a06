"""opencode (npm ``opencode-ai``), as 1.18.33 behaves; its stream is what ``run --format json`` prints.

It costs what its steps cost together, and is done when the last of them ended with ``stop``. While a provider fails it
tries again and prints nothing; what it logs on stderr is the only sign. Leave cannot be asked for in the middle of a
turn: under `ask` it may do what it may under `workspace`.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

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
    text_of,
)
from lorch_actors.errors import ConfigError

_CONFIGURATION: Final = "OPENCODE_CONFIG_CONTENT"


class Opencode(Client):
    """Starts opencode."""

    name = "opencode"
    program = "opencode"
    install = "npm install -g opencode-ai"
    key_variables = ("OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY")
    login_root = ("XDG_DATA_HOME", ".local/share")
    login_files: ClassVar[Mapping[str, str]] = {"opencode/auth.json": "data/opencode/auth.json"}

    def argv(self, turn: Turn) -> list[str]:
        """Return the flags; the prompt goes to stdin."""
        return [
            *("run", "--format", "json", "--print-logs", "--log-level", "WARN"),
            *(("--model", turn.model) if turn.model else ()),
            *(("--session", turn.resume) if turn.resume else ()),
            *turn.extra,
        ]

    def environment(self, turn: Turn) -> dict[str, str]:
        """Return its own home, and what it may do, added to the configuration that the user gave in the environment."""
        own = {f"XDG_{name.upper()}_HOME": str(turn.home / name) for name in ("data", "config", "state", "cache")}
        configuration = {"share": "disabled", "autoupdate": False, **_given(), "permission": _permission(turn)}
        flags = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
        return {**own, **flags, _CONFIGURATION: json.dumps(configuration)}

    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who reads its stream."""
        return OpencodeReader(tell)


def _given() -> dict[str, Any]:
    text = os.environ.get(_CONFIGURATION, "{}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", where=_CONFIGURATION, remedy="Mend it in the environment.") from None
    return found if isinstance(found, dict) else {}


def _permission(turn: Turn) -> dict[str, Any]:
    """Return its permissions (https://opencode.ai/docs/permissions); the last rule that matches counts."""
    if turn.permissions == "allow":
        return dict.fromkeys(("edit", "bash", "webfetch", "external_directory"), "allow")
    return {
        "edit": "allow" if turn.may_write else "deny",
        "bash": {"*": "deny"} | {f"{command}*": "allow" for command in turn.harmless},
        "webfetch": "deny",
        "external_directory": "deny",
    }


_FAILS: Final = re.compile(r'message="stream error".*?error\.error="?(?P<said>[^"]*)')
_PATIENCE: Final = 3
"""After so many failures of the provider in its log it is ended; a limit is not waited for at all."""


class OpencodeReader(Reader):
    """Reads ``--format json``."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self._reason = ""
        self._error: Object | None = None
        self._denied: str | None = None
        self._failures = 0

    def hear(self, event: Object) -> bytes:
        """Take an event; nothing is ever answered."""
        self.meet(event.get("sessionID"))
        kind, part = event.get("type"), object_of(event, "part")
        if kind == "text":
            self.answer = text_of(part, "text")
            self.tell(self.answer[:500])
        elif kind == "tool_use":
            self._take_tool(part)
        elif kind == "step_finish":
            used = object_of(part, "tokens")
            self._reason = text_of(part, "reason")
            step = Usage(count_of(used, "input"), count_of(used, "output"), number_of(part, "cost"))
            self.usage = self.usage.plus(step)
        elif kind == "error":
            self._error = object_of(event, "error")
        return b""

    def _take_tool(self, part: Object) -> None:
        state = object_of(part, "state")
        self.tell(f"uses {text_of(part, 'tool')}")
        if state.get("status") == "completed":
            self._denied = None
        elif re.search(r"permission|rejected|prevents|denied", text_of(state, "error"), re.IGNORECASE):
            self._denied = text_of(part, "tool")

    def overhear(self, line: str) -> None:
        """Take a line of its log: it tells there that the provider failed."""
        failed = _FAILS.search(line)
        if failed is None:
            return
        self._failures += 1
        self.tell(f"the provider failed: {failed['said'][:300]}")
        found = of_provider(None, failed["said"])
        if found.kind in {Kind.RATE_LIMITED, Kind.USAGE_LIMITED}:
            self.waits = found
        elif self._failures >= _PATIENCE:
            self.waits = Outcome(Kind.OVERLOADED if found.kind is Kind.CRASHED else found.kind, found.message)

    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of it: done when the last step ended with `stop`, no error came, and the exit code is 0."""
        if self._error is not None:
            data = object_of(self._error, "data")
            told = text_of(data, "message") or text_of(self._error, "name") or "failed without saying why"
            found = of_provider(count_of(data, "statusCode"), told)
            return Outcome(found.kind, told, is_session_lost=True) if "not found" in told.lower() else found
        if self._reason != "stop":
            return ended_early(exit_code, errors)
        if exit_code != 0:
            return Outcome(Kind.CRASHED, f"stopped, but ended with exit code {exit_code}")
        if self._denied is not None:
            return Outcome(Kind.PERMISSION_DENIED, f"was not allowed to use {self._denied}")
        return DONE
