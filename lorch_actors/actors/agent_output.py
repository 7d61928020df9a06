"""What an agent's output means: which lines become entries, which only stand in its log.

A value per line, no I/O: the agent actor appends and writes. Nothing an agent prints can crash, hang or cost a later
line; what cannot be acted on is kept with the reason.
"""

from typing import Any, Final

from msgspec import Struct

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.framing import OversizeLine
from lorch_actors.protocol.messages import (
    MESSAGE_MAX_BYTES,
    TERMINAL_EVENTS,
    AgentRole,
    Command,
    Event,
    Heartbeat,
    Log,
    LogLevel,
    Message,
)
from lorch_actors.protocol.parse import InvalidLine, MessageHead, encode, parse_message
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.approvals import what_is_wrong
from lorch_actors.workflow.payloads import SYSTEM

QUOTE_MAX_BYTES: Final = MESSAGE_MAX_BYTES // 4
KEPT_MAX_CHARS: Final = 64 * 1024


class ToLedger(Struct, frozen=True):
    """Append this; ``urgent`` if somebody waits for it."""

    message: Message
    compact: bytes | None
    urgent: bool


class ToLog(Struct, frozen=True):
    """Keep this in the agent's log. ``bad``: it counts against policy.max_bad_lines; else it is a sign of life."""

    note: dict[str, Any]
    bad: bool = False


Heard = ToLedger | ToLog


class Listener(Struct):
    """Judges the lines of one incarnation.

    command: what it was last given. answered: it has sent a terminal event for it. events, remarks: how many other
    events about it so far, and how much else: signs of life, remarks for people, what is not acted on. Of either, what
    is more than ``max_events`` goes to the log only, so that no agent fills the ledger, whether it has work or not.
    """

    role: AgentRole
    redactor: Redactor
    any_checksum: bool
    max_events: int
    command: Command | None = None
    answered: bool = False
    events: int = 0
    remarks: int = 0

    def give(self, command: Command) -> None:
        """Note that this command goes to the agent now."""
        self.command = command
        self.answered = False
        self.events = 0
        self.remarks = 0

    def hear(self, line: bytes | OversizeLine, now_ms: int) -> list[Heard]:
        """Return what becomes of a line of standard output. ``now_ms``: since the epoch."""
        if isinstance(line, OversizeLine):
            head = self.redactor.bytes(line.head, is_cut=True).decode("utf-8", "replace")
            return [ToLog({"stream": "stdout", "oversize_bytes": line.size_bytes, "head": head}, bad=True)]
        try:
            message, compact = parse_message(line, any_checksum=self.any_checksum, redactor=self.redactor)
        except InvalidLine as error:
            return self._invalid(line, error, now_ms)
        match message:
            case Heartbeat():
                if message.agent.agent_type == self.role:
                    return [self._remark(message, compact)]
                return [self._foreign(message, f"a heartbeat of the {message.agent.agent_type}", now_ms)]
            case Log():
                return [self._remark(message, compact)]
            case Event():
                return self._event(message, compact, now_ms)
            case _:
                return [ToLog(self._quoted(line, "an agent does not send commands"), bad=True)]

    def _event(self, event: Event, compact: bytes, now_ms: int) -> list[Heard]:
        command = self.command
        if event.sender.agent_type != self.role:
            return [self._foreign(event, f"it calls itself {event.sender.agent_type}", now_ms)]
        if command is None or event.correlation_id != command.correlation_id or event.task_id != command.task_id:
            return [self._foreign(event, "it is about another command than the one under way", now_ms)]
        if self.role in TERMINAL_EVENTS.get(event.event, ()):
            self.answered = True
            return [ToLedger(event, compact, urgent=True)]
        if event.event in TERMINAL_EVENTS or event.event.startswith("system."):
            return [self._foreign(event, f"{event.event} is not for a {self.role} to send", now_ms)]
        if event.event == "approval.requested":
            # not one of those that may go to the log only: it wants an answer
            problem = what_is_wrong(event)
            return [self._foreign(event, problem, now_ms) if problem else ToLedger(event, compact, urgent=True)]
        self.events += 1
        if self.events > self.max_events:
            return [_one_too_many(compact)]
        return [ToLedger(event, compact, urgent=event.event != "builder.progress")]

    def _remark(self, message: Message, compact: bytes | None) -> Heard:
        self.remarks += 1
        if self.remarks > self.max_events:
            return _one_too_many(compact if compact is not None else encode(message))
        return ToLedger(message, compact, urgent=False)

    def _invalid(self, line: bytes, error: InvalidLine, now_ms: int) -> list[Heard]:
        heard: list[Heard] = [ToLog(self._quoted(line, error.reason), bad=True)]
        if self.command is not None and not self.answered and _is_its_answer(error.head, self.command, self.role):
            self.answered = True
            heard.append(ToLedger(invalid_event(self.command, error.reason, now_ms), None, urgent=True))
        return heard

    def _foreign(self, message: Message, reason: str, now_ms: int) -> Heard:
        """Return the log entry for a message that must not be acted on."""
        quoted = encode(message)
        fields: dict[str, Any] = {"agent": self.role, "reason": reason}
        if len(quoted) <= QUOTE_MAX_BYTES:
            fields["line"] = quoted.decode()
        else:
            fields |= {"size_bytes": len(quoted), "head": quoted[:1024].decode("utf-8", "replace")}
        note = Log(
            level=LogLevel.WARN,
            message=f"not acted on what the {self.role} sent: {reason}",
            fields=fields,
            timestamp=to_timestamp(now_ms),
        )
        return self._remark(note, None)

    def _quoted(self, line: bytes, reason: str) -> dict[str, Any]:
        text = self.redactor.bytes(line).decode("utf-8", "replace")
        note: dict[str, Any] = {"stream": "stdout", "reason": reason, "line": text[:KEPT_MAX_CHARS]}
        return note if len(text) <= KEPT_MAX_CHARS else note | {"size_bytes": len(line)}


def _one_too_many(compact: bytes) -> ToLog:
    return ToLog({"stream": "stdout", "reason": "policy.max_events_per_command", "line": compact.decode()})


def invalid_event(command: Command, reason: str, now_ms: int) -> Event:
    """Return our own `error` that stands for an answer which broke the protocol."""
    return Event(
        message_id=f"sys-invalid:{command.message_id}",
        correlation_id=command.correlation_id,
        task_id=command.task_id,
        sender=SYSTEM,
        event="error",
        payload={"code": FailureCode.INVALID_EVENT, "message": f"the answer is invalid: {reason}", "retryable": True},
        occurred_at=to_timestamp(now_ms),
    )


def _is_its_answer(head: MessageHead | None, command: Command, role: AgentRole) -> bool:
    return (
        head is not None
        and head.kind == "event"
        and role in TERMINAL_EVENTS.get(head.event or "", ())
        and head.correlation_id == command.correlation_id
        and head.agent_type in (role, None)
    )
