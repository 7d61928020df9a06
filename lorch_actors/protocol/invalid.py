"""What is known of a line that is not a message: why, and what it seems to have been meant as."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

_MAX_CHARS: Final = 256


class MessageHead(Struct, frozen=True):
    """The few fields that tell what a broken line was meant to be; None where absent, not a string or overlong."""

    kind: str | None = None
    event: str | None = None
    correlation_id: str | None = None
    task_id: str | None = None
    agent_type: str | None = None


class InvalidLine(ValueError):  # noqa: N818 - it is the line that is invalid; the program is fine
    """A line that breaks the protocol.

    reason: one sentence for a person, bounded in length. head: what could still be read, when the line was an object.
    """

    def __init__(self, reason: str, head: MessageHead | None = None) -> None:
        self.reason = reason if len(reason) <= 2 * _MAX_CHARS else reason[: 2 * _MAX_CHARS] + "…"
        self.head = head
        super().__init__(self.reason)


def head_of(document: Mapping[str, Any]) -> MessageHead:
    """Return what the object says of itself, whatever else it holds."""
    sender = document.get("from")
    role = sender.get("agent_type") if isinstance(sender, Mapping) else None
    return MessageHead(
        kind=_short_text(document.get("kind")),
        event=_short_text(document.get("event")),
        correlation_id=_short_text(document.get("correlation_id")),
        task_id=_short_text(document.get("task_id")),
        agent_type=_short_text(role),
    )


def _short_text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _MAX_CHARS else None
