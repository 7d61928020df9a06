"""``decide(run, now, draw) -> Decision``: what comes next.

Pure: the time and one random number come in. It may be asked at any moment and as often as one likes; as long as no
entry has been folded in between, it gives the same orders under the same keys.
"""

from collections.abc import Iterator
from typing import Final

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.documents import ClaimedArtifact, RunStatus, TaskStatus
from lorch_actors.protocol.messages import ROLE_OF_ACTION, AgentRole, Event
from lorch_actors.protocol.times import from_timestamp, to_timestamp
from lorch_actors.workflow import accounts, budget
from lorch_actors.workflow.approvals import answers
from lorch_actors.workflow.commands import first_delivery, next_delivery, timeout_s
from lorch_actors.workflow.losses import after_idle_death, after_loss
from lorch_actors.workflow.orders import (
    Append,
    BeginBranch,
    Capture,
    CheckDrift,
    Commit,
    Decision,
    Order,
    StartAgent,
    Verify,
)
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.payloads import SYSTEM, Payload, event_of
from lorch_actors.workflow.state import LOOP_ROLES, Answer, Moment, Pending, Run, Task
from lorch_actors.workflow.system import (
    CommandFailed,
    CommandTimedOut,
    CommitIntended,
    RunFinished,
    RunStopped,
    SnapshotRequested,
    TaskDeclared,
    TaskFinished,
    TaskStarted,
)

NOTHING: Final = Decision()
DECLARED_AT_ONCE: Final = 64


def decide(run: Run, now: Moment, draw: float) -> Decision:
    """Return what to do next. ``draw``: a random number in [0, 1), used for the jitter of a retry only."""
    if not run.started or run.status is not RunStatus.RUNNING or run.stopped is not None:
        return NOTHING
    if len(run.tasks) < run.task_count:
        return Decision(tuple(_declarations(run, now)))
    if run.git_failure is None and run.git.mode == "commit" and not run.git_begun:
        return Decision((BeginBranch(run.git.branch, run.git.base), *_eager_starts(run)))
    task = run.task
    if task is None:
        return _next_task(run, now)
    if task.ended:
        return _close(run, task, now)
    broken = next((run.agent(role).broken for role in LOOP_ROLES if run.agent(role).broken), None)
    if broken is not None:
        return _give_up(run, task, broken, now)
    stop = _stop(run, task, now)
    if stop is not None:
        return stop
    starts = _eager_starts(run)
    if task.snapshot_id is None:
        ask = _append(run, task, SnapshotRequested(), now)
        return Decision((*starts, Capture(task.task_id, run.resumes) if task.snapshot_requested else ask))
    if run.drift_due:
        # nobody is sent anything before it is told: from then on changes are somebody's work
        return Decision((*starts, CheckDrift(task.task_id, task.snapshot_id, tuple(task.claims), run.resumes)))
    return _with_orders(starts, _step(run, task, now, draw))


def _declarations(run: Run, now: Moment) -> Iterator[Append]:
    declared_already = len(run.tasks)
    for index, declared in enumerate(run.planned[declared_already : declared_already + DECLARED_AT_ONCE]):
        task_id = declared.get("id")
        if isinstance(task_id, str) and task_id not in run.tasks:
            yield Append(
                event_of(
                    TaskDeclared(declared_already + index, declared),
                    task_id=task_id,
                    correlation_id=task_id,
                    now_ms=now.wall_ms,
                    cause=(task_id,),
                )
            )


def _next_task(run: Run, now: Moment) -> Decision:
    failed = any(task.status is TaskStatus.FAILED for task in run.tasks.values())
    stopping = run.git_failure is not None or (failed and run.on_failure == "stop")
    waiting = (task for task in run.tasks.values() if task.status is TaskStatus.PENDING)
    task = None if stopping else next(waiting, None)
    if task is None:
        status = RunStatus.FAILED if failed or run.git_failure else RunStatus.COMPLETED
        return Decision((_append_for_run(run, RunFinished(status), now, run.resumes),))
    spent = budget.used_up(run, None, now) or accounts.not_worth_waiting(run, LOOP_ROLES, now)
    if spent is not None:
        return _stopping(run, spent, now)
    first_step = max(task.next_step, run.first_steps.get(task.task_id, 1))
    title = task.declared.get("title")
    started = TaskStarted(first_step, title if isinstance(title, str) else "")
    return Decision((_append(run, task, started, now), *_eager_starts(run)))


