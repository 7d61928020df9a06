"""What happens to the run and its tasks, as the ledger tells it: declared, started, captured, committed, finished."""

from typing import Final

import msgspec
from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.configuration import Budget, Policy
from lorch_actors.protocol.documents import RunStatus, Stage, TaskStatus
from lorch_actors.protocol.messages import Action, Object
from lorch_actors.workflow.accounts import on_this_clock, resumed
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.payloads import Payload
from lorch_actors.workflow.state import Agent, Meaning, Run, Step, Task, TaskCommit, Told, with_pending, with_task
from lorch_actors.workflow.system import (
    BranchCreated,
    CommitFailed,
    CommitIntended,
    CommitMade,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    SnapshotCaptured,
    SnapshotFailed,
    SnapshotRequested,
    TaskDeclared,
    TaskFinished,
    TaskStarted,
    WorkspaceDrift,
)

FIRST_STEP: Final = Step(Action.IMPLEMENT, 1)


def _run_started(run: Run, note: RunStarted, told: Told) -> Run:
    if run.started:
        return run
    policy = _policy(note)
    return replace(
        run,
        started=True,
        started_at=told.occurred_at,
        policy=policy,
        configured_budget=_budget(note.configured_budget, policy.budget),
        agent_settings={role: given for role, given in note.agents.items() if isinstance(given, dict)},
        snapshot_settings=note.snapshot,
        on_failure=note.on_failure,
        git=note.git,
        task_count=note.task_count,
        planned=run.planned if note.tasks is None else note.tasks,
        tasks_file=note.tasks_file,
        process=note.process,
        first_steps=note.first_steps,
    )


def _policy(note: RunStarted) -> Policy:
    try:
        return msgspec.convert(note.policy, Policy)
    except msgspec.ValidationError:
        return Policy()


def _task_declared(run: Run, note: TaskDeclared, told: Told) -> Run:
    if told.task_id in run.tasks:
        return run
    run = with_task(run, Task(task_id=told.task_id, declared=note.task))
    return replace(run, planned=[]) if len(run.tasks) >= run.task_count else run


def _task_started(run: Run, note: TaskStarted, told: Told) -> Run:
    task = run.tasks.get(told.task_id)
    if task is None or task.status is not TaskStatus.PENDING:
        return run
    step = task.step if task.ended else task.step or FIRST_STEP
    task = replace(
        _numbered(task, note.first_step),
        status=TaskStatus.RUNNING,
        step=step,
        rounds=step.round if step else task.rounds,
        started_at=task.started_at or told.occurred_at,
        spent_before=run.spent,
    )
    # What went wrong under the task before says nothing about this one.
    agents = {role: replace(agent, restarts=0) for role, agent in run.agents.items()}
    return replace(with_task(run, task), current=task.task_id, agents=agents)


def _numbered(task: Task, first_step: int) -> Task:
    """Return the task with its receipts counted from ``first_step`` on: another run may have counted meanwhile."""
    next_step = max(task.next_step, first_step)
    has_settled = task.next_step > task.first_step
    return replace(task, next_step=next_step, first_step=task.first_step if has_settled else next_step)


def _run_resumed(run: Run, note: RunResumed, told: Told) -> Run:
    agents = {role: _restarted(agent, told) for role, agent in run.agents.items()}
    clean = run.stopped is not None
    run = replace(run, agents=agents, resumes=note.nth, process=note.process, stopped=None, drift_due=True)
    policy = replace(run.policy, budget=_budget(note.budget, run.policy.budget))
    run = replace(resumed(run, told, no_wait=note.no_wait), first_steps=note.first_steps, policy=policy)
    tasks = {task_id: _resumed(task, run, clean=clean) for task_id, task in run.tasks.items()}
    run = replace(run, tasks=tasks)
    return _retrying(run) if note.retry_failed and run.status is RunStatus.FAILED else run


def _restarted(agent: Agent, told: Told) -> Agent:
    not_before = on_this_clock(agent.not_before, told) if agent.not_before is not None else None
    return Agent(restarts=agent.restarts, not_before=not_before)


def _budget(given: Object | None, otherwise: Budget) -> Budget:
    """Return the budget that was given, if it is one."""
    try:
        return otherwise if given is None else msgspec.convert(given, Budget)
    except msgspec.ValidationError:
        return otherwise


def _resumed(task: Task, run: Run, *, clean: bool) -> Task:
    task = _numbered(task, run.first_steps.get(task.task_id, 1))
    pending = task.pending
    if pending is None:
        return task
    silent = not clean and pending.delivered_to is not None and pending.answer is None
    pending = replace(pending, delivered_to=None, deaths=pending.deaths + silent)
    return replace(task, pending=pending)


def _retrying(run: Run) -> Run:
    """Return the run with its failed tasks to be done anew.

    Whatever kept agents or git from working is taken to be mended.
    """
    tasks = {task_id: _anew(task) if task.status is TaskStatus.FAILED else task for task_id, task in run.tasks.items()}
    return replace(
        run, status=RunStatus.RUNNING, completed_at=None, current=None, tasks=tasks, agents={}, git_failure=None
    )


