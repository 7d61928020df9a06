"""Agents under the scheduler: processes with pipes and a journal, which work as agreed or in one of many other ways.

A `Script` says what the right answers are; how an agent goes wrong is drawn for each delivery. Its journal is on a disk
of its own, so it survives everything; a repeated key is answered from it, as agents have to.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from oracle import Violation
from scheduler import Alarm, Scheduler

from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.times import to_timestamp

WAYS = (
    "dies unread",
    "dies at work",
    "dies after the answer",
    "dies amid the answer",
    "falls silent",
    "never answers",
    "closes its output",
    "answers invalidly",
    "answers with an error",
    "asks to wait",
    "does not read",
)
"""How a delivery is lost. What is only odd and loses nothing is drawn apart."""
ODD = ("prints garbage", "answers twice", "answers late", "answers for another", "repeats an old answer", "talks")
HEARTBEAT_MS = 10_000
ARTIFACT = {"path": "src/a.txt", "sha256": "sha256:" + "0" * 64, "size": 1}


def agreed(answers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return for each ``action round`` what the right answer is, with the given ones in the place of the usual."""
    passed = {"event": "builder.completed", "payload": {"tests": {"status": "pass"}}, "artifacts": [ARTIFACT]}
    usual: dict[str, dict[str, Any]] = {
        "implement": passed,
        "implement_changes": passed,
        "review": {"event": "review.completed", "status": "approved", "artifacts": [ARTIFACT]},
        "update_spec": {"event": "spec.updated"},
    }
    others: dict[str, dict[str, Any]] = {
        "changes": {"event": "review.completed", "status": "changes_requested", "payload": {"findings": ["x"]}},
        "spec changes": {"event": "spec.changes_requested", "payload": {"why": "y"}},
        "tests fail": {"event": "builder.completed", "payload": {"tests": {"status": "fail", "summary": "z"}}},
    }
    return usual | {step: others[word] for step, word in answers.items()}


@dataclass
class Journal:
    """What agents did. finished: outcomes by key. started: every execution, in order."""

    started: list[str] = field(default_factory=list)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)


def raise_later(scheduler: Scheduler, told: str) -> None:
    """Have this found wrong when the turn is over: raised here, an actor would take it for its own."""
    scheduler.broken = scheduler.broken or Violation(told)


class SimulatedAgents:
    """Starts agents. ``way``: asked at each delivery how it goes; ``on_delivery``: told each command that is read."""

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal,
        answers: dict[str, dict[str, Any]],
        way: Callable[[str], str],
        on_delivery: Callable[[dict[str, Any], str], object],
    ) -> None:
        self.scheduler = scheduler
        self.journal = journal
        self.answers = answers
        self.way = way
        self.on_delivery = on_delivery
        self.alive: dict[int, SimulatedAgent] = {}
        self.unreleased: set[SimulatedAgent] = set()
        self.last: dict[str, SimulatedAgent] = {}  # the last one of each role
        self._outputs: dict[int, tuple[SimulatedAgent, bytearray]] = {}
        self._fd = 100
        scheduler.runtime.reactor.is_readable = self._is_readable  # type: ignore[attr-defined]

    def start(
        self, cmd: Sequence[str], *, workspace: str, env: Mapping[str, str], agent_id: str, owner: str
    ) -> "SimulatedAgent":
        if owner in self.last and not self.last[owner].escaped_are_gone:
            left = self.last[owner].agent_id
            raise_later(self.scheduler, f"{agent_id} is started while who escaped from {left} may live on")
        self._fd += 2
        agent = self.last[owner] = SimulatedAgent(self, owner, agent_id, self._fd)
        for fd, output in ((self._fd, agent.out), (self._fd + 1, agent.err)):
            self._outputs[fd] = (agent, output)
        self.alive[agent.stdout] = agent
        self.unreleased.add(agent)
        return agent

    def forget(self, agent: "SimulatedAgent") -> None:
        self.unreleased.discard(agent)
        for fd in (agent.stdout, agent.stderr):
            self.scheduler.runtime.reactor.unwatch(fd)
            self._outputs.pop(fd, None)

    def output(self, fd: int) -> tuple["SimulatedAgent", bytearray]:
        return self._outputs[fd]

    def _is_readable(self, fd: int) -> bool:
        agent, data = self._outputs.get(fd, (None, b""))
        return agent is not None and (bool(data) or agent.output_closed)


