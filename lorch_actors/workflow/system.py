"""What the orchestrator itself writes into the ledger: every ``system.*`` event with the shape of its payload.

One frozen struct per event; `payloads` wraps them into wire events and reads them back.
"""

from typing import ClassVar, Final, Literal

from msgspec import field

from lorch_actors.protocol.messages import AgentRole, Count, Object, Timestamp
from lorch_actors.workflow.parts import FailureNote, FileRef, GitPlan, LimitNote, ProcessRef
from lorch_actors.workflow.payloads import Payload


class RunStarted(Payload, frozen=True, omit_defaults=True):
    """Everything a resume needs, so that a changed configuration does not change a run."""

    name: ClassVar[str] = "run_started"
    policy: Object
    agents: Object
    task_count: int
    tasks: list[Object] | None = None
    tasks_file: FileRef | None = None
    snapshot: Object = field(default_factory=dict)
    on_failure: str = "continue"
    git: GitPlan = GitPlan()
    configured_budget: Object | None = None
    first_steps: dict[str, int] = field(default_factory=dict)
    workspace_root: str = ""
    host: str = ""
    command: list[str] = field(default_factory=list)
    version: str = ""
    process: ProcessRef | None = None


class RunResumed(Payload, frozen=True, omit_defaults=True):
    """A new orchestrator took over: no agent is up, deliveries are void.

    budget: what the run may spend from now on, if that was changed. no_wait: limits of accounts are forgotten.
    at_once: the guardian of the orchestrator before it started this one, so no time lies between them.
    """

    name: ClassVar[str] = "run_resumed"
    nth: int
    first_steps: dict[str, int] = field(default_factory=dict)
    retry_failed: bool = False
    config_changes: list[str] = field(default_factory=list)
    budget: Object | None = None
    no_wait: bool = False
    at_once: bool = False
    process: ProcessRef | None = None


class RunStopped(Payload, frozen=True, omit_defaults=True):
    """The orchestrator stopped in good order before the end; resumable."""

    name: ClassVar[str] = "run_stopped"
    nth: int
    code: str
    message: str


class RunFinished(Payload, frozen=True, omit_defaults=True):
    """The run is over."""

    name: ClassVar[str] = "run_finished"
    status: str


class TaskDeclared(Payload, frozen=True, omit_defaults=True):
    """One task of the run, in order."""

    name: ClassVar[str] = "task_declared"
    index: int
    task: Object


class TaskStarted(Payload, frozen=True, omit_defaults=True):
    """The task is under way; its steps count from ``first_step``."""

    name: ClassVar[str] = "task_started"
    first_step: int
    title: str = ""


class TaskFinished(Payload, frozen=True, omit_defaults=True):
    """The task is over: ``completed`` or ``failed``."""

    name: ClassVar[str] = "task_finished"
    status: str
    failure: FailureNote | None = None


class SnapshotRequested(Payload, frozen=True, omit_defaults=True):
    """The snapshotter is to capture the tree for this task."""

    name: ClassVar[str] = "snapshot_requested"


class SnapshotCaptured(Payload, frozen=True, omit_defaults=True):
    """The manifest is on disk."""

    name: ClassVar[str] = "snapshot_captured"
    snapshot_id: str
    files: int = 0
    size_bytes: int = 0
    skipped: int = 0
    manifest: str = ""


class SnapshotFailed(Payload, frozen=True, omit_defaults=True):
    """A tracked file could not be read."""

    name: ClassVar[str] = "snapshot_failed"
    message: str


class WorkspaceDrift(Payload, frozen=True, omit_defaults=True):
    """Tracked files that differ from the task's snapshot without any step having claimed them."""

    name: ClassVar[str] = "workspace_drift"
    count: int
    paths: list[str] = field(default_factory=list)


class AgentStarted(Payload, frozen=True, omit_defaults=True):
    """An incarnation is up: events of that role are from now on its events."""

    name: ClassVar[str] = "agent_started"
    agent_type: AgentRole
    agent_id: str
    process: ProcessRef | None = None


class AgentStartFailed(Payload, frozen=True, omit_defaults=True):
    """The agent's process was not started. transient: it is the machine that had no room for it, not the command."""

    name: ClassVar[str] = "agent_start_failed"
    agent_type: AgentRole
    agent_id: str
    message: str
    transient: bool = False


class AgentExited(Payload, frozen=True, omit_defaults=True):
    """The incarnation is gone, its process tree with it, and its output read to the end.

    begun: the message id of the last command of which it has read anything, empty if there is none, None if that is
    not known. ours: it was ended together with its actor, and not for anything it did.
    """

    name: ClassVar[str] = "agent_exited"
    agent_type: AgentRole
    agent_id: str
    code: int | None = None
    signal: int | None = None
    reason: str = ""
    begun: str | None = None
    ours: bool = False