def _anew(task: Task) -> Task:
    """Return a failed task as it is to be done anew.

    Where its work was set aside, the tree no longer holds what the failed step was about: it starts over. Where only
    its commit failed, only that is done.
    """
    if task.step is None:
        return replace(task, status=TaskStatus.PENDING, failure=None, commit=None, finished_at=None)
    set_aside = task.commit is not None and task.commit.made
    return Task(
        task_id=task.task_id,
        declared=task.declared,
        step=replace(FIRST_STEP if set_aside else task.step, retry_of=task.last_key or task.task_id),
        first_step=task.first_step,
        next_step=task.next_step,
        attempts=task.attempts,
        last_key=task.last_key,
        started_at=task.started_at,
    )


def _run_stopped(run: Run, note: RunStopped, _told: Told) -> Run:
    pending = run.pending
    if note.code == FailureCode.OVER_BUDGET and pending is not None and pending.loss is not None:
        # that the agent had to stop for it is no failure of the command
        run = with_pending(run, replace(pending, loss=None))
    return replace(run, stopped=FailureNote(note.code, note.message))


def _run_finished(run: Run, note: RunFinished, told: Told) -> Run:
    if note.status not in tuple(RunStatus):
        return run
    return replace(run, status=RunStatus(note.status), completed_at=told.occurred_at, current=None)


def _snapshot_requested(run: Run, _note: SnapshotRequested, told: Told) -> Run:
    task = run.task
    if task is None or task.task_id != told.task_id:
        return run
    return with_task(run, replace(task, snapshot_requested=True))


def _snapshot_captured(run: Run, note: SnapshotCaptured, told: Told) -> Run:
    task = run.task
    if task is None or task.task_id != told.task_id or task.snapshot_id is not None:
        return run
    return with_task(run, replace(task, snapshot_id=note.snapshot_id))


def _snapshot_failed(run: Run, note: SnapshotFailed, told: Told) -> Run:
    task = run.task
    if task is None or task.task_id != told.task_id or task.ended:
        return run
    return with_task(run, replace(task, ended=True, failure=FailureNote(FailureCode.SNAPSHOT_FAILED, note.message)))


def _workspace_drift(run: Run, _note: WorkspaceDrift, _told: Told) -> Run:
    return replace(run, drift_due=False)


def _branch_created(run: Run, note: BranchCreated, _told: Told) -> Run:
    return replace(run, git_begun=True, git_head=note.base)


def _commit_intended(run: Run, note: CommitIntended, told: Told) -> Run:
    task = run.tasks.get(told.task_id)
    if task is None:
        return run
    commit = TaskCommit(purpose=note.purpose, branch=note.branch, intended_at=told.occurred_at)
    return with_task(run, replace(task, commit=commit))


def _commit_made(run: Run, note: CommitMade, told: Told) -> Run:
    task = run.tasks.get(told.task_id)
    if task is None or task.commit is None:
        return run
    commit = replace(task.commit, made=True, branch=note.branch, commit=note.commit, files=note.files)
    return replace(with_task(run, replace(task, commit=commit)), git_head=note.head or run.git_head)


def _commit_failed(run: Run, note: CommitFailed, told: Told) -> Run:
    task = run.tasks.get(told.task_id)
    if task is None:
        return replace(run, git_failure=note.message)
    failure = task.failure or FailureNote(FailureCode.GIT_FAILED, note.message)
    commit = task.commit and replace(task.commit, failure=note.message)
    return replace(with_task(run, replace(task, commit=commit, failure=failure)), git_failure=note.message)


def _task_finished(run: Run, note: TaskFinished, told: Told) -> Run:
    task = run.tasks.get(told.task_id)
    if task is None or note.status not in {TaskStatus.COMPLETED, TaskStatus.FAILED}:
        return run
    completed = note.status == TaskStatus.COMPLETED
    task = replace(
        task,
        status=TaskStatus(note.status),
        stage=Stage.COMPLETE if completed else task.stage,
        failure=note.failure,
        last_key=task.pending.command.idempotency_key if task.pending else task.last_key,
        pending=None,
        ended=True,
        claims={},
        finished_at=told.occurred_at,
    )
    return replace(with_task(run, task), current=None)


MEANINGS: Final[dict[type[Payload], Meaning]] = {
    RunStarted: _run_started,
    RunResumed: _run_resumed,
    RunStopped: _run_stopped,
    RunFinished: _run_finished,
    TaskDeclared: _task_declared,
    TaskStarted: _task_started,
    TaskFinished: _task_finished,
    SnapshotRequested: _snapshot_requested,
    SnapshotCaptured: _snapshot_captured,
    SnapshotFailed: _snapshot_failed,
    WorkspaceDrift: _workspace_drift,
    BranchCreated: _branch_created,
    CommitIntended: _commit_intended,
    CommitMade: _commit_made,
    CommitFailed: _commit_failed,
}
