"""Codex CLI (npm ``@openai/codex``), as 0.169.0 behaves; its stream is what ``codex exec --json`` prints.

It cannot ask for leave in the middle of a turn: under `ask` its sandbox is that of `workspace`. A command that its
sandbox stops is a command that failed, like any other; only when the model asks for more than the sandbox gives, its
log says that this was denied. It tells no cost. A usage limit is a sentence with a local time in it: where that cannot
be read for certain, there is no reset time.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Final

from lorch_actors.agents.adapters.client import Client, Turn
from lorch_actors.agents.adapters.outcome import DONE, Kind, Outcome, Usage, of_provider
from lorch_actors.agents.adapters.reader import Ask, Object, Reader, Tell, count_of, ended_early, object_of, text_of

_SANDBOXES: Final = {"allow": "danger-full-access", "workspace": "workspace-write", "ask": "workspace-write"}


class Codex(Client):
    """Starts Codex."""

    name = "codex"
    program = "codex"
    install = "npm install -g @openai/codex"
    key_variables = ("CODEX_API_KEY", "OPENAI_API_KEY")
    login_root = ("CODEX_HOME", ".codex")
    login_files: ClassVar[Mapping[str, str]] = {"auth.json": "auth.json"}
    cumulative = frozenset({"input_tokens", "output_tokens"})

    def argv(self, turn: Turn) -> list[str]:
        """Return the flags; ``-`` has it read the prompt from stdin."""
        sandbox = _SANDBOXES[turn.permissions]
        if not turn.may_write and turn.permissions != "allow":
            sandbox = "read-only"
        return [
            "exec",
            *("--json", "--skip-git-repo-check", "--ignore-user-config"),
            *("--sandbox", sandbox),
            *(("--model", turn.model) if turn.model else ()),
            *(("--output-schema", str(turn.schema)) if turn.schema else ()),
            *turn.extra,
            *(("resume", turn.resume) if turn.resume else ()),
            "-",
        ]

    def environment(self, turn: Turn) -> dict[str, str]:
        """Return its own home."""
        return {"CODEX_HOME": str(turn.home)}

    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who reads its stream."""
        return CodexReader(tell)


class CodexReader(Reader):
    """Reads the events of ``codex exec --json``."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(tell)
        self._is_completed = False
        self._failure: str | None = None
        self._last_error = ""
        self._is_denied = False

    def hear(self, event: Object) -> bytes:
        """Take an event; nothing is ever answered."""
        kind = event.get("type")
        if kind == "thread.started":
            self.meet(event.get("thread_id"))
        elif kind in {"item.started", "item.completed"}:
            self._item(str(kind), object_of(event, "item"))
        elif kind == "turn.completed":
            used = object_of(event, "usage")
            self._is_completed = True
            self.usage = Usage(count_of(used, "input_tokens"), count_of(used, "output_tokens"))
        elif kind == "turn.failed":
            self._failure = text_of(object_of(event, "error"), "message")
        elif kind == "error":  # also told of every reconnection that then succeeds: no verdict by itself
            self._last_error = text_of(event, "message")
            if _RECONNECTS_ON_429.match(self._last_error):
                self.waits = of_provider(429, self._last_error)
            self.tell(self._last_error[:500])
        return b""

    def _item(self, kind: str, item: Object) -> None:
        name = item.get("type")
        if kind == "item.completed" and name == "agent_message":
            self.answer = text_of(item, "text")
            self.tell(self.answer[:500])
        elif kind == "item.started" and name == "command_execution":
            self.tell(f"runs {text_of(item, 'command')[:200]}")
        elif kind == "item.completed" and name == "file_change":
            self.tell("changes files")
        if kind == "item.completed" and (item.get("exit_code") == 0 or item.get("status") == "completed"):
            self._is_denied = False  # it found another way

    def overhear(self, line: str) -> None:
        """Take a line of its log: it tells there that more than the sandbox gives was asked for and denied."""
        self._is_denied = self._is_denied or _DENIES.search(line) is not None

    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of it: done when the turn completed, did not fail, and the exit code says so too."""
        if self._failure is not None or (exit_code != 0 and self._last_error):
            return _classified(self._failure or self._last_error)
        if not self._is_completed:
            found = ended_early(exit_code, errors)
            is_unknown = "no rollout found" in errors or "not found" in errors
            return Outcome(found.kind, found.message, is_session_lost=is_unknown) if is_unknown else found
        if exit_code != 0:
            return Outcome(Kind.CRASHED, f"completed its turn, but ended with exit code {exit_code}")
        if self._is_denied:
            return Outcome(Kind.PERMISSION_DENIED, "was not allowed to run a command outside of its sandbox")
        return DONE


_DENIES: Final = re.compile(r"approval policy is \w+; reject")
_RECONNECTS_ON_429: Final = re.compile(r"Reconnecting\b.*\b429\b")
_STATUS: Final = re.compile(r"status:? (\d{3})\b")


def _classified(told: str) -> Outcome:
    status = _STATUS.search(told)
    found = of_provider(int(status[1]) if status else None, told or "the turn failed without saying why")
    if found.kind is not Kind.USAGE_LIMITED:
        return found
    resets_at = reset_time(told, datetime.now().astimezone())
    return Outcome(found.kind, found.message, resets_at_ms=resets_at)


_RESET: Final = re.compile(
    r"try again at (?:(?P<month>[A-Z][a-z]{2}) (?P<day>\d{1,2})(?:st|nd|rd|th), (?P<year>\d{4}) )?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}) (?P<half>[AP]M)\b"
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def reset_time(told: str, now: datetime) -> int | None:
    """Return the moment that "try again at 3:42 PM" or "… at Nov 28th, 2026 3:42 PM" means, in ms since 1970.

    now: with the time zone that the CLI runs in, for its times are local; a time without a date is today's. It is cut
    to the minute, so the moment returned is the end of that minute. None for anything that cannot be read for certain:
    another form, a time that is past.
    """
    found = _RESET.search(told)
    if found is None:
        return None
    hour, minute = int(found["hour"]), int(found["minute"])
    if not 1 <= hour <= 12 or minute > 59:
        return None
    hour = hour % 12 + (12 if found["half"] == "PM" else 0)
    try:
        local = now.replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
        if found["month"]:
            month = _MONTHS.index(found["month"]) + 1
            local = local.replace(year=int(found["year"]), month=month, day=int(found["day"]))
    except ValueError:
        return None
    moment = (local + timedelta(minutes=1)).astimezone()
    return int(moment.timestamp() * 1000) if moment > now else None