class SimulatedAgent:
    """One process; see ``agent_link.AgentLink``."""

    def __init__(self, host: SimulatedAgents, role: str, agent_id: str, fd: int) -> None:
        self.agent_id = agent_id
        self.role = role
        self.identity: ProcessIdentity | None = ProcessIdentity("simulated-boot", fd, fd)
        self.stdout = fd
        self.stderr = fd + 1
        self.out = bytearray()
        self.err = bytearray()
        self.output_closed = False
        self._host = host
        self._scheduler = host.scheduler
        self._in = bytearray()
        self._input_closed = False
        self._reads = True
        self._never_read = 0
        self._beats = True
        self._may_have_left_others = True
        self.escaped_are_gone = False
        self._ended: tuple[int | None, int | None] | None = None
        self._on_exit: Callable[[], object] | None = None
        self._alarms: list[Alarm] = []
        self._seq = 0
        self._answers: list[dict[str, Any]] = []
        self._later(self._pause_ms(300), self._beat)

    # -- for its actor ------------------------------------------------------------------------------------------

    def watch(self, on_exit: Callable[[], object]) -> None:
        self._on_exit = on_exit
        if self._ended is not None:
            self._scheduler.runtime.reactor.call_soon(on_exit, self.role)

    def read(self, output: int, size_bytes: int) -> bytes | None:
        _, data = self._host.output(output)
        if not data:
            return b"" if self.output_closed else None
        size = len(data) if self._scheduler.chance.random() < 0.8 else 1 + self._scheduler.draw(len(data))
        piece = bytes(data[:size])
        del data[:size]
        return piece

    @property
    def is_reading(self) -> bool:
        return self._reads or not self._in

    def write(self, data: bytes) -> bool:
        self._in += data
        self._scheduler.ready(self._take_input)
        return self.flush()

    def flush(self) -> bool:
        return self._ended is None and not self._input_closed

    def on_writable(self, callback: Callable[[], object]) -> None:
        return  # whoever does not read now never does

    def unread_bytes(self) -> int:
        return len(self.out)

    def unread_input_bytes(self) -> int:
        return self._never_read if self._input_closed else len(self._in)

    def close_stdin(self) -> None:
        if not self._input_closed:
            self._never_read = len(self._in)
            self._input_closed = True
            if self._reads:
                self._later(self._pause_ms(300), lambda: self.end(0, None))

    def terminate(self) -> None:
        if self._scheduler.chance.random() < 0.7:
            self.end(None, signal.SIGTERM)

    def end_tree(self) -> None:
        self._may_have_left_others = False
        self.end(None, signal.SIGKILL)

    def reap(self) -> tuple[int | None, int | None]:
        if self._may_have_left_others:
            raise_later(self._scheduler, f"{self.agent_id} is said to have ended while what it started may live on")
        return self._ended or (None, None)

    def end_escaped(self) -> None:
        self.escaped_are_gone = True

    def release(self) -> None:
        self.close_stdin()
        self._host.forget(self)

    # -- the process --------------------------------------------------------------------------------------------

    def end(self, code: int | None, number: int | None) -> None:
        """Be gone."""
        if self._ended is not None:
            return
        self._scheduler.tell(f"{self.agent_id} ends: code {code}, signal {number}")
        self._ended = (code, number)
        del self._host.alive[self.stdout]
        for alarm in self._alarms:
            alarm.cancel()
        self._close_output()
        if self._on_exit is not None:
            self._scheduler.runtime.reactor.call_soon(self._on_exit, self.role)

    def _close_output(self) -> None:
        self.output_closed = True
        for fd in (self.stdout, self.stderr):
            self._scheduler.runtime.reactor.look(fd)  # type: ignore[attr-defined]

    def _take_input(self) -> None:
        while self._ended is None and self._reads and (end := self._in.find(b"\n")) >= 0:
            line = bytes(self._in[:end])
            way = self._host.way(self.role)
            if way == "dies unread":
                self.end(None, signal.SIGKILL)
            elif way == "does not read":
                self._reads = False
            else:
                del self._in[: end + 1]
                self._begin(msgspec.json.decode(line), way)

    def _begin(self, command: dict[str, Any], way: str) -> None:
        if way:
            self._scheduler.tell(f"{self.agent_id} {way}")
        self._host.on_delivery(command, self.agent_id)
        if way == "talks":
            for number in range(3):
                self._say(self._event(command, "artifact.produced", {"payload": {"n": number}}))
        if way == "prints garbage":
            self.out += b'not json\n{"kind":"event"}\n\n\xff\xfe\n' + b"x" * 300 + b"\n"
        if way == "answers for another":
            other = {**command, "correlation_id": "c-0000000000000000"}
            self._say(self._event(other, **self._right(command)))
        if way == "repeats an old answer" and self._answers:
            self._say(self._answers[0])
        delay_ms = 40_000 if way == "answers late" else self._pause_ms(900)
        self._later(delay_ms, lambda: self._work(command, way))

    def _work(self, command: dict[str, Any], way: str) -> None:
        journal, key = self._host.journal, command["idempotency_key"]
        if way in ("falls silent", "never answers"):
            self._beats = way == "never answers"
            return
        if way == "closes its output":
            self._close_output()
            return
        known = journal.finished.get(key)
        if known is None:
            journal.started.append(key)
            if way == "dies at work":
                self.end(1, None)
                return
            if way == "answers with an error":
                self._say(self._event(command, "error", {"payload": {"code": "x", "message": "m", "retryable": True}}))
                return
            if way == "asks to wait":
                self._say(self._event(command, "error", {"payload": {"code": "rate_limited", "retry_after_s": 20}}))
                return
            journal.finished[key] = known = self._right(command)
        self._answer(command, known, way)

    def _answer(self, command: dict[str, Any], outcome: dict[str, Any], way: str) -> None:
        answer = self._event(command, **outcome)
        self._answers.append(answer)
        if way == "answers invalidly":
            self._say({**answer, "occurred_at": 7})
        elif way == "dies amid the answer":
            data = msgspec.json.encode(answer)
            self.out += data[: len(data) // 2]
            self.end(None, signal.SIGKILL)
        else:
            for _ in range(2 if way == "answers twice" else 1):
                self._say(answer)
            if way == "dies after the answer":
                self.end(None, signal.SIGSEGV)

    def _right(self, command: dict[str, Any]) -> dict[str, Any]:
        step = f"{command['action']} {command['inputs']['round']}"
        return self._host.answers.get(step) or self._host.answers[command["action"]]

    def _event(self, command: dict[str, Any], event: str, more: dict[str, Any] | None = None, **rest: Any) -> Any:
        self._seq += 1
        return {
            "kind": "event",
            "message_id": f"{self.agent_id}:{self._seq}",
            "correlation_id": command["correlation_id"],
            "task_id": command["task_id"],
            "from": {"agent_type": self.role, "agent_id": self.agent_id},
            "event": event,
            "occurred_at": to_timestamp(self._scheduler.wall_ms()),
            **(more or {}),
            **rest,
        }

    def _say(self, message: dict[str, Any]) -> None:
        if not self.output_closed:
            self.out += msgspec.json.encode(message) + b"\n"
            self._scheduler.runtime.reactor.look(self.stdout)  # type: ignore[attr-defined]

    def _beat(self) -> None:
        if self._ended is None and self._beats:
            now = to_timestamp(self._scheduler.wall_ms())
            self._seq += 1
            self._say(
                {
                    "kind": "heartbeat",
                    "agent": {"agent_type": self.role, "agent_id": self.agent_id},
                    "seq": self._seq,
                    "status": "ready",
                    "pid": self.stdout,
                    "uptime_s": 1,
                    "last_activity_at": now,
                }
            )
            self._later(HEARTBEAT_MS, self._beat)

    def _pause_ms(self, longest_ms: int) -> int:
        """Return how long something takes: most often next to nothing."""
        return self._scheduler.draw(longest_ms if self._scheduler.chance.random() < 0.2 else 10)

    def _later(self, delay_ms: int, deed: Callable[[], object]) -> None:
        def due() -> None:
            if self._ended is None:
                self._scheduler.run_as(self.agent_id, deed)

        self._alarms.append(self._scheduler.call_at(self._scheduler.now_ms + delay_ms, due))
