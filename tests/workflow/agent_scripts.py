"""Scripts for the agents of a `World`: what they say to a command, in one word each where it goes as usual."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lorch_actors.protocol.messages import Command

ENDS = frozenset({"builder.completed", "review.completed", "spec.updated", "spec.changes_requested"})


@dataclass(frozen=True)
class Say:
    """An event of an agent; what is None is filled in from the command."""

    event: str
    status: str | None = None
    payload: dict[str, Any] | None = None
    artifacts: tuple[str, ...] = ()
    correlation_id: str | None = None
    task_id: str | None = None
    role: str | None = None
    snapshot_id: str | None = None


@dataclass(frozen=True)
class Exit:
    """The agent's process ends. ours: with its actor, which had to."""

    code: int | None = 0
    signal: int | None = None
    ours: bool = False


@dataclass(frozen=True)
class Ask:
    """The agent asks for leave, and does one thing or the other when it is answered."""

    tool: str = "Bash"
    given: dict[str, Any] = field(default_factory=dict)
    allowed: "Say | Exit | Ask" = Say("builder.completed", payload={"tests": {"status": "pass"}})
    denied: "Say | Exit | Ask" = Say("error", payload={"code": "permission_denied", "retryable": False})


Response = Iterable[Say | Exit | Ask]
Script = Callable[[Command], Response]

PASS = Say("builder.completed", payload={"tests": {"status": "pass"}})
FAIL = Say("builder.completed", payload={"tests": {"status": "fail", "summary": "2 failed"}})
APPROVED = Say("review.completed", "approved")
CHANGES = Say("review.completed", "changes_requested", {"findings": ["rename it"]})
UPDATED = Say("spec.updated")
SPEC_CHANGES = Say("spec.changes_requested", payload={"why": "not as specified"})
GOOD = {"implement": PASS, "implement_changes": PASS, "review": APPROVED, "update_spec": UPDATED}


def error(**payload: Any) -> Say:
    """Return an ``error`` event with that payload."""
    return Say("error", payload=payload)


def playing(**actions: list[Say | Exit | Ask | tuple[Say | Exit | Ask, ...]]) -> Script:
    """Return a script that plays one item a command, the last one again and again; other actions go well."""
    left = {action: list(items) for action, items in actions.items()}

    def play(command: Command) -> Response:
        items = left.get(command.action)
        if not items:
            return (GOOD[command.action],)
        item = items.pop(0) if len(items) > 1 else items[0]
        return item if isinstance(item, tuple) else (item,)

    return play
