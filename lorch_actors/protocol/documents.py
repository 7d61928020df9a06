"""The JSON documents below a workspace as typed values: receipts, run state, the index of runs, snapshot manifests.

All but the manifests are projections of a ledger: they carry no time of their own and name the entry they stand for
by ``seq`` (its number) and ``chain`` (its link of the hash chain; empty for a ledger of lorch 1.5, which has none).
The JSON Schemas of these files are generated from here. Optional members are left out where they are absent.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from lorch_actors.protocol.ids import SNAPSHOT_ID_PATTERN
from lorch_actors.protocol.messages import Action, Checksum, Count, Object, Positive, TaskId, Text, Timestamp

CHAIN_PATTERN: Final = r"^([0-9a-f]{16})?$(?!\n)"

Chain = Annotated[str, Meta(pattern=CHAIN_PATTERN)]
SnapshotId = Annotated[str, Meta(pattern=SNAPSHOT_ID_PATTERN)]


class RunStatus(StrEnum):
    """Where a run stands; an interrupted one stays ``running``."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


class TaskStatus(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class Stage(StrEnum):
    """Which part of the loop a task is in."""

    INTAKE = "intake"
    IMPLEMENT = "implement"
    REVIEW = "review"
    SPEC_MAINTAIN = "spec_maintain"
    COMPLETE = "complete"


class _Document(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A closed object; members that hold their default are not written."""


class ClaimedArtifact(_Document, frozen=True, kw_only=True):
    """A file as an agent claimed it. Unlike on the wire, the checksum may be any string: ``warn`` lets it pass."""

    path: Text
    sha256: str
    size: Count


class Receipt(_Document, frozen=True, kw_only=True):
    """What one finished command produced (``receipts/<task>/step-<n>.json``).

    step: from 1, never restarts within a task. events: message ids of what the agent sent, the settling event last.
    tests: ``payload.tests`` of that event. The members after ``created_at`` are there for tasks from intake only.
    """

    task_id: TaskId
    step: Positive
    action: Action
    idempotency_key: Text
    snapshot_id: Text
    command_message_id: Text
    correlation_id: Text
    artifacts: list[ClaimedArtifact]
    events: list[str]
    tests: Object | None = None
    created_at: Timestamp
    task_title: str | None = None
    instruction: str | None = None
    approved_plan: str | None = None
    intake_correlation_id: str | None = None
    clarifications: list[Any] | None = None
    conflict_resolutions: list[Any] | None = None
    seq: Positive
    chain: Chain


class TaskState(_Document, frozen=True, kw_only=True):
    """Where one task of a run stands. rounds: changes asked for. attempts: commands sent, repeats included."""

    task_id: TaskId
    status: TaskStatus
    stage: Stage
    rounds: Count
    attempts: Count


class Failure(_Document, frozen=True, kw_only=True):
    """Why a run failed: the code, a sentence for a person, and the task and agent concerned."""

    code: Text
    message: str
    task_id: TaskId | None = None
    agent: str | None = None


class RunState(_Document, frozen=True, kw_only=True):
    """Where the newest run of the workspace stands (``state/run.json``).

    task_id, snapshot_id, current_stage: of the task under way or last under way; null before the first.
    """

    run_id: Text
    status: RunStatus
    task_id: TaskId | None
    snapshot_id: str | None
    current_stage: Stage | None
    started_at: Timestamp
    completed_at: Timestamp | None = None
    correlation_id: str | None = None
    last_command_id: str | None = None
    last_event_id: str | None = None
    terminal_events: dict[str, str]
    tasks: list[TaskState]
    restarts: dict[str, Count]
    failure: Failure | None = None
    seq: Positive
    chain: Chain


class IndexRow(_Document, frozen=True, kw_only=True):
    """One run in the index. first_steps, last_steps: numbers of a task's first and last receipt in that run."""

    run_id: Text
    status: RunStatus
    tasks: dict[TaskId, TaskStatus]
    started_at: Timestamp
    completed_at: Timestamp | None = None
    first_steps: dict[TaskId, Positive] = field(default_factory=dict)
    last_steps: dict[TaskId, Count] = field(default_factory=dict)
    seq: Positive
    chain: Chain


class Index(_Document, frozen=True, kw_only=True):
    """Every run of the workspace, oldest first (``state/index.json``)."""

    runs: list[IndexRow]


class _Named(_Document, frozen=True, kw_only=True):
    """Something with a path. encoded: the name is not UTF-8 and written with ``%XX`` for each stray byte."""

    path: Text
    encoded: bool = False


class ManifestEntry(_Named, frozen=True, kw_only=True):
    """A tracked file (checksum and size in bytes) or symbolic link (the text it holds), with its time.

    Raises ValueError (on decoding: ValidationError) for what is neither or both.
    """

    sha256: Checksum | UnsetType = UNSET
    size: Count | UnsetType = UNSET
    link: str | UnsetType = UNSET
    mtime: Timestamp

    def __post_init__(self) -> None:
        of_file = (self.sha256 is not UNSET, self.size is not UNSET)
        if of_file != ((False, False) if self.link is not UNSET else (True, True)):
            raise ValueError("an entry has either sha256 and size, or link")


class SkippedEntry(_Named, frozen=True, kw_only=True):
    """What is neither file, directory nor link, and so not tracked."""

    kind: Literal["fifo", "socket", "device"]


_FILE_OR_LINK: Final = {
    "oneOf": [
        {"required": ["sha256", "size"], "not": {"required": ["link"]}},
        {"required": ["link"], "not": {"anyOf": [{"required": ["sha256"]}, {"required": ["size"]}]}},
    ]
}


class SnapshotManifest(_Document, frozen=True, kw_only=True):
    """The tracked files at one moment (``snapshots/<snapshot_id>.manifest.json``), sorted by path bytes."""

    snapshot_id: SnapshotId
    created_at: Timestamp
    workspace_root: str
    skipped: list[SkippedEntry] = field(default_factory=list)
    files: list[Annotated[ManifestEntry, Meta(extra_json_schema=_FILE_OR_LINK)]]
