"""What an agent says about one command: any number of remarks, then exactly one outcome."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.agents import files
from lorch_actors.agents.approvals import Answer, Approvals
from lorch_actors.agents.journal import Journal, Outcome, outcome_of
from lorch_actors.agents.running import readable
from lorch_actors.agents.wire import LineTooLong
from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.messages import (
    MESSAGE_MAX_BYTES,
    TERMINAL_EVENTS,
    AgentRole,
    Artifact,
    Command,
    Event,
    Log,
    LogLevel,
)
from lorch_actors.protocol.parse import parse_message
from lorch_actors.protocol.times import to_timestamp

Claims = Iterable[Artifact | str]
"""Artifacts as claims, or as paths that are claimed as they are now."""

_TESTS_STATUS: Final = frozenset({"pass", "fail"})
_REVIEW_STATUS: Final = frozenset({"approved", "changes_requested"})


def now_ms() -> int:
    """Return the time of day in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def fresh_id() -> str:
    """Return an id for one message: agents never use one twice."""
    return os.urandom(16).hex()


class Voice(msgspec.Struct, frozen=True):
    """Who speaks, to where, from which workspace. send: sends one message, see `Outlet.send`."""

    role: AgentRole
    agent_id: str
    workspace: Path
    send: Callable[[msgspec.Struct | Mapping[str, Any]], bytes]

    def log(self, level: LogLevel, message: str, fields: dict[str, Any] | None = None) -> None:
        """Send a remark for people, shortened to what fits."""
        stamp = to_timestamp(now_ms())
        try:
            self.send(Log(level=level, message=message, fields=fields, timestamp=stamp))
        except LineTooLong:
            self.send(Log(level=level, message=message[:8192] + "…", timestamp=stamp))


