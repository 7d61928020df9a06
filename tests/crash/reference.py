"""The reference run: two tasks with review and spec rounds, on one thread, with everything that touches a disk real.

A `Reference` stands over a workspace. `play` does what an orchestrator does from the lock to the closing lines, with
the run's own tree of actors; only the agents are scripted here, in the place of their actors, with the journal of the
real ones. It is played again over what a crash has left, as a restarted orchestrator does.
"""

import itertools
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec
from one_thread import OneThread, SilentLink
from tampering import Death

from lorch_actors.actors import ring
from lorch_actors.actors.agent import ENDING_EVENTS
from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.child import ChildSpec, child
from lorch_actors.actors.messages import Call
from lorch_actors.actors.opening import Opening, Settled
from lorch_actors.actors.request import RunRequest
from lorch_actors.actors.resuming import open_run
from lorch_actors.actors.ring import LEDGER, Append, Appended, EndAgent, StartAgent, Subscribe, Subscribed
from lorch_actors.actors.run_tree import RunTree
from lorch_actors.actors.tree import start_tree
from lorch_actors.agents import files
from lorch_actors.agents.journal import Journal, Outcome
from lorch_actors.errors import StorageError
from lorch_actors.protocol.configuration import parse_configuration
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import AgentType, Command, Entry, Event, Sender
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.records.rebuild import complete, complete_finished
from lorch_actors.storage import locks
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.system import AgentExited, AgentStarted

RUN_ID = "run-20260101-000000-0000abcd"
START_MS = 1_767_225_600_000
WORK_MS = 70
"""How long an agent works: so that some of what happens in a step comes before the next flush, and some after."""

FRESH = itertools.count(1)
"""Numbers processes; a forked recovery goes on counting, so that no incarnation bears the name of another."""

TASKS = ("T-1", "T-2")
ANSWERS: dict[tuple[str, int], dict[str, Any]] = {
    ("review", 1): {"event": "review.completed", "status": "changes_requested", "payload": {"findings": ["rename it"]}},
    ("update_spec", 2): {"event": "spec.changes_requested", "payload": {"why": "not as specified"}},
}
USUAL: dict[str, dict[str, Any]] = {
    "implement": {"event": "builder.completed", "payload": {"tests": {"status": "pass"}}},
    "review": {"event": "review.completed", "status": "approved"},
    "update_spec": {"event": "spec.updated"},
}
USUAL["implement_changes"] = USUAL["implement"]
STEPS = ("implement", "review", "implement_changes", "review", "update_spec")
STEPS += ("implement_changes", "review", "update_spec")
SHORT = ("S-1",)
"""A task that is done at the first try: every kind of call in half as many."""


def steps_of(task_id: str) -> tuple[str, ...]:
    """Return the actions that a task takes, in order."""
    return ("implement", "review", "update_spec") if task_id in SHORT else STEPS


@cache
def configuration(tasks: tuple[str, ...]) -> Any:
    """Return the configuration of a run of these tasks."""
    agents = {role: {"cmd": ["true"]} for role in ("builder", "reviewer", "spec_maintainer")}
    declared = [{"id": task_id, "goal": f"do {task_id}"} for task_id in tasks]
    document = {"version": "1.0", "policy": {"git": "off"}, "agents": agents, "tasks": declared}
    return parse_configuration(msgspec.json.encode(document), "lorch.json")[0]


