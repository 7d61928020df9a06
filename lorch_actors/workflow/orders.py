"""What `decide` can ask for. Every order may be carried out twice without harm; each has a key that names it."""

from msgspec import Struct

from lorch_actors.protocol.documents import ClaimedArtifact
from lorch_actors.protocol.messages import AgentRole, Command, Event, ExpectedOutput
from lorch_actors.workflow.commands import RequestFile


class Append(Struct, frozen=True):
    """Append this message; ``file`` has to be on disk before."""

    message: Command | Event
    file: RequestFile | None = None

    @property
    def key(self) -> str:
        """The message's id, which follows from its cause."""
        return self.message.message_id


class StartAgent(Struct, frozen=True):
    """Start the role's next process."""

    role: AgentRole
    nth: int

    @property
    def key(self) -> str:
        """Role and how many were started before."""
        return f"start:{self.role}:{self.nth}"


class Capture(Struct, frozen=True):
    """Capture the tree for this task; the answer is `snapshot_captured` or `snapshot_failed`."""

    task_id: str
    nth: int

    @property
    def key(self) -> str:
        """The task, and how often the run was resumed: a failed task can be done anew."""
        return f"capture:{self.task_id}:{self.nth}"


class CheckDrift(Struct, frozen=True):
    """Tell what changed since the snapshot without being claimed; the answer is `workspace_drift`."""

    task_id: str
    snapshot_id: str
    claimed: tuple[str, ...]
    nth: int

    @property
    def key(self) -> str:
        """Which resume it is about."""
        return f"drift:{self.nth}"


class Verify(Struct, frozen=True):
    """Check the artifacts of the event with that seq; the answer is `artifacts_verified` or `artifacts_rejected`."""

    task_id: str
    correlation_id: str
    event_seq: int
    artifacts: tuple[ClaimedArtifact, ...]
    expected_outputs: tuple[ExpectedOutput, ...]

    @property
    def key(self) -> str:
        """The event."""
        return f"verify:{self.event_seq}"


class BeginBranch(Struct, frozen=True):
    """Make the run's branch; the answer is `branch_created` or `commit_failed`."""

    branch: str
    base: str

    @property
    def key(self) -> str:
        """The branch."""
        return f"branch:{self.branch}"


class Commit(Struct, frozen=True):
    """Commit the task's changes, or set them aside; the answer is `commit_made` or `commit_failed`."""

    task_id: str
    purpose: str
    title: str
    intended_at: str
    reason: str
    branch: str
    base: str

    @property
    def key(self) -> str:
        """Task and purpose; a task that is done anew intends anew."""
        return f"commit:{self.task_id}:{self.purpose}:{self.intended_at}"


class AskOperator(Struct, frozen=True):
    """Append what a person says to this request; the answer is `approval_answered`."""

    task_id: str
    correlation_id: str
    role: AgentRole
    approval_id: str
    agent_id: str
    request_id: str

    @property
    def key(self) -> str:
        """The request, and the process that waits for it."""
        return f"ask:{self.approval_id}:{self.agent_id}"


Order = Append | StartAgent | Capture | CheckDrift | Verify | BeginBranch | Commit | AskOperator


class Decision(Struct, frozen=True):
    """What to do now, and after how many milliseconds to ask again if no entry comes before (None: only then)."""

    orders: tuple[Order, ...] = ()
    wake_after_ms: int | None = None
