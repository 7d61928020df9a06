"""The errors of this program, its exit codes, and the codes a failure is recorded under.

An error says what happened, where, and what to do next. Errors of users and agents are shown as they are, without a
traceback; any other exception is a bug or a dead machine.
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What the process says when it ends."""

    DONE = 0
    FAILED = 1  # a task failed, or verification found damage
    USAGE = 2  # the command line or the configuration is wrong
    LOCKED = 3  # another run holds the workspace
    DECLINED = 4  # declined or aborted by the user
    INTERRUPTED = 5  # stopped before the end; `resume` goes on


class FailureCode(StrEnum):
    """Why a delivery, a task or a run failed: ``failure.code`` and the ``error`` codes that we emit ourselves."""

    AGENT_CRASHED = "agent_crashed"  # the agent process ended before it answered
    AGENT_HUNG = "agent_hung"  # no heartbeat for three intervals
    AGENT_STDIN_STALLED = "agent_stdin_stalled"  # the agent does not read its commands
    AGENT_NOISY = "agent_noisy"  # more unreadable lines than policy.max_bad_lines
    AGENT_NOT_STARTABLE = "agent_not_startable"  # the agent's command cannot be executed
    AGENT_RESTART_LIMIT = "agent_restart_limit"  # too many restarts without a settled step between
    AGENT_ERROR = "agent_error"  # an error event that is not retryable and names no code of its own
    DEADLINE_PASSED = "deadline_passed"  # the command's time is up
    INVALID_EVENT = "invalid_event"  # a terminal event that breaks the protocol
    MISSING_TESTS = "missing_tests"  # builder.completed without payload.tests.status
    VERSION_MISMATCH = "version_mismatch"  # the agent worked on another snapshot
    ARTIFACT_MISMATCH = "artifact_mismatch"  # a claimed file is absent or other than claimed
    ARTIFACT_TOO_LARGE = "artifact_too_large"  # over policy.artifact_max_bytes
    TESTS_FAILED = "tests_failed"  # tests still fail after policy.test_rounds
    ROUNDS_EXHAUSTED = "rounds_exhausted"  # changes requested more than policy.max_rounds times
    WAIT_EXHAUSTED = "wait_exhausted"  # rate limits wanted more than policy.max_wait_s
    OVER_BUDGET = "over_budget"  # policy.budget is used up; resumable
    TOO_MANY_REQUESTS = "too_many_requests"  # the agent asked for leave again and again in one command
    ORCHESTRATOR_CRASH_LOOP = "orchestrator_crash_loop"  # died again and again under one command
    SNAPSHOT_FAILED = "snapshot_failed"  # a tracked file cannot be read
    GIT_FAILED = "git_failed"  # a commit could not be made
    TASK_FAILED = "task_failed"  # the run failed because a task did
    STORAGE_FAILED = "storage_failed"  # the disk is full or broken; resumable
    RESTART_LIMIT = "restart_limit"  # the supervisor gave up; resumable
    POISON_MESSAGE = "poison_message"  # a worker died three times on one message; resumable
    SIGNAL = "signal"  # asked to stop; resumable
    GUARDIAN_LOST = "guardian_lost"  # the guardian died; resumable


class LorchError(Exception):
    """Root of all errors that are shown to a person.

    what: one sentence. where: file, line, JSON path or process, when there is one. remedy: what to do next. They can be
    written down whatever the files are called that they name: what is not UTF-8 stands there as an escape.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = _as_utf8(what)
        self.where = _as_utf8(where)
        self.remedy = _as_utf8(remedy)
        super().__init__(self.what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        """Cross process boundaries whole."""
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _as_utf8(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _rebuild(kind: type[LorchError], what: str, where: str, remedy: str) -> LorchError:
    return kind(what, where=where, remedy=remedy)


class UsageError(LorchError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class ConfigError(LorchError):
    """lorch.json, a task file or a script is wrong."""

    exit_code = ExitCode.USAGE


class LockedError(LorchError):
    """Another process holds the workspace."""

    exit_code = ExitCode.LOCKED


class InterruptedRun(LorchError):  # noqa: N818 - an interruption is not a fault
    """The run stopped before its end and can be resumed."""

    exit_code = ExitCode.INTERRUPTED


class StorageError(InterruptedRun):
    """The disk refused: full, read-only or broken. Nothing acknowledged is lost; resumable."""


class StorageRefused(StorageError):  # noqa: N818
    """The disk may not be written here, by us or by anybody: read-only, or somebody else's."""

    exit_code = ExitCode.USAGE


class LedgerDamaged(LorchError):  # noqa: N818 - the term of the field
    """A ledger is other than it was written. Carries path, line and byte offset in ``where``."""


class PathRefused(LorchError):  # noqa: N818
    """A path leaves the workspace or is not what it has to be."""


class SnapshotError(LorchError):
    """A tracked file cannot be read."""


class GitError(LorchError):
    """git answered other than expected."""