class ScriptedAgent(Actor):
    """In the place of an agent's actor: its process is a pause, its work a file and two lines in the journal."""

    def __init__(self, context: ActorContext, *, reference: "Reference") -> None:
        super().__init__(context)
        self._reference = reference
        self._agent_id = ""
        self._journal: Journal | None = None
        self._retired = False

    def started(self) -> None:
        self.tell(LEDGER, Subscribe(self.name, self._wants))

    def receive(self, message: Any) -> None:
        match message:
            case StartAgent(role) if not self._agent_id and not self._retired:
                self._agent_id = f"{role}-{next(FRESH):08x}"
                self._note(AgentStarted(role, self._agent_id))
            case Appended(entries):
                for entry in entries:
                    self._hear(entry.message)
            case EndAgent():
                self._retired = True
                self._exit()
            case StartAgent() | Subscribed():
                pass
            case _:
                super().receive(message)

    def stopping(self) -> None:
        self._exit()

    def cleanup(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _wants(self, entry: Entry) -> bool:
        message = entry.message
        if isinstance(message, Command):
            return message.to.agent_type == self.name
        return isinstance(message, Event) and message.event in ENDING_EVENTS

    def _hear(self, message: Any) -> None:
        if not isinstance(message, Command):
            if (message.payload or {}).get("agent_id") == self._agent_id:
                self._exit()
        elif message.to.agent_id == self._agent_id:
            self._say("builder.progress" if self.name == "builder" else "artifact.produced", message, urgent=False)
            agent_id = self._agent_id
            self.tell_later(WORK_MS, Call(lambda: self._work(message, agent_id)))

    def _work(self, command: Command, agent_id: str) -> None:
        if agent_id != self._agent_id:
            return  # its process has ended
        try:
            outcome = self._answer(command)
        except (StorageError, Death):
            self.cleanup()
            self._exit(1, "")  # so ends an agent that cannot write
            return
        self._say(outcome.event, command, outcome)

    def _answer(self, command: Command) -> Outcome:
        root = self._reference.root
        if self._journal is None:
            self._journal = Journal(root / "state" / "agents" / f"{self.name}.journal.ndjson", self.now_ms)
        key = command.idempotency_key
        outcome = self._journal.answer(key, root)
        if outcome is None:
            self._journal.started(command)
            outcome = self._outcome(command)
            self._journal.finished(key, outcome)
        return outcome

    def _outcome(self, command: Command) -> Outcome:
        round_ = command.inputs["round"]
        said = USUAL[command.action]
        if command.task_id not in SHORT:
            said = ANSWERS.get((command.action, round_), said)
        artifacts = None
        if self.name != "spec_maintainer":
            folder = "src" if self.name == "builder" else "reviews"
            path = f"{folder}/{command.task_id}-{command.action}-{round_}.txt"
            artifacts = [files.write(self._reference.root, path, f"{command.task_id} {round_}\n".encode())]
        return Outcome(**said, artifacts=artifacts)

    def _say(self, event: str, command: Command, outcome: Outcome | None = None, *, urgent: bool = True) -> None:
        told = Event(
            message_id=f"{self._agent_id}:{next(FRESH)}",
            correlation_id=command.correlation_id,
            task_id=command.task_id,
            sender=Sender(AgentType(self.name), self._agent_id),
            event=event,
            status=outcome.status if outcome else None,
            payload=outcome.payload if outcome else None,
            artifacts=outcome.artifacts if outcome else None,
            occurred_at=to_timestamp(self.runtime.clock.wall_ms()),
        )
        self.tell(LEDGER, Append(told, origin=self.name, urgent=urgent))

    def _exit(self, code: int = 0, why: str = "it was ended") -> None:
        if self._agent_id:
            self._note(AgentExited(self.name, self._agent_id, code, None, why))  # type: ignore[arg-type]
            self._agent_id = ""

    def _note(self, note: Payload) -> None:
        agent_id = self._agent_id
        event = event_of(
            note, task_id=RUN_ID, correlation_id=RUN_ID, now_ms=self.runtime.clock.wall_ms(), cause=(agent_id,)
        )
        self.tell(LEDGER, Append(event))


class Witness(Actor):
    """Remembers what was acknowledged first under each number: every entry that the ledger tells its subscribers of."""

    def __init__(self, context: ActorContext, *, acknowledged: dict[int, str]) -> None:
        super().__init__(context)
        self._acknowledged = acknowledged

    def started(self) -> None:
        self.tell(LEDGER, Subscribe(self.name))

    def receive(self, message: Any) -> None:
        match message:
            case Appended(entries):
                for entry in entries:
                    self._acknowledged.setdefault(entry.seq, entry.chain)
            case Subscribed(position) if position.seq:
                self._acknowledged.setdefault(position.seq, position.chain)


class _Tree(RunTree, frozen=True, kw_only=True):
    """The run's tree, with scripted agents and a witness."""

    reference: "Reference"

    def _agent(self, role: Any, inherited: dict[str, str]) -> ChildSpec:
        return child(ScriptedAgent, role, reference=self.reference)

    def _projections(self) -> list[ChildSpec]:
        return [*super()._projections(), child(Witness, "witness", acknowledged=self.reference.acknowledged)]


@dataclass
class Reference:
    """A workspace with the reference run in it, begun or not."""

    root: Path
    tasks: tuple[str, ...] = TASKS
    acknowledged: dict[int, str] = field(default_factory=dict)
    now_ms: int = START_MS
    plays: int = 0

    def make(self) -> "Reference":
        """Make the workspace with what a user has in it."""
        for name in ("src", "specs"):
            (self.root / name).mkdir(parents=True)
        (self.root / "specs" / "goal.md").write_text("# Goal\n")
        return self

    @cached_property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @cached_property
    def ledger(self) -> Path:
        return self.workspace.ledger(RUN_ID)

    def play(self) -> str:
        """Do what an orchestrator does; return how it ended: a status, ``over`` or why it was interrupted."""
        workspace = self.workspace
        workspace.prepare()
        link = SilentLink(RUN_ID, str(self.root), self.plays or int(self.ledger.exists()))
        process = ProcessRef("boot", 1, next(FRESH))
        self.plays += 1
        self.now_ms += 1000
        with locks.hold(workspace.lock, locks.this_process(RUN_ID, to_timestamp(self.now_ms))):
            workspace.remove_leftovers()
            opening = open_run(self._request(), link, workspace, RUN_ID, process)  # type: ignore[arg-type]
            if isinstance(opening, Settled) or not opening.loaded.run.started:
                complete_finished(workspace)
            if isinstance(opening, Settled):
                return "over"
            return self._play(opening, process, link)

    def _request(self) -> RunRequest:
        chosen = configuration(self.tasks)
        return RunRequest(self.root, self.root / "lorch.json", chosen, tasks=chosen.tasks, run_id=RUN_ID, quiet=True)

    def _play(self, opening: Opening, process: ProcessRef, link: SilentLink) -> str:
        loop = OneThread(self.now_ms)
        at = to_timestamp(self.now_ms)
        plan = _Tree(self.workspace, opening, process, at, link, None, reference=self)  # type: ignore[arg-type]
        heard: list[Any] = []
        loop.runtime.directory.register(ring.MAIN, _Heard(heard))
        try:
            tree = start_tree(loop.runtime, plan.root())
            loop.run_until(lambda: heard or tree._ended.is_set())
            ended = _ended(heard[0]) if heard else f"interrupted: {tree.wait(0)}"
            tree.stop()
            loop.run_until(tree._ended.is_set)
        finally:
            self.now_ms = loop.wall_ms()
            loop.close()
        if not ended.startswith("interrupted"):
            complete(self.workspace, RUN_ID)
        return ended


class _Heard:
    """The inbox of the main thread."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    def tell(self, message: Any) -> None:
        self._heard.append(message)


def _ended(message: Any) -> str:
    match message:
        case ring.Finished(run):
            return str(run.status)
        case ring.Broken(code, told):
            return f"interrupted: {code}: {told}"
    return f"interrupted: {message}"


def journals(root: Path) -> list[dict[str, Any]]:
    """Return the lines of all agents' journals that can be read, role by role."""
    found = []
    for path in sorted((root / "state" / "agents").glob("*.journal.ndjson")):
        for line in path.read_bytes().splitlines():
            try:
                found.append(msgspec.json.decode(line))
            except msgspec.DecodeError:  # torn by a crash
                continue
    return found


def is_completed(status: str) -> bool:
    """Tell whether a play came to the good end, in this orchestrator or in one before."""
    return status in {RunStatus.COMPLETED, "over"}
