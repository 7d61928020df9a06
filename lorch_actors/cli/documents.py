"""What ``--json`` prints: one struct for each document; its JSON Schema is ``schemas/v1/cli-<name>.json``.

The schemas are generated from these types, so a document that can be printed is one they describe;
``python -m lorch_actors.cli.schemas`` writes them. Times are RFC 3339 in UTC, durations seconds, sizes bytes.
"""

from typing import Final, Literal

from msgspec import Struct

from lorch_actors.chaos.report import ChaosReport
from lorch_actors.cli.run_documents import (
    AnswerDocument,
    Document,
    FailureBody,
    RunStatus,
    SpentBody,
    StatusDocument,
    TaskLine,
    TaskStatus,
)
from lorch_actors.errors import ExitCode, LorchError


class ErrorBody(Document, frozen=True):
    """kind: the error's class. what: one sentence or more. where: file, line or JSON path. remedy: what to do next."""

    kind: str
    what: str
    where: str
    remedy: str
    exit_code: int


class ErrorDocument(Document, frozen=True):
    """Printed in place of the result when a command cannot do what it was asked for."""

    error: ErrorBody

    @classmethod
    def of(cls, error: LorchError, code: ExitCode) -> "ErrorDocument":
        """Return the document of an error."""
        body = ErrorBody(
            kind=type(error).__name__, what=error.what, where=error.where, remedy=error.remedy, exit_code=int(code)
        )
        return cls(error=body)


class RunTask(Document, frozen=True):
    """One task in the list of runs."""

    task_id: str
    status: TaskStatus


class RunLine(Document, frozen=True):
    """One run of the workspace."""

    run_id: str
    status: RunStatus
    started_at: str | None
    completed_at: str | None
    tasks: list[RunTask]


class RunsDocument(Document, frozen=True):
    """`runs`: every run of the workspace, the oldest first."""

    workspace: str
    runs: list[RunLine]


class ArtifactLine(Document, frozen=True):
    """A file that a step left behind."""

    path: str
    sha256: str
    size: int


class StepLine(Document, frozen=True):
    """One settled step, from its receipt."""

    task_id: str
    step: int
    action: str
    idempotency_key: str
    snapshot_id: str
    correlation_id: str
    tests: str | None
    events: int
    artifacts: list[ArtifactLine]
    created_at: str
    receipt: str


class ShowDocument(Document, frozen=True):
    """`show`: what a run did, step by step."""

    run_id: str
    status: RunStatus
    started_at: str | None
    completed_at: str | None
    tasks: list[TaskLine]
    steps: list[StepLine]


class TranscriptDocument(Document, frozen=True):
    """`transcript`: what the console showed."""

    run_id: str
    lines: list[str]


class ChangesBody(Document, frozen=True):
    """How two snapshots differ: paths."""

    since: str
    added: list[str]
    changed: list[str]
    removed: list[str]


class SkippedLine(Document, frozen=True):
    """What is neither file, directory nor link, and so not tracked. kind: fifo, socket, device."""

    path: str
    kind: str


class SnapshotDocument(Document, frozen=True):
    """`snapshot`: what was captured. changes: against the newest manifest before, None when there is none."""

    snapshot_id: str
    manifest: str
    files: int
    links: int
    size_bytes: int
    took_s: float
    skipped: list[SkippedLine]
    changes: ChangesBody | None


class FindingLine(Document, frozen=True):
    """One broken promise. check: its name, as in `verify --list`."""

    check: str
    where: str
    what: str


class VerifyDocument(Document, frozen=True):
    """`verify`: every broken promise; ok when there is none. run_id: None for all runs."""

    ok: bool
    run_id: str | None
    findings: list[FindingLine]


class CheckLine(Document, frozen=True):
    """A promise that `verify` checks."""

    check: str
    promise: str


class ChecksDocument(Document, frozen=True):
    """`verify --list`."""

    checks: list[CheckLine]


class RebuildDocument(Document, frozen=True):
    """`rebuild`: the files that were written again, relative to the workspace."""

    run_id: str | None
    written: list[str]


class InitDocument(Document, frozen=True):
    """`init`: what was written."""

    config: str
    agents: Literal["exec", "mock", "claude", "codex", "gemini", "opencode", "acp"]
    written: list[str]


class RemarkLine(Document, frozen=True):
    """Something about one place of the configuration."""

    path: str
    what: str


class ValidateDocument(Document, frozen=True):
    """`validate`: ok when a run could start with it; under --strict only without warnings."""

    ok: bool
    config: str
    errors: list[RemarkLine]
    warnings: list[RemarkLine]


class DoctorLine(Document, frozen=True):
    """One check of machine and workspace. ok: None when it only informs."""

    check: str
    ok: bool | None
    found: str
    remedy: str


class DoctorDocument(Document, frozen=True):
    """`doctor`: ok when nothing is wrong."""

    ok: bool
    workspace: str
    checks: list[DoctorLine]


class ReportDocument(Document, frozen=True):
    """The closing report of `run` and `resume`. next: command lines worth trying, each with what it is for.

    unanswered: how often an agent asked for leave and was denied because nobody answered in time.
    """

    run_id: str
    status: RunStatus
    exit_code: int
    interrupted: bool
    workspace: str
    started_at: str | None
    completed_at: str | None
    duration_s: float | None
    tasks: list[TaskLine]
    rounds: int
    attempts: int
    steps: int
    restarts: dict[str, int]
    resumes: int
    branch: str | None
    unanswered: int
    spent: SpentBody
    stopped: FailureBody | None
    next: list["NextLine"]


class NextLine(Document, frozen=True):
    """A command line to try, and what it does."""

    command: str
    does: str


SCHEMA_TYPES: Final[dict[str, type[Struct]]] = {
    "cli-error": ErrorDocument,
    "cli-status": StatusDocument,
    "cli-runs": RunsDocument,
    "cli-answer": AnswerDocument,
    "cli-show": ShowDocument,
    "cli-transcript": TranscriptDocument,
    "cli-snapshot": SnapshotDocument,
    "cli-verify": VerifyDocument,
    "cli-checks": ChecksDocument,
    "cli-rebuild": RebuildDocument,
    "cli-init": InitDocument,
    "cli-validate": ValidateDocument,
    "cli-doctor": DoctorDocument,
    "cli-report": ReportDocument,
    "cli-chaos": ChaosReport,
}
"""Every document with the name of its schema file."""
