"""The state of a run: frozen values, replaced by `fold`, read by `decide` and by the projections.

Nothing in here grows with the ledger: finished tasks keep a summary, finished commands a receipt on disk.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from lorch_actors.protocol.configuration import Budget, Policy
from lorch_actors.protocol.documents import RunStatus, Stage, TaskStatus
from lorch_actors.protocol.messages import Action, AgentRole, Artifact, Command, Event, Object
from lorch_actors.workflow.parts import FailureNote, FileRef, GitPlan, ProcessRef

LOOP_ROLES: Final[tuple[AgentRole, ...]] = ("builder", "reviewer", "spec_maintainer")
RECEIPT_EVENTS_MAX: Final = 1000
RECEIPT_ID_MAX_CHARS: Final = 256
"""So many events a command, the last ones, and so much of their ids are kept: an agent chooses both."""


STAGE_OF: Final = {
    Action.IMPLEMENT: Stage.IMPLEMENT,
    Action.IMPLEMENT_CHANGES: Stage.IMPLEMENT,
    Action.REVIEW: Stage.REVIEW,
    Action.UPDATE_SPEC: Stage.SPEC_MAINTAIN,
    Action.INTAKE: Stage.INTAKE,
    Action.TASK_DISCOVERY: Stage.INTAKE,
}


class Moment(Struct, frozen=True):
    """Now: on the wall, in milliseconds since the epoch, and on this process's steady clock."""

    wall_ms: int
    steady_ms: int


class NotBefore(Struct, frozen=True):
    """A time to wait for: on the wall, and on the steady clock of the process that heard of it (None: another one).

    delay_ms: how long that was when it was decided.
    """

    wall_ms: int
    steady_ms: int | None = None
    delay_ms: int = 0

    def wait_ms(self, now: Moment) -> int:
        """Return how long is still to wait, in milliseconds; whichever clock is there first counts."""
        on_wall = self.wall_ms - now.wall_ms
        return max(0, on_wall if self.steady_ms is None else min(on_wall, self.steady_ms - now.steady_ms))


class Told(NamedTuple):
    """What surrounds a system event's payload; ``heard_ms`` on this process's steady clock, 0 when read from a file."""

    task_id: str
    correlation_id: str
    occurred_at: str
    heard_ms: int


class Step(Struct, frozen=True, omit_defaults=True):
    """What the task needs next. ``request``: what was asked, by whom; ``retry_of``: the key of a failed step."""

    action: Action
    round: int
    requested_by: str | None = None
    request: Object | None = None
    retry_of: str | None = None


class Loss(Struct, frozen=True, omit_defaults=True):
    """A delivery that came to nothing.

    fatal: no retry. wait_ms, until_ms: how long (or until when, since the epoch) the agent wants to be left alone; a
    loss with such a wish costs no attempt. account: whose limit it is, if the agent says so.
    """

    code: str
    message: str
    fatal: bool = False
    wait_ms: int | None = None
    until_ms: int | None = None
    account: str = ""

    @property
    def counted(self) -> bool:
        """Whether it uses up an attempt."""
        return self.wait_ms is None and self.until_ms is None


class Answer(Struct, frozen=True, omit_defaults=True):
    """The terminal event that answers the latest delivery, until its artifacts are verified.

    objection: what is wrong with it, until that stands in the ledger.
    """

    seq: int
    event: Event
    objection: Loss | None = None


class Limit(Struct, frozen=True, omit_defaults=True):
    """An account is not to be used for a while. role: who ran into it, with which code and words. since: RFC 3339."""

    until: NotBefore
    since: str
    role: str
    code: str
    message: str


class Spent(Struct, frozen=True, omit_defaults=True):
    """What has been spent: millionths of a US dollar, tokens, and time that was worked.

    commands: how many were sent. priced, counted: how many of them told their cost, and their tokens.
    """

    usd_micro: int = 0
    tokens: int = 0
    commands: int = 0
    priced: int = 0
    counted: int = 0
    work_ms: int = 0


class Approval(Struct, frozen=True, omit_defaults=True):
    """Leave that an agent has asked for and that is not answered yet; ``agent_id``: the process that asked.

    event_seq: the entry of its request. until, asked_at: since when, and until when, somebody is asked for it.
    """

    approval_id: str
    request_id: str
    agent_id: str
    event_seq: int
    tool: str
    input: Object = field(default_factory=dict)
    message: str = ""
    until: NotBefore | None = None
    asked_at: str | None = None


class Pending(Struct, frozen=True, omit_defaults=True):
    """A command without a settling event.

    command: as it was delivered first. deliveries: how often it stands in the ledger. deadline: of the latest delivery,
    RFC 3339. delivered_to: the incarnation that has it now. delivered_ms: since when its deadline counts, on the steady
    clock. attempt: attempts used up. waits, waited_ms: number and sum of the waits its agents asked for. deaths:
    unclean ends of the orchestrator while an agent had it, without any event of that agent. loss: what became of the
    latest delivery, until it is decided what to do about it. counted: what it has cost was told and is counted.

    approvals: what was asked for and not answered, by id; also by processes that are gone. asked: how often the same
    was asked for in this delivery. decided: what a person has allowed and denied. paused_at_ms: since when the clock
    of the deadline stands still, 0 when it does not.
    """

    command: Command
    deliveries: int = 0
    deadline: str = ""
    delivered_to: str | None = None
    delivered_ms: int = 0
    attempt: int = 0
    waits: int = 0
    waited_ms: int = 0
    deaths: int = 0
    answer: Answer | None = None
    loss: Loss | None = None
    counted: bool = False
    event_ids: tuple[str, ...] = ()
    approvals: dict[str, Approval] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    decided: dict[str, bool] = field(default_factory=dict)
    paused_at_ms: int = 0

    @property
    def open_requests(self) -> list[Approval]:
        """What the process that has the command asks for and waits for."""
        return [one for one in self.approvals.values() if one.agent_id == self.delivered_to]

    @property
    def asks_a_person(self) -> bool:
        """Whether the process that has the command waits for what a person says."""
        return bool(self.approvals) and any(one.until is not None for one in self.open_requests)