def _stop(run: Run, task: Task, now: Moment) -> Decision | None:
    """Stop, resumably, when there is nothing to go on with: no budget, or an account nobody may wait for.

    What is under way is let come to its end, unless it is its time that is used up.
    """
    pending = task.pending
    if pending is not None and (pending.answer is not None or pending.loss is not None):
        is_over = pending.loss is not None and pending.loss.code == FailureCode.OVER_BUDGET
        spent = budget.used_up(run, task, now) if is_over else None
        return _stopping(run, spent, now) if spent is not None else None
    if pending is not None and pending.delivered_to is not None:
        is_late = budget.left_ms(run, task, now) == 0
        spent = budget.used_up(run, task, now) if is_late else None
        return _stopping(run, spent, now) if spent is not None else None
    if pending is None and task.step is None:
        return None
    action = pending.command.action if pending is not None else task.step.action  # type: ignore[union-attr]
    why = budget.used_up(run, task, now) or accounts.not_worth_waiting(run, (ROLE_OF_ACTION[action],), now)
    return _stopping(run, why, now) if why is not None else None


def _stopping(run: Run, why: FailureNote, now: Moment) -> Decision:
    return Decision((_append_for_run(run, RunStopped(run.resumes, why.code, why.message), now, run.resumes),))


def _eager_starts(run: Run) -> tuple[Order, ...]:
    """Start every agent of the loop once per orchestrator, all at the same time."""
    return tuple(
        StartAgent(role, run.agent(role).starts)
        for role in LOOP_ROLES
        if run.agent(role).starts == 0 and run.agent(role).up is None and run.agent(role).not_before is None
    )


def _step(run: Run, task: Task, now: Moment, draw: float) -> Decision:
    pending = task.pending
    if pending is not None:
        if pending.deaths and pending.deaths >= run.policy.max_orchestrator_deaths:
            return _give_up(run, task, _death_note(pending), now)
        if pending.loss is not None:
            return Decision((after_loss(run, task, pending, pending.loss, now, draw),))
        if pending.answer is not None:
            return Decision((_on_answer(task, pending, pending.answer, now),))
        if pending.delivered_to is not None:
            return _await_answer(run, task, pending, now)
    assert pending is not None or task.step is not None
    action = pending.command.action if pending else task.step.action  # type: ignore[union-attr]
    return _deliver(run, task, ROLE_OF_ACTION[action], now, draw)


def _deliver(run: Run, task: Task, role: AgentRole, now: Moment, draw: float) -> Decision:
    agent = run.agent(role)
    limited_ms = accounts.wait_ms(run, role, now)
    if limited_ms > 0 and agent.loss is None:
        return Decision(wake_after_ms=limited_ms)
    if agent.up is None or agent.ending:
        if agent.up is not None:
            return NOTHING  # until its exit is in the ledger
        if agent.loss is not None:
            return Decision((after_idle_death(run, task, role, agent.loss, now, draw),))
        wait_ms = agent.not_before.wait_ms(now) if agent.not_before else 0
        if wait_ms > 0:
            return Decision(wake_after_ms=wait_ms)
        return Decision((StartAgent(role, agent.starts),))
    if task.pending is not None:
        return Decision((Append(next_delivery(run, task, now, agent.up)),))
    assert task.step is not None
    command, file = first_delivery(run, task, task.step, now, agent.up)
    return Decision((Append(command, file),))


