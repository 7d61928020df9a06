"""The four messages of the wire protocol (SPEC §3) as typed, frozen values.

They are decoded and validated by msgspec in one pass; the JSON Schemas in ``lorch_actors/schemas/v1`` are generated
from these types, so both accept the same documents. Unknown top-level fields are rejected; what stands inside
``payload``, ``inputs`` and ``fields`` is kept as it came.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

MESSAGE_MAX_BYTES: Final = 262_144
"""Longest line on a pipe, without its newline (256 KiB)."""

# `$(?!\n)`: in Python `$` also matches before a last newline, in ECMA 262 it does not; so both mean the end.
TASK_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
CHECKSUM_PATTERN: Final = r"^sha256:[0-9a-f]{64}$(?!\n)"
TIMESTAMP_PATTERN: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)"
    r"(\.[0-9]+)?([Zz]|[+-]00:00)$(?!\n)"
)

Text = Annotated[str, Meta(min_length=1)]
TaskId = Annotated[str, Meta(pattern=TASK_ID_PATTERN)]
Checksum = Annotated[str, Meta(pattern=CHECKSUM_PATTERN)]
Timestamp = Annotated[str, Meta(pattern=TIMESTAMP_PATTERN)]
IdempotencyKey = Annotated[str, Meta(min_length=16)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e15)]  # bounded, so that no integer is too large for a double
Amount = Annotated[float, Meta(ge=0, le=1e15)]
Object = dict[str, Any]


class AgentType(StrEnum):
    """The roles. ``SYSTEM`` is the orchestrator itself, as the sender of its own events."""

    BUILDER = "builder"
    REVIEWER = "reviewer"
    SPEC_MAINTAINER = "spec_maintainer"
    ORCHESTRATION = "orchestration"
    SYSTEM = "system"


AgentRole = Literal["builder", "reviewer", "spec_maintainer", "orchestration"]
ROLES: Final[tuple[AgentRole, ...]] = ("builder", "reviewer", "spec_maintainer", "orchestration")


class Action(StrEnum):
    """What a command asks for."""

    IMPLEMENT = "implement"
    IMPLEMENT_CHANGES = "implement_changes"
    REVIEW = "review"
    UPDATE_SPEC = "update_spec"
    INTAKE = "intake"
    TASK_DISCOVERY = "task_discovery"


ROLE_OF_ACTION: Final[Mapping[Action, AgentRole]] = {
    Action.IMPLEMENT: "builder",
    Action.IMPLEMENT_CHANGES: "builder",
    Action.REVIEW: "reviewer",
    Action.UPDATE_SPEC: "spec_maintainer",
    Action.INTAKE: "orchestration",
    Action.TASK_DISCOVERY: "orchestration",
}

AGENT_EVENTS: Final = (
    "builder.progress",
    "builder.completed",
    "review.completed",
    "spec.updated",
    "spec.no_changes_needed",
    "spec.changes_requested",
    "orchestration.proposed_tasks",
    "orchestration.needs_clarification",
    "orchestration.plan_conflict",
    "artifact.produced",
    "approval.requested",
    "error",
)
EVENT_PATTERN: Final = "^(" + "|".join(e.replace(".", r"\.") for e in AGENT_EVENTS) + r"|system\.[a-z0-9_.]+)$(?!\n)"
EventName = Annotated[str, Meta(pattern=EVENT_PATTERN)]

TERMINAL_EVENTS: Final[Mapping[str, frozenset[AgentRole]]] = {
    "builder.completed": frozenset({"builder"}),
    "review.completed": frozenset({"reviewer"}),
    "spec.updated": frozenset({"spec_maintainer"}),
    "spec.no_changes_needed": frozenset({"spec_maintainer"}),
    "spec.changes_requested": frozenset({"spec_maintainer"}),
    "orchestration.proposed_tasks": frozenset({"orchestration"}),
    "orchestration.needs_clarification": frozenset({"orchestration"}),
    "orchestration.plan_conflict": frozenset({"orchestration"}),
    "error": frozenset(ROLES),
}
"""The events that end a command, and the roles that may send them."""


class _Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A closed object inside a message; fields that hold their default are not written."""


class Recipient(_Part, frozen=True):
    """Whom a command is for. ``agent_id`` names the incarnation, one process of that role."""

    agent_type: AgentRole
    agent_id: str | None = None


