"""What has to hold, whatever happens: watched from outside, at the disk, at the agents and at the supervisors."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from lorch_actors.actors.ring import RUN_SUPERVISOR
from lorch_actors.protocol.messages import TERMINAL_EVENTS

ANSWERS = {name for name, roles in TERMINAL_EVENTS.items() if len(roles) == 1}
"""The answers that are no error: those that only one role may give."""

PERIOD_MS = 30_000
INTENSITY = 5


class Violation(AssertionError):  # noqa: N818 - it is what it says
    """A promise is broken."""


@dataclass
class Oracle:
    """Reads the ledger as it becomes durable and compares.

    keys: of all commands in the order of their first appearance. settled: keys whose artifacts were verified, or whose
    task was given up. progress: grows with every entry that is no heartbeat.
    """

    max_attempts: int = 3
    seen: bytearray = field(default_factory=bytearray)
    seq: int = 0
    chain: str = ""
    ids: set[str] = field(default_factory=set)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    progress: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    _orchestrator: int = 0
    _read: dict[str, tuple[int, int]] = field(default_factory=dict)
    _waiting: set[str] = field(default_factory=set)
    _by_correlation: dict[str, str] = field(default_factory=dict)
    _events: dict[int, str] = field(default_factory=dict)
    _restarts: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    _starts: set[tuple[str, int, str]] = field(default_factory=set)

    # -- at the disk --------------------------------------------------------------------------------------------

    def synced(self, data: bytearray) -> None:
        """Take what the ledger holds for certain now."""
        known = len(self.seen)
        if not data.startswith(self.seen):
            raise Violation(f"the ledger lost or changed something that was synced, before byte {known}")
        fresh = bytes(data[known:])
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self.seen += whole
        for line in whole.splitlines():
            self.entry(msgspec.json.decode(line))

    def entry(self, entry: dict[str, Any]) -> None:
        self.seq += 1
        if entry["ledger"]["seq"] != self.seq:
            raise Violation(f"entry {self.seq} has the number {entry['ledger']['seq']}")
        self.chain = entry["ledger"]["chain"]
        kind = entry["kind"]
        if kind in ("heartbeat", "log"):
            return
        self.progress += 1
        self.last = entry
        is_ours = kind == "command" or entry["from"]["agent_type"] == "system"
        if is_ours:
            if entry["message_id"] in self.ids:
                raise Violation(f"{entry['message_id']} is in the ledger twice")
            self.ids.add(entry["message_id"])
        if kind == "command":
            self._command(entry)
        else:
            self._event(entry)

    def _command(self, command: dict[str, Any]) -> None:
        key = command["idempotency_key"]
        if key in self.settled:
            raise Violation(f"{command['action']} is ordered again after it was settled: {command['message_id']}")
        if command["retry"]["attempt"] >= self.max_attempts:
            raise Violation(f"{command['message_id']} is attempt {command['retry']['attempt']}, counted from 0")
        pending = [other for other in self.keys if other not in self.settled and other != key]
        if pending:
            raise Violation(f"{command['message_id']} is ordered while {self.keys[pending[0]]} is not settled")
        self.commands[command["message_id"]] = command
        self.keys.setdefault(key, f"{command['task_id']} {command['action']} {command['inputs']['round']}")
        self._by_correlation[command["correlation_id"]] = key

    def _event(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if not name.startswith("system."):
            self._events[self.seq] = event["correlation_id"]
            self._answer(event)
        elif name == "system.artifacts_verified":
            answered = self._events[event["payload"]["event_seq"]]
            self.settled.add(self._by_correlation[answered])
        elif name == "system.agent_lost" or event.get("payload", {}).get("ours"):  # a fault of ours costs no attempt
            self._waiting.update(key for key in self.keys if key not in self.settled)
        elif name == "system.command_failed":
            self.failures.append(event["payload"])
            self.settled.update(self.keys)

    def _answer(self, event: dict[str, Any]) -> None:
        """See whether an event settles its command by itself: it is an answer that claims no files."""
        key = self._by_correlation.get(event["correlation_id"])
        if key is not None and "retry_after_s" in event.get("payload", {}):
            self._waiting.add(key)
        if key is None or event["event"] not in ANSWERS or event.get("artifacts"):
            return
        latest = [one for one in self.commands.values() if one["idempotency_key"] == key][-1]
        if latest["to"]["agent_id"] == event["from"]["agent_id"]:
            self.settled.add(key)

    # -- at the agents ------------------------------------------------------------------------------------------

    def at_agent(self, command: dict[str, Any], agent_id: str) -> None:
        """Take a command that an agent has read."""
        known = self.commands.get(command["message_id"])
        if known is None:
            raise Violation(f"{command['message_id']} reached {agent_id} and is not on the disk")
        if known["to"].get("agent_id") != agent_id:
            raise Violation(f"{command['message_id']} reached {agent_id} and is for {known['to']}")
        if command["message_id"] in self.delivered:
            raise Violation(f"{command['message_id']} reached agents twice")
        if command["idempotency_key"] in self.settled:
            raise Violation(f"{command['action']} is done again after it was settled: {command['message_id']}")
        self.delivered.add(command["message_id"])
        self._attempt(command)

    def _attempt(self, command: dict[str, Any]) -> None:
        """See that a delivery which an agent had read, and which was lost, has cost an attempt."""
        key, attempt = command["idempotency_key"], command["retry"]["attempt"]
        before = self._read.get(key)
        is_lost = before is not None and before[0] == self._orchestrator and key not in self._waiting
        if before is not None and is_lost and attempt <= before[1]:
            raise Violation(f"{command['action']} is delivered again as attempt {attempt}, which was lost before")
        self._waiting.discard(key)
        self._read[key] = (self._orchestrator, attempt)

    # -- at the supervisors -------------------------------------------------------------------------------------

    def new_orchestrator(self, nth: int) -> None:
        """Begin to count anew: supervisors of another process have windows of their own, and losses cost nothing."""
        self._orchestrator = nth
        self._restarts.clear()
        self._starts.clear()

    def started(self, name: str, supervisor: str, incarnation: int, now_ms: int) -> None:
        """Take the start of a child of that incarnation of a supervisor; all but its first are restarts."""
        child = (supervisor, incarnation, name)
        if child in self._starts:
            self.restarted(name, supervisor, incarnation, now_ms)
        self._starts.add(child)

    def restarted(self, name: str, supervisor: str, incarnation: int, now_ms: int) -> None:
        """Take a restart. A group that is restarted together counts once: there, each name is counted for itself."""
        group = name if supervisor == RUN_SUPERVISOR else ""
        recent = self._restarts.setdefault((supervisor, incarnation, group), [])
        recent.append(now_ms)
        while now_ms - recent[0] > PERIOD_MS:
            del recent[0]
        if len(recent) > INTENSITY:
            raise Violation(f"{supervisor} restarted {len(recent)} times within {PERIOD_MS} ms")