class Reply:
    """The answer to one command. Methods that end the command may be called once in all; a second call is an error.

    Events are checked before they are sent; a ValueError says what breaks the protocol.
    """

    def __init__(
        self, voice: Voice, command: Command, journal: Journal | None = None, approvals: Approvals | None = None
    ) -> None:
        self.command = command
        self.workspace = voice.workspace
        self._voice = voice
        self._journal = journal
        self._approvals = approvals or Approvals()
        self._claims: dict[str, Artifact] = {}
        self.is_settled = False

    def log(self, message: str, *, level: LogLevel = LogLevel.INFO, **fields: Any) -> None:
        """Send a remark for people."""
        self._voice.log(level, message, fields or None)

    def progress(self, message: str = "", **payload: Any) -> None:
        """Tell how far the work is. Only a builder has an event for that; from other roles it is a log message."""
        if self._voice.role != "builder":
            self._voice.log(LogLevel.INFO, message, payload or None)
            return
        self.say("builder.progress", payload={"message": message, **payload} if message else payload)

    def ask(self, tool: str, given: Mapping[str, Any], *, message: str = "") -> Answer:
        """Ask for leave to use a tool with this input, and wait for the answer; may be called from any thread.

        Heartbeats go on meanwhile, and the deadline of the command stands still. Every request is answered within
        ``policy.approval_timeout_s``; when the run stops before, the agent ends here, without an outcome, and asks
        again when it gets the command again. message: words for whoever has to decide.
        """
        request_id = fresh_id()
        answer = self._approvals.expect(request_id)
        payload = {"request_id": request_id, "tool": tool, "input": dict(given)}
        document = self.document("approval.requested", payload=payload | ({"message": message} if message else {}))
        if (size_bytes := len(msgspec.json.encode(document))) > MESSAGE_MAX_BYTES:
            return Answer(is_allowed=False, reason=f"a request of {size_bytes} bytes cannot be asked for")
        checked(document)
        self._voice.send(document)
        return self._approvals.wait(answer)

    def artifact(self, path: str) -> Artifact:
        """Announce a file as it is now; it will be among the artifacts of the outcome. Raises PathRefused."""
        claim = files.claim(self.workspace, path)
        self.produced(claim)
        return claim

    def produced(self, claim: Artifact) -> None:
        """Announce a file whose checksum is known; it will be among the artifacts of the outcome."""
        self._claims[claim.path] = claim
        self.say("artifact.produced", payload={"path": claim.path}, artifacts=[claim])

    def completed(
        self, *, tests: Mapping[str, Any], artifacts: Claims = (), payload: Mapping[str, Any] | None = None
    ) -> None:
        """End a builder's command. tests: ``{"status": "pass"|"fail", "summary"?, "allowed_failures"?}``."""
        if tests.get("status") not in _TESTS_STATUS:
            raise ValueError(f"tests.status is {tests.get('status')!r}, allowed are 'pass' and 'fail'")
        self.finish("builder.completed", payload={**(payload or {}), "tests": dict(tests)}, artifacts=artifacts)

    def approved(self, summary: str = "", *, artifacts: Claims = (), **payload: Any) -> None:
        """End a review: the changes are good."""
        self._review("approved", summary, artifacts, payload)

    def changes_requested(self, summary: str, *, artifacts: Claims = (), **payload: Any) -> None:
        """End a review: the builder is to change something; `summary` and `payload` say what."""
        self._review("changes_requested", summary, artifacts, payload)

    def _review(self, status: str, summary: str, artifacts: Claims, payload: dict[str, Any]) -> None:
        self.finish("review.completed", status=status, payload={"summary": summary, **payload}, artifacts=artifacts)

    def spec_updated(self, summary: str = "", *, artifacts: Claims = (), **payload: Any) -> None:
        """End the spec work and the task: the specification says now what the code does."""
        self.finish("spec.updated", payload={"summary": summary, **payload}, artifacts=artifacts)

    def spec_no_changes_needed(self, summary: str = "", **payload: Any) -> None:
        """End the spec work and the task: the specification said so already."""
        self.finish("spec.no_changes_needed", payload={"summary": summary, **payload})

    def spec_changes_requested(self, summary: str, *, artifacts: Claims = (), **payload: Any) -> None:
        """End the spec work: the builder is to change something; `summary` and `payload` say what."""
        self.finish("spec.changes_requested", payload={"summary": summary, **payload}, artifacts=artifacts)

    def proposed_tasks(self, payload: Mapping[str, Any]) -> None:
        """End an intake or a discovery with ``plan_candidates`` and ``derived_tasks``."""
        self.finish("orchestration.proposed_tasks", payload=payload)

    def needs_clarification(self, payload: Mapping[str, Any]) -> None:
        """End an intake with questions to the user."""
        self.finish("orchestration.needs_clarification", payload=payload)

    def plan_conflict(self, payload: Mapping[str, Any]) -> None:
        """End an intake with plans that contradict each other."""
        self.finish("orchestration.plan_conflict", payload=payload)

    def error(
        self, code: str, message: str, *, retryable: bool = False, retry_after_s: float | None = None, **payload: Any
    ) -> None:
        """End the command without success. retry_after_s: wait that long, then send it again (rate limits)."""
        told = {"code": code, "message": message, "retryable": retryable, **payload}
        self.finish("error", payload=told if retry_after_s is None else told | {"retry_after_s": retry_after_s})

    def finish(
        self,
        event: str,
        *,
        status: str | None = None,
        payload: Mapping[str, Any] | None = None,
        artifacts: Claims = (),
    ) -> None:
        """End the command with this event. What was announced with `artifact` is claimed along with `artifacts`."""
        if self.is_settled:
            raise RuntimeError(f"the command has its outcome already; {event!r} would be a second one")
        if self._voice.role not in TERMINAL_EVENTS.get(event, ()):
            raise ValueError(f"a {self._voice.role} cannot end a command with {event!r}")
        given = [files.claim(self.workspace, a) if isinstance(a, str) else a for a in artifacts]
        claims = self._claims | {claim.path: claim for claim in given}
        document = self.document(event, status=status, payload=payload, artifacts=[*claims.values()] or None)
        if len(msgspec.json.encode(document)) > MESSAGE_MAX_BYTES:
            document = self.document("error", payload=_too_long(event))
        checked(document)
        self.settle(document)

    def again(self, outcome: Outcome) -> None:
        """End the command with what it came to earlier. What that has cost is marked: it may be counted already."""
        self.is_settled = True
        payload = outcome.payload
        usage = payload.get("usage") if payload else None
        if isinstance(usage, dict) and outcome.message_id is not None:
            payload = {**(payload or {}), "usage": {**usage, "told_by": outcome.message_id}}
        without = {name: value for name, value in (payload or {}).items() if name != "usage"} or None
        for told in (payload, outcome.payload, without):  # what it came to counts more than what it has cost
            document = self.document(outcome.event, status=outcome.status, payload=told, artifacts=outcome.artifacts)
            if len(msgspec.json.encode(document)) <= MESSAGE_MAX_BYTES:
                break
        else:
            document = self.document("error", payload=_too_long(outcome.event))
        self._voice.send(document)

    def say(
        self,
        event: str,
        *,
        status: str | None = None,
        payload: Mapping[str, Any] | None = None,
        artifacts: list[Artifact] | None = None,
    ) -> None:
        """Send an event that does not end the command. One that does not fit into a line becomes a warning."""
        if event in TERMINAL_EVENTS:
            raise ValueError(f"{event!r} ends a command: use `finish`")
        document = self.document(event, status=status, payload=payload, artifacts=artifacts)
        if (size_bytes := len(msgspec.json.encode(document))) > MESSAGE_MAX_BYTES:
            self._voice.log(LogLevel.WARN, f"left out a {event} of {size_bytes} bytes")
            return
        checked(document)
        self._voice.send(document)

    def document(
        self, event: str, *, status: str | None = None, payload: Any = None, artifacts: Any = None
    ) -> dict[str, Any]:
        """Return an event on this command as a plain object, unchecked and not sent.

        What a model or a program said may hold what no message may: there it becomes U+FFFD.
        """
        command = self.command
        document: dict[str, Any] = {
            "kind": "event",
            "message_id": fresh_id(),
            "correlation_id": command.correlation_id,
            "task_id": command.task_id,
            "from": {"agent_type": self._voice.role, "agent_id": self._voice.agent_id},
            "event": event,
        }
        optional = {"status": status, "payload": _sayable(payload), "artifacts": artifacts}
        document |= {name: value for name, value in optional.items() if value is not None}
        document["observed_version"] = {"snapshot_id": command.version.snapshot_id}
        document["occurred_at"] = to_timestamp(now_ms())
        return document

    def settle(self, document: Mapping[str, Any]) -> None:
        """Record and send a terminal event. What the orchestrator cannot accept is sent, but no outcome to remember."""
        outcome = outcome_of(document)
        if self._journal is not None and outcome is not None and is_acceptable(document):
            self._journal.finished(self.command.idempotency_key, outcome)
        self.is_settled = True
        self._voice.send(document)


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else readable(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return [_sayable(item) for item in value]
    if isinstance(value, Mapping):
        return {_sayable(name): _sayable(item) for name, item in value.items()}
    return value


def checked(document: Mapping[str, Any]) -> Event:
    """Return the event as the orchestrator will read it; raise ValueError (InvalidLine) if it would refuse it."""
    message, _ = parse_message(msgspec.json.encode(document))
    assert isinstance(message, Event)
    return message


def is_acceptable(document: Mapping[str, Any]) -> bool:
    """Tell whether a terminal event keeps the protocol, so that the orchestrator can settle a command with it."""
    try:
        event = checked(document)
    except InvalidLine:
        return False
    if event.sender.agent_type not in TERMINAL_EVENTS.get(event.event, ()):
        return False
    if event.event == "review.completed":
        return event.status in _REVIEW_STATUS
    if event.event == "builder.completed":
        tests = (event.payload or {}).get("tests")
        return isinstance(tests, Mapping) and tests.get("status") in _TESTS_STATUS
    return True


def _too_long(event: str) -> dict[str, Any]:
    return {
        "code": "message_too_long",
        "message": f"the {event} does not fit into one line of 256 KiB; larger content travels as a file",
        "retryable": False,
    }