def _await_answer(run: Run, task: Task, pending: Pending, now: Moment) -> Decision:
    asked = answers(run, task, pending, now)
    if asked is not None:
        return asked  # the deadline's clock stands still
    command = pending.command
    role = ROLE_OF_ACTION[command.action]
    limit_s = timeout_s(run, role, command.action)
    limit_ms = round(limit_s * 1000)
    if pending.delivered_ms:
        left_ms = pending.delivered_ms + limit_ms - now.steady_ms
    else:  # delivered before this conductor was there: only the wall knows when
        left_ms = min(limit_ms, from_timestamp(pending.deadline or command.deadline) - now.wall_ms)
    if left_ms > 0:
        budget_ms = budget.left_ms(run, task, now)
        return Decision(wake_after_ms=left_ms if budget_ms is None else min(left_ms, budget_ms))
    assert pending.delivered_to is not None
    message = f"no answer to {command.action} within {limit_s:g} s; agents.{role}.timeouts_s.{command.action} sets it"
    note = CommandTimedOut(pending.delivered_to, pending.deliveries, message)
    return Decision((_append(run, task, note, now, command.correlation_id, pending.deliveries),))


def _on_answer(task: Task, pending: Pending, answer: Answer, now: Moment) -> Order:
    command = pending.command
    if answer.objection is None:
        artifacts = tuple(
            ClaimedArtifact(path=one.path, sha256=one.sha256, size=one.size) for one in answer.event.artifacts or ()
        )
        outputs = tuple(command.expected_outputs)
        return Verify(task.task_id, command.correlation_id, answer.seq, artifacts, outputs)
    note = {"code": answer.objection.code, "message": answer.objection.message, "retryable": True}
    return Append(
        Event(
            message_id=f"sys-error:{command.correlation_id}:{answer.seq}",
            correlation_id=command.correlation_id,
            task_id=task.task_id,
            sender=SYSTEM,
            event="error",
            payload=note,
            occurred_at=to_timestamp(now.wall_ms),
        )
    )


def _death_note(pending: Pending) -> FailureNote:
    message = (
        f"the orchestrator died {pending.deaths} times under {pending.command.action} "
        "before its agent said anything; look into logs/ and the system's own log"
    )
    return FailureNote(FailureCode.ORCHESTRATOR_CRASH_LOOP, message, ROLE_OF_ACTION[pending.command.action])


def _give_up(run: Run, task: Task, failure: FailureNote, now: Moment) -> Decision:
    agent_id = task.pending.delivered_to if task.pending else None
    return Decision((_append(run, task, CommandFailed(failure, agent_id), now, task.attempts),))


def _close(run: Run, task: Task, now: Moment) -> Decision:
    """Close a task whose fate is decided: its agent is gone, its changes are committed, then it is finished."""
    if any(agent.ending and agent.up is not None for agent in run.agents.values()):
        return NOTHING
    if run.git.mode == "commit" and run.git_begun and not _git_done(task):
        return Decision((_commit_order(run, task, now),))
    status = TaskStatus.FAILED if task.failure else TaskStatus.COMPLETED
    return Decision((_append(run, task, TaskFinished(status, task.failure), now, task.attempts),))


def _git_done(task: Task) -> bool:
    return task.commit is not None and (task.commit.made or bool(task.commit.failure))


def _commit_order(run: Run, task: Task, now: Moment) -> Order:
    purpose = "set_aside" if task.failure else "commit"
    if task.commit is None:
        branch = f"lorch-failed/{run.run_id}/{task.task_id}" if task.failure else run.git.branch
        return _append(run, task, CommitIntended(purpose, branch), now, purpose, task.attempts)
    title = task.declared.get("title") or task.declared.get("goal") or task.task_id
    reason = task.failure.message if task.failure else ""
    intent = task.commit
    return Commit(task.task_id, intent.purpose, str(title), intent.intended_at, reason, intent.branch, run.git_head)


def _append(run: Run, task: Task, payload: Payload, now: Moment, *cause: object) -> Append:
    correlation = task.pending.command.correlation_id if task.pending else task.task_id
    event = event_of(
        payload,
        task_id=task.task_id,
        correlation_id=correlation,
        now_ms=now.wall_ms,
        cause=(task.task_id, run.resumes, *cause),
    )
    return Append(event)


def _append_for_run(run: Run, payload: Payload, now: Moment, *cause: object) -> Append:
    return Append(event_of(payload, task_id=run.run_id, correlation_id=run.run_id, now_ms=now.wall_ms, cause=cause))


def _with_orders(first: tuple[Order, ...], decision: Decision) -> Decision:
    if not first:
        return decision
    orders = {order.key: order for order in (*first, *decision.orders)}
    return Decision(tuple(orders.values()), decision.wake_after_ms)