class Sender(_Part, frozen=True):
    """Whom an event is from."""

    agent_type: AgentType
    agent_id: str | None = None


class HeartbeatAgent(_Part, frozen=True):
    """Whom a heartbeat is from."""

    agent_type: AgentRole
    agent_id: str


class ExpectedOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a command has to leave behind. ``description`` is left out where there is none."""

    path: Text
    required: bool = True
    description: str | UnsetType = UNSET

    def as_object(self) -> Object:
        """Return the JSON object that stands in the command and enters the idempotency key."""
        given: Object = {"path": self.path, "required": self.required}
        return given if isinstance(self.description, UnsetType) else given | {"description": self.description}


class Version(_Part, frozen=True):
    """What a command is to be carried out on."""

    snapshot_id: Text
    specs_hash: str | None = None
    code_hash: str | None = None


class ObservedVersion(_Part, frozen=True):
    """What an agent says it worked on."""

    snapshot_id: str | None = None
    specs_hash: str | None = None
    code_hash: str | None = None


class Retry(_Part, frozen=True):
    """``attempt`` counts from 0."""

    attempt: Count
    max_attempts: Positive


class Artifact(_Part, frozen=True):
    """A file an agent claims to have written: path below the workspace, checksum, size in bytes."""

    path: Text
    sha256: Checksum
    size: Count

    @property
    def place(self) -> str:
        """The path, the same however it is spelled: without ``.`` and doubled slashes."""
        return "/".join(name for name in self.path.split("/") if name not in {"", "."})


class Stats(_Part, frozen=True):
    """Load of an agent process: percent of one core, bytes of resident memory."""

    cpu_pct: Seconds
    rss_bytes: Count


class BudgetLeft(_Part, frozen=True):
    """What may still be spent on a command: US dollars, and tokens (input and output together)."""

    usd: Amount | None = None
    tokens: Count | None = None


class Command(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="command", kw_only=True):
    """What the orchestrator asks of an agent. ``budget`` is there when the run has one."""

    message_id: Text
    correlation_id: Text
    task_id: TaskId
    idempotency_key: IdempotencyKey
    to: Recipient
    action: Action
    inputs: Object
    expected_outputs: list[ExpectedOutput] = field(default_factory=list)
    version: Version
    deadline: Timestamp
    retry: Retry
    priority: Count
    budget: BudgetLeft | UnsetType = UNSET


class Event(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="event", kw_only=True
):
    """What happened: sent by an agent, or written by the orchestrator as ``system``."""

    message_id: Text
    correlation_id: Text
    task_id: TaskId
    sender: Sender = field(name="from")
    event: EventName
    status: str | None = None
    payload: Object | None = None
    artifacts: list[Artifact] | None = None
    observed_version: ObservedVersion | None = None
    occurred_at: Timestamp


class HeartbeatStatus(StrEnum):
    """What an agent says it is doing."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    STOPPING = "stopping"
    BACKOFF = "backoff"


class Heartbeat(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="heartbeat", kw_only=True
):
    """An agent's sign of life."""

    agent: HeartbeatAgent
    seq: Count
    status: HeartbeatStatus
    pid: Positive
    ppid: int | None = None
    uptime_s: Seconds
    last_activity_at: Timestamp
    stats: Stats | None = None
    task_id: TaskId | None = None


class LogLevel(StrEnum):
    """How much a log message matters."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Log(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="log", kw_only=True
):
    """A remark for people."""

    level: LogLevel
    message: str
    fields: Object | None = None
    timestamp: Timestamp


Message = Command | Event | Heartbeat | Log


def own_event(message: Message) -> Event | None:
    """Return the message if it is an event that the orchestrator wrote, whatever others call theirs."""
    return message if isinstance(message, Event) and message.sender.agent_type is AgentType.SYSTEM else None


def own_id(message: Message) -> str | None:
    """Return the message id of what the orchestrator wrote, a command or an event; ids of agents tell nothing."""
    own = message if isinstance(message, Command) else own_event(message)
    return None if own is None else own.message_id


class Entry(Struct, frozen=True):
    """One line of the ledger after it became durable.

    seq: its number, from 1. chain: its link of the hash chain, 16 hex digits. message: what it says.
    heard_ms: when this process heard of it, on its steady clock, in milliseconds.
    """

    seq: int
    chain: str
    message: Message
    heard_ms: int = 0
