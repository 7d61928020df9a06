"""The documents that follow from a run's state: `run.json`, a row of `index.json`, receipts.

They hold no time of their own, so writing them again from the ledger gives the same bytes.
"""

from typing import Any, Final

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.documents import (
    ClaimedArtifact,
    Failure,
    IndexRow,
    Receipt,
    RunState,
    RunStatus,
    TaskState,
    TaskStatus,
)
from lorch_actors.protocol.messages import Action
from lorch_actors.workflow.judging import tests_of
from lorch_actors.workflow.state import Run, Settled, Task

INTAKE_MEMBERS: Final = (
    "task_title",
    "instruction",
    "approved_plan",
    "intake_correlation_id",
    "clarifications",
    "conflict_resolutions",
)


def run_state(run: Run, seq: int, chain: str) -> RunState | None:
    """Return what `run.json` says after the entry with that number and chain; None before the run has started."""
    if run.started_at is None:
        return None
    task = run.task or _last_touched(run)
    return RunState(
        run_id=run.run_id,
        status=run.status,
        task_id=task.task_id if task else None,
        snapshot_id=task.snapshot_id if task else None,
        current_stage=task.stage if task else None,
        started_at=run.started_at,
        completed_at=run.completed_at,
        correlation_id=task.pending.command.correlation_id if task and task.pending else None,
        last_command_id=run.last_command_id,
        last_event_id=run.last_event_id,
        terminal_events=run.terminal_events,
        tasks=[_task_state(each) for each in run.tasks.values()],
        restarts=run.restarts,
        failure=_failure(run),
        seq=seq,
        chain=chain,
    )


def index_row(run: Run, seq: int, chain: str) -> IndexRow | None:
    """Return the run's row in `index.json` after that entry; None before the run has started."""
    if run.started_at is None:
        return None
    stepped = {task_id: task for task_id, task in run.tasks.items() if task.next_step > task.first_step}
    return IndexRow(
        run_id=run.run_id,
        status=run.status,
        tasks={task_id: task.status for task_id, task in run.tasks.items()},
        started_at=run.started_at,
        completed_at=run.completed_at,
        first_steps={task_id: task.first_step for task_id, task in stepped.items()},
        last_steps={task_id: task.next_step - 1 for task_id, task in stepped.items()},
        seq=seq,
        chain=chain,
    )


def receipt(settled: Settled, declared: dict[str, Any], seq: int, chain: str) -> Receipt:
    """Return the receipt of a settled command; seq and chain are those of the entry that settled it."""
    command, event = settled.command, settled.event
    is_build = command.action in {Action.IMPLEMENT, Action.IMPLEMENT_CHANGES}
    return Receipt(
        task_id=settled.task_id,
        step=settled.step,
        action=command.action,
        idempotency_key=command.idempotency_key,
        snapshot_id=command.version.snapshot_id,
        command_message_id=command.message_id,
        correlation_id=command.correlation_id,
        artifacts=[ClaimedArtifact(path=a.path, sha256=a.sha256, size=a.size) for a in event.artifacts or ()],
        events=list(settled.event_ids),
        tests=(tests_of(event) or None) if is_build else None,
        created_at=settled.settled_at,
        seq=seq,
        chain=chain,
        **{name: declared[name] for name in INTAKE_MEMBERS if name in declared},
    )


def _last_touched(run: Run) -> Task | None:
    touched = [task for task in run.tasks.values() if task.started_at is not None]
    return touched[-1] if touched else None


def _task_state(task: Task) -> TaskState:
    return TaskState(
        task_id=task.task_id, status=task.status, stage=task.stage, rounds=task.rounds, attempts=task.attempts
    )


def _failure(run: Run) -> Failure | None:
    if run.status is RunStatus.COMPLETED:
        return None
    for task in run.tasks.values():
        if task.failure is not None and task.status is TaskStatus.FAILED:
            note = task.failure
            return Failure(code=note.code, message=note.message, task_id=task.task_id, agent=note.agent)
    if run.git_failure is not None:
        return Failure(code=FailureCode.GIT_FAILED, message=run.git_failure)
    if run.stopped is not None:
        return Failure(code=run.stopped.code, message=run.stopped.message)
    return None
