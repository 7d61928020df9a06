"""What ``--json`` prints about one run: its status, its tasks and agents, and what they wait for."""

from typing import Any, Literal

from msgspec import Struct

RunStatus = Literal["running", "completed", "failed", "aborted"]
TaskStatus = Literal["pending", "running", "completed", "failed"]


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything printed: closed objects in which every key is always there."""


class FailureBody(Document, frozen=True):
    """Why something failed; agent: whom it concerns, if anyone."""

    code: str
    message: str
    agent: str | None


class TaskLine(Document, frozen=True):
    """One task of a run. branch, commit: where its work was committed, or set aside if it failed."""

    task_id: str
    title: str
    status: TaskStatus
    stage: str
    rounds: int
    attempts: int
    snapshot_id: str | None
    branch: str | None
    commit: str | None
    failure: FailureBody | None


class AgentLine(Document, frozen=True):
    """One agent. up: its incarnation if the ledger says it is up. restarts: in this run."""

    agent: str
    up: str | None
    starts: int
    restarts: int


class PendingBody(Document, frozen=True):
    """The command under way. attempt counts from 1.

    waiting_for: the agent's answer, a person's leave, the end of an account's limit, a retry, or verification.
    """

    task_id: str
    action: str
    agent: str
    round: int | None
    attempt: int
    max_attempts: int
    deliveries: int
    deadline: str
    waiting_for: Literal["answer", "approval", "limit", "retry", "verification"]
    retry_at: str | None


class ApprovalLine(Document, frozen=True):
    """Leave that an agent asks for. input: as it is, a long one by its beginning. until: denied then; None: not asked.

    waiting: whether the process that asked still waits; else it asks again when it is sent its command again.
    """

    approval_id: str
    task_id: str
    agent: str
    tool: str
    input: dict[str, Any]
    message: str
    waiting: bool
    until: str | None


class AnswerDocument(Document, frozen=True):
    """`approve`, `deny`: what was answered. active: whether a process is working on the run now."""

    run_id: str
    decision: Literal["allow", "deny"]
    reason: str
    active: bool
    approval: ApprovalLine


class LimitLine(Document, frozen=True):
    """An account that is not to be used for now. agents: who uses it. wait_s: how long still."""

    account: str
    agents: list[str]
    code: str
    message: str
    until: str
    wait_s: float


class AmountsBody(Document, frozen=True):
    """What may be spent; None is any amount."""

    usd: float | None
    tokens: int | None
    wall_s: float | None


class SpentBody(Document, frozen=True):
    """What a run has spent, and may. work_s: time worked, waits for limits and people not counted.

    commands: how many were sent. priced, counted: how many of them told their cost, and their tokens.
    """

    usd: float
    tokens: int
    work_s: float
    commands: int
    priced: int
    counted: int
    budget: AmountsBody
    task_budget: AmountsBody


class HolderBody(Document, frozen=True):
    """Who holds the workspace."""

    pid: int
    run_id: str
    host: str
    command: str


class StatusDocument(Document, frozen=True):
    """`status`: where a run stands. active: whether a process is working on it now."""

    run_id: str
    status: RunStatus
    active: bool
    workspace: str
    holder: HolderBody | None
    started_at: str | None
    completed_at: str | None
    current_task: str | None
    tasks: list[TaskLine]
    agents: list[AgentLine]
    restarts: dict[str, int]
    resumes: int
    pending: PendingBody | None
    approvals: list[ApprovalLine]
    limits: list[LimitLine]
    spent: SpentBody
    stopped: FailureBody | None