class Settled(Struct, frozen=True, omit_defaults=True):
    """A finished command: what its receipt is made of. ``settled_at``: RFC 3339, from the settling entry."""

    task_id: str
    step: int
    command: Command
    event: Event
    event_ids: tuple[str, ...]
    settled_at: str


class Agent(Struct, frozen=True, omit_defaults=True):
    """A role's process.

    up: its incarnation. starts: in this orchestrator process. restarts: since its last settled step. useful: the
    incarnation has settled a step, so its exit costs nothing while it has no command. ending: it was told to go.
    not_before: not started again before. loss: an idle death, until its restart is scheduled. broken: why it cannot be
    started at all.
    """

    up: str | None = None
    starts: int = 0
    restarts: int = 0
    useful: bool = False
    ending: bool = False
    not_before: NotBefore | None = None
    loss: Loss | None = None
    broken: FailureNote | None = None


class TaskCommit(Struct, frozen=True, omit_defaults=True):
    """What git was asked for at the end of a task, and what came of it."""

    purpose: str
    branch: str
    intended_at: str
    made: bool = False
    commit: str = ""
    files: int = 0
    failure: str = ""


class Task(Struct, frozen=True, omit_defaults=True):
    """One task: what is asked, where it stands, and the step it needs next.

    first_step, next_step: the numbers of its first receipt in this run, and of the step under way. attempts: commands
    sent so far, repeats included. ended: its fate is decided, only closing is left (ending the agent, committing).
    claims: the latest artifact claimed on each path. last_key: the idempotency key under which the task failed.
    spent_before: what the run had spent when it began.
    """

    task_id: str
    declared: Object
    status: TaskStatus = TaskStatus.PENDING
    stage: Stage = Stage.IMPLEMENT
    step: Step | None = None
    first_step: int = 1
    next_step: int = 1
    rounds: int = 0
    attempts: int = 0
    test_rounds: int = 0
    snapshot_id: str | None = None
    snapshot_requested: bool = False
    pending: Pending | None = None
    ended: bool = False
    failure: FailureNote | None = None
    last_key: str | None = None
    commit: TaskCommit | None = None
    claims: dict[str, Artifact] = field(default_factory=dict)
    started_at: str | None = None
    finished_at: str | None = None
    spent_before: Spent = Spent()


class Run(Struct, frozen=True, omit_defaults=True):
    """The whole state of one run.

    tasks: in the order they were declared. configured_budget: what lorch.json said at the start. process: the
    orchestrator that has it. processes: the latest of each agent and worker. planned: tasks that are still to be
    declared; where they did not fit into an entry, ``tasks_file`` says where they are. limits: by account. accounts: by
    role, where an agent has told its own. ticked_ms: time of the last entry of our own, since the epoch. unanswered:
    requests for leave that nobody answered in time.
    """

    run_id: str
    status: RunStatus = RunStatus.RUNNING
    policy: Policy = field(default_factory=Policy)
    configured_budget: Budget = field(default_factory=Budget)
    agent_settings: dict[str, Object] = field(default_factory=dict)
    snapshot_settings: Object = field(default_factory=dict)
    on_failure: str = "continue"
    git: GitPlan = GitPlan()
    git_begun: bool = False
    git_head: str = ""
    git_failure: str | None = None
    process: ProcessRef | None = None
    processes: dict[str, ProcessRef] = field(default_factory=dict)
    planned: list[Object] = field(default_factory=list)
    tasks_file: FileRef | None = None
    task_count: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)
    current: str | None = None
    first_steps: dict[str, int] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    resumes: int = 0
    stopped: FailureNote | None = None
    started: bool = False
    started_at: str | None = None
    completed_at: str | None = None
    last_command_id: str | None = None
    last_event_id: str | None = None
    terminal_events: dict[str, str] = field(default_factory=dict)
    last_settled: Settled | None = None
    settled_count: int = 0
    drift_due: bool = False
    limits: dict[str, Limit] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    spent: Spent = Spent()
    ticked_ms: int = 0
    unanswered: int = 0

    @property
    def task(self) -> Task | None:
        """The task under way, if one is."""
        return self.tasks.get(self.current) if self.current is not None else None

    @property
    def pending(self) -> Pending | None:
        """The command under way, if one is."""
        task = self.task
        return task.pending if task is not None else None

    def agent(self, role: str) -> Agent:
        """Return the role's process, which may never have been started."""
        return self.agents.get(role, _NEVER_STARTED)


_NEVER_STARTED: Final = Agent()


Meaning = Callable[[Run, Any, Told], Run]
"""What a system event does to the run; it gets the event's payload in its own type."""


def with_task(run: Run, task: Task) -> Run:
    """Return the run with that task in place of its former self."""
    return replace(run, tasks={**run.tasks, task.task_id: task})


def with_pending(run: Run, pending: Pending) -> Run:
    """Return the run with that command under way in its current task."""
    assert run.task is not None
    return with_task(run, replace(run.task, pending=pending))


def with_agent(run: Run, role: str, agent: Agent) -> Run:
    """Return the run with that process in that role."""
    return replace(run, agents={**run.agents, role: agent})