class AgentLost(Payload, frozen=True, omit_defaults=True):
    """The role has a new actor: a process of the one before is gone, and nobody was left to record its end."""

    name: ClassVar[str] = "agent_lost"
    agent_type: AgentRole


class AgentHung(Payload, frozen=True, omit_defaults=True):
    """The incarnation is alive but of no use; its actor ends it."""

    name: ClassVar[str] = "agent_hung"
    agent_type: AgentRole
    agent_id: str
    code: str
    message: str


class CommandTimedOut(Payload, frozen=True, omit_defaults=True):
    """The delivery's time is up."""

    name: ClassVar[str] = "command_timed_out"
    agent_id: str
    delivery: int
    message: str


class RetryScheduled(Payload, frozen=True, omit_defaults=True):
    """A delivery (or an idle incarnation) was lost; the next start is not before the given time.

    attempt: of the next delivery. waited_ms: of the delay, what the agent asked for; such a wait is no restart and uses
    up no attempt. Whoever is ``agent_id`` is ended. limit: the account whose limit is waited for.
    """

    name: ClassVar[str] = "retry_scheduled"
    agent_type: AgentRole
    attempt: Count
    delay_ms: Count
    not_before: Timestamp
    code: str
    message: str
    agent_id: str | None = None
    waited_ms: Count = 0
    limit: LimitNote | None = None


class ApprovalRequested(Payload, frozen=True, omit_defaults=True):
    """Somebody is asked whether the agent may use this tool with this input; denied when ``delay_ms`` are over.

    event_seq: the entry in which the agent asked; it holds an input that is too long for here.
    """

    name: ClassVar[str] = "approval_requested"
    approval_id: str
    agent_type: AgentRole
    agent_id: str
    request_id: str
    tool: str
    event_seq: int
    delay_ms: Count
    expires_at: Timestamp
    input: Object = field(default_factory=dict)
    message: str = ""


class ApprovalAnswered(Payload, frozen=True, omit_defaults=True):
    """The answer, which the agent is given as it stands here."""

    name: ClassVar[str] = "approval_answered"
    approval_id: str
    agent_type: AgentRole
    agent_id: str
    request_id: str
    decision: Literal["allow", "deny"]
    by: Literal["policy", "operator", "timeout"]
    reason: str = ""


class CommandFailed(Payload, frozen=True, omit_defaults=True):
    """The command is given up, and with it the task. Whoever is ``agent_id`` is ended.

    limit: of an account, when it is given up because of one that lasts too long.
    """

    name: ClassVar[str] = "command_failed"
    failure: FailureNote
    agent_id: str | None = None
    limit: LimitNote | None = None


class ArtifactsVerified(Payload, frozen=True, omit_defaults=True):
    """The artifacts of the event with that ``seq`` are as claimed."""

    name: ClassVar[str] = "artifacts_verified"
    event_seq: int
    warnings: list[Object] = field(default_factory=list)


class ArtifactsRejected(Payload, frozen=True, omit_defaults=True):
    """An artifact of the event with that ``seq`` is not as claimed."""

    name: ClassVar[str] = "artifacts_rejected"
    event_seq: int
    code: str
    message: str
    problems: list[Object] = field(default_factory=list)


class BranchCreated(Payload, frozen=True, omit_defaults=True):
    """The run's branch is there and checked out."""

    name: ClassVar[str] = "branch_created"
    branch: str
    base: str


class CommitIntended(Payload, frozen=True, omit_defaults=True):
    """The task's changes are about to be committed (``commit``) or set aside (``set_aside``)."""

    name: ClassVar[str] = "commit_intended"
    purpose: str
    branch: str


class CommitMade(Payload, frozen=True, omit_defaults=True):
    """They are; ``commit`` is empty when nothing had changed. ``head``: where the run's branch stands now."""

    name: ClassVar[str] = "commit_made"
    purpose: str
    branch: str
    commit: str = ""
    files: int = 0
    head: str = ""
    left_out: list[str] = field(default_factory=list)


class CommitFailed(Payload, frozen=True, omit_defaults=True):
    """git refused."""

    name: ClassVar[str] = "commit_failed"
    purpose: str
    message: str


class ActorRestarted(Payload, frozen=True, omit_defaults=True):
    """A supervisor restarted one of its children."""

    name: ClassVar[str] = "actor_restarted"
    actor: str
    reason: str
    count: int


class WorkerStarted(Payload, frozen=True, omit_defaults=True):
    """A worker process is up."""

    name: ClassVar[str] = "worker_started"
    actor: str
    process: ProcessRef


PAYLOADS: Final[dict[str, type[Payload]]] = {f"system.{kind.name}": kind for kind in Payload.__subclasses__()}
