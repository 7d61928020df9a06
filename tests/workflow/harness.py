"""A whole run in memory: ledger, agents, snapshotter and git are a few pure lines each, and time is a number.

A `World` asks `decide` what to do, does it, and appends what comes of it, until the run is over. Whoever is stuck or
goes on for ever has failed: both raise. Agents answer what a script says, and keep a journal as real ones must.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from agent_scripts import ENDS, Ask, Exit, Response, Say, Script, playing
from looking import Looking

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import AgentType, Artifact, Command, Entry, Event, ObservedVersion, Sender
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.decide import decide
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.orders import (
    Append,
    AskOperator,
    BeginBranch,
    Capture,
    CheckDrift,
    Commit,
    Decision,
    Order,
    StartAgent,
    Verify,
)
from lorch_actors.workflow.parts import GitPlan
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.state import Moment, Run
from lorch_actors.workflow.system import (
    AgentExited,
    AgentStarted,
    AgentStartFailed,
    ApprovalAnswered,
    ArtifactsRejected,
    ArtifactsVerified,
    BranchCreated,
    CommitFailed,
    CommitMade,
    RunResumed,
    RunStarted,
    RunStopped,
    SnapshotCaptured,
    SnapshotFailed,
    WorkspaceDrift,
)

RUN_ID = "run-20260101-000000-0000abcd"
SNAPSHOT = "snap-00000000000a"
STEPS_MAX = 3000
FRESH = itertools.count(1)


@dataclass
class World(Looking):
    """One run and all that is around it. Times in milliseconds."""

    script: Script = field(default_factory=playing)
    tasks: tuple[dict[str, Any], ...] = ({"id": "T-1", "goal": "do it"},)
    policy: dict[str, Any] = field(default_factory=dict)
    git: GitPlan = field(default_factory=GitPlan)
    on_failure: str = "continue"
    broken: frozenset[str] = frozenset()
    no_room: int = 0  # so many starts fail because of the machine
    git_answers: list[str] = field(default_factory=list)  # "" is success, else why it failed; then all goes well
    snapshot_answers: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    agent_settings: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    run: Run = field(default_factory=lambda: Run(RUN_ID))
    wall_ms: int = 1_767_225_600_000
    steady_ms: int = 5_000_000
    draw: float = 0.5
    journal: dict[str, Say] = field(default_factory=dict)
    executions: Counter[str] = field(default_factory=Counter)
    keeps_journal: bool = False
    settled: list[str] = field(default_factory=list)
    alive: dict[str, str] = field(default_factory=dict)
    output: deque[tuple[str, str, Command | None, Say | Exit | Ask]] = field(default_factory=deque)
    orders_done: set[str] = field(default_factory=set)
    done: list[Order] = field(default_factory=list)
    operator: Callable[[AskOperator], str | None] = lambda _order: None  # "allow", "deny", None: nobody is there
    asking: dict[str, tuple[str, str, Command | None, Ask]] = field(default_factory=dict)
    before_step: Callable[["World"], None] | None = None

    # --- the ledger

    def append(self, message: Command | Event) -> Entry | None:
        """Append once by id, as the ledger does for commands and system messages; tell everybody concerned."""
        own = isinstance(message, Command) or message.sender.agent_type == "system"
        if own and any(entry.message.message_id == message.message_id for entry in self.entries):
            return None
        entry = Entry(len(self.entries) + 1, f"{len(self.entries):016x}", message, self.steady_ms)
        self.entries.append(entry)
        before = self.run.settled_count
        self.run = fold(self.run, entry)
        if self.run.settled_count > before:
            self.settled.append(self.run.last_settled.command.idempotency_key)
        self._hear(message)
        return entry

    def system(self, payload: Payload, *cause: object, task_id: str = RUN_ID, correlation_id: str = "") -> Entry | None:
        """Append one of our own events."""
        return self.append(
            event_of(
                payload,
                task_id=task_id,
                correlation_id=correlation_id or task_id,
                now_ms=self.wall_ms,
                cause=cause or (len(self.entries),),
            )
        )

    def agent_says(self, role: str, say: Say, command: Command | None, message_id: str = "") -> Entry | None:
        """Append an event of an agent about that command, under an id of its own unless one is given."""
        artifacts = [Artifact(path, "sha256:" + "0" * 64, 1434) for path in say.artifacts]
        return self.append(
            Event(
                message_id=message_id or f"{role}-{len(self.entries)}",
                correlation_id=say.correlation_id or (command.correlation_id if command else "none"),
                task_id=say.task_id or (command.task_id if command else "none"),
                sender=Sender(AgentType(say.role or role)),
                event=say.event,
                status=say.status,
                payload=say.payload,
                artifacts=artifacts or None,
                observed_version=ObservedVersion(say.snapshot_id) if say.snapshot_id else None,
                occurred_at=to_timestamp(self.wall_ms),
            )
        )

    def _hear(self, message: Command | Event) -> None:
        if isinstance(message, Command):
            role = message.to.agent_type
            if self.alive.get(role) == message.to.agent_id:
                self._work(role, message)
            return
        payload = message.payload or {}
        if message.event == "system.approval_answered" and payload["request_id"] in self.asking:
            role, agent, command, ask = self.asking.pop(payload["request_id"])
            item = ask.allowed if payload["decision"] == "allow" else ask.denied
            self.output.append((role, agent, command, item))
        enders = {"system.command_timed_out", "system.agent_hung", "system.retry_scheduled", "system.command_failed"}
        role = next((role for role, agent in self.alive.items() if agent == payload.get("agent_id")), None)
        if message.event in enders and role is not None:
            self.output.append((role, self.alive[role], None, Exit(None, 15)))

    def _work(self, role: str, command: Command) -> None:
        key = command.idempotency_key
        response: Response = (self.journal[key],) if key in self.journal else self.script(command)
        self.executions[key] += key not in self.journal
        for item in response:
            if self.keeps_journal and isinstance(item, Say) and item.event in ENDS:
                self.journal[key] = item
            self.output.append((role, self.alive[role], command, item))

    # --- carrying orders out

    def start(self) -> "World":
        """Append the run's first entry."""
        self.system(
            RunStarted(
                policy=self.policy,
                agents=self.agent_settings,
                task_count=len(self.tasks),
                tasks=list(self.tasks),
                git=self.git,
                on_failure=self.on_failure,
            ),
            RUN_ID,
        )
        return self

    def play(self, steps_max: int = STEPS_MAX) -> "World":
        """Go on until the run is over or stopped; raises AssertionError when it hangs or does not end."""
        for _ in range(steps_max):
            if self.run.status is not RunStatus.RUNNING or self.run.stopped is not None:
                return self
            if self.before_step is not None:
                self.before_step(self)
            self.step()
        raise AssertionError(f"still running after {steps_max} steps; last: {self.events()[-12:]}")

    def play_until(self, reached: Callable[["World"], bool]) -> "World":
        """Go on until something is so."""
        for _ in range(STEPS_MAX):
            if reached(self):
                return self
            self.step()
        raise AssertionError("never came")

    def step(self) -> None:
        """Carry out what is new among the orders; else let an agent speak; else let time pass."""
        decision = self.ask()
        before = len(self.entries), len(self.orders_done)
        for order in decision.orders:
            self._carry_out(order)
        if (len(self.entries), len(self.orders_done)) != before:
            return
        if self.output:
            self._let_speak()
        elif decision.wake_after_ms is not None:
            self.pass_time(decision.wake_after_ms)
        else:
            raise AssertionError(f"stuck with {decision} after {self.events()[-12:]}")

    def ask(self) -> Decision:
        """Return the decision; asked twice it has to be the same."""
        now = Moment(self.wall_ms, self.steady_ms)
        decision = decide(self.run, now, self.draw)
        assert decision == decide(self.run, now, self.draw)
        return decision

    def pass_time(self, ms: int) -> None:
        """Let time pass on both clocks."""
        self.wall_ms += ms
        self.steady_ms += ms

    def _let_speak(self) -> None:
        role, incarnation, command, item = self.output.popleft()
        if self.alive.get(role) != incarnation:
            return
        if isinstance(item, Ask):
            item_id = f"r-{next(FRESH)}"
            self.asking[item_id] = (role, incarnation, command, item)
            request = {"request_id": item_id, "tool": item.tool, "input": item.given}
            self.agent_says(role, Say("approval.requested", payload=request), command)
            return
        if isinstance(item, Say):
            self.agent_says(role, item, command)
            return
        late = [rest for rest in self.output if rest[1] == incarnation and isinstance(rest[3], Say)]
        for rest in late:
            self.output.remove(rest)
            self.agent_says(role, rest[3], rest[2])
        del self.alive[role]
        self.system(AgentExited(role, incarnation, item.code, item.signal, ours=item.ours), incarnation)

    def _carry_out(self, order: Order) -> None:
        if isinstance(order, Append):
            self.append(order.message)
            return
        if order.key in self.orders_done:
            return
        self.orders_done.add(order.key)
        self.done.append(order)
        _ANSWERS[type(order)](self, order)

    def _start_agent(self, order: StartAgent) -> None:
        name = f"{order.role}-{next(FRESH):08x}"
        if order.role in self.broken:
            self.system(AgentStartFailed(order.role, name, "no such command: frobnicate"), name)
            return
        if self.no_room > 0:
            self.no_room -= 1
            self.system(AgentStartFailed(order.role, name, "no room", transient=True), name)
            return
        assert order.role not in self.alive, "two processes of one role"
        self.alive[order.role] = name
        self.system(AgentStarted(order.role, name), name)

    def _capture(self, order: Capture) -> None:
        trouble = self.snapshot_answers.pop(0) if self.snapshot_answers else ""
        note = SnapshotFailed(trouble) if trouble else SnapshotCaptured(SNAPSHOT, 3)
        self.system(note, order.task_id, order.nth, task_id=order.task_id)

    def _check_drift(self, order: CheckDrift) -> None:
        self.system(WorkspaceDrift(0), order.nth, task_id=order.task_id)

    def _verify(self, order: Verify) -> None:
        trouble = self.verdicts.pop(0) if self.verdicts else ""
        seq = order.event_seq
        note = ArtifactsRejected(seq, "artifact_mismatch", trouble) if trouble else ArtifactsVerified(seq)
        self.system(note, "checked", seq, task_id=order.task_id, correlation_id=order.correlation_id)

    def _begin_branch(self, order: BeginBranch) -> None:
        trouble = self.git_answers.pop(0) if self.git_answers else ""
        note = CommitFailed("branch", trouble) if trouble else BranchCreated(order.branch, order.base)
        self.system(note, order.branch, len(self.entries))

    def _commit(self, order: Commit) -> None:
        trouble = self.git_answers.pop(0) if self.git_answers else ""
        made = CommitMade(order.purpose, "there", "c0ffee", 2)
        note = CommitFailed(order.purpose, trouble) if trouble else made
        self.system(note, order.key, task_id=order.task_id)

    def _ask_operator(self, order: AskOperator) -> None:
        said = self.operator(order)
        if said is not None:
            asked = (order.approval_id, order.role, order.agent_id, order.request_id)
            note = ApprovalAnswered(*asked, decision=said, by="operator")
            cause = (order.approval_id, order.agent_id)
            self.system(note, *cause, task_id=order.task_id, correlation_id=order.correlation_id)

    # --- disasters

    def crash(self, *, clean: bool = False, keep: int | None = None, **resume: Any) -> "World":
        """End the orchestrator and everything below it, keep so many entries, and resume."""
        if clean:
            self.system(RunStopped(self.run.resumes, "signal", "asked to stop"), self.run.resumes)
            for role, incarnation in self.alive.items():
                self.system(AgentExited(role, incarnation, None, 15), incarnation)
        self.refold(self.entries[:keep])
        self.alive.clear()
        self.output.clear()
        self.orders_done.clear()
        self.steady_ms = 1_000_000 + self.run.resumes
        self.wall_ms += 1000
        nth = self.run.resumes + 1
        first = {task.task_id: task.next_step for task in self.run.tasks.values()}
        self.system(RunResumed(nth, first, **resume), nth)
        return self

    def refold(self, entries: list[Entry]) -> None:
        """Forget the state and read it from the ledger again, as a new process does."""
        self.entries = [msgspec.structs.replace(entry, heard_ms=0) for entry in entries]
        self.run = Run(RUN_ID)
        self.settled = []
        for entry in self.entries:
            before = self.run.settled_count
            self.run = fold(self.run, entry)
            if self.run.settled_count > before:
                self.settled.append(self.run.last_settled.command.idempotency_key)


_ANSWERS: dict[type, Callable[[World, Any], None]] = {
    StartAgent: World._start_agent,
    Capture: World._capture,
    CheckDrift: World._check_drift,
    Verify: World._verify,
    BeginBranch: World._begin_branch,
    Commit: World._commit,
    AskOperator: World._ask_operator,
}


def played(script: Script | None = None, **given: Any) -> World:
    """Return a world whose run was played to its end."""
    return World(script=script or playing(), **given).start().play()
