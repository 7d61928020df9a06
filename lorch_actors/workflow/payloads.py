"""How the orchestrator's own events are made and read back: a frozen struct each, wrapped into a wire event.

The id of such an event is derived from its cause. A payload that does not fit its shape reads as nothing, so that
folding stays total.
"""

from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import Struct

from lorch_actors.protocol.ids import system_message_id
from lorch_actors.protocol.messages import AgentType, Event, Sender
from lorch_actors.protocol.times import to_timestamp

SYSTEM: Final = Sender(agent_type=AgentType.SYSTEM)


class Payload(Struct, frozen=True, omit_defaults=True):
    """Base of all payloads; ``name`` is the event's name without ``system.``."""

    name: ClassVar[str] = ""


P = TypeVar("P", bound=Payload)


def event_of(payload: Payload, *, task_id: str, correlation_id: str, now_ms: int, cause: tuple[object, ...]) -> Event:
    """Wrap a payload into a wire event; the message id follows from name and cause alone. ``now_ms``: since epoch."""
    return Event(
        message_id=system_message_id(payload.name, *(str(part) for part in cause)),
        correlation_id=correlation_id,
        task_id=task_id,
        sender=SYSTEM,
        event=f"system.{payload.name}",
        payload=msgspec.to_builtins(payload),
        occurred_at=to_timestamp(now_ms),
    )


def payload_of(event: Event, kind: type[P]) -> P | None:
    """Return the event's payload as ``kind``, or None when it does not have that shape."""
    try:
        return msgspec.convert(event.payload, kind)
    except msgspec.ValidationError:
        return None


def as_object(value: Struct) -> dict[str, Any]:
    """Return the struct as a JSON object."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found
