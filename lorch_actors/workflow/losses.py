"""What to do about a lost delivery: send it again, wait, or give the task up."""

from typing import Final

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.configuration import Backoff
from lorch_actors.protocol.messages import ROLE_OF_ACTION, AgentRole
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.accounts import account_of
from lorch_actors.workflow.orders import Append
from lorch_actors.workflow.parts import FailureNote, LimitNote
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.state import Loss, Moment, Pending, Run, Task
from lorch_actors.workflow.system import CommandFailed, RetryScheduled

WAIT_FLOOR_MAX_MS: Final = 60_000


def after_loss(run: Run, task: Task, pending: Pending, loss: Loss, now: Moment, draw: float) -> Append:
    """Return the entry that says what becomes of a command whose delivery was lost."""
    role = ROLE_OF_ACTION[pending.command.action]
    attempt = pending.attempt + (1 if loss.counted else 0)
    wished_ms = max(_wished_ms(loss, now), _patience_ms(pending))
    failure = _verdict(run, pending, loss, role, attempt, wished_ms)
    limit = None if loss.counted or loss.fatal else _limit(run, role, loss, wished_ms, now)
    if failure is not None:
        note: Payload = CommandFailed(failure, _alive(run, role, pending), limit)
    else:
        delay_ms = (
            wished_ms if not loss.counted else backoff_ms(run.policy.retry.backoff, run.agent(role).restarts, draw)
        )
        note = RetryScheduled(
            agent_type=role,
            attempt=attempt,
            delay_ms=delay_ms,
            not_before=to_timestamp(now.wall_ms + delay_ms),
            code=loss.code,
            message=loss.message,
            agent_id=_alive(run, role, pending),
            waited_ms=0 if loss.counted else max(1, delay_ms),
            limit=limit,
        )
    return _append(run, task, note, now, pending.command.correlation_id, pending.deliveries)


def _limit(run: Run, role: AgentRole, loss: Loss, wait_ms: int, now: Moment) -> LimitNote:
    until = to_timestamp(now.wall_ms + wait_ms)
    return LimitNote(loss.account or account_of(run, role), until, wait_ms, loss.code, loss.message)


def after_idle_death(run: Run, task: Task, role: AgentRole, loss: Loss, now: Moment, draw: float) -> Append:
    """Return the entry that says when an agent that died without a command is started again."""
    agent = run.agent(role)
    correlation = task.pending.command.correlation_id if task.pending else task.task_id
    if agent.restarts >= run.policy.max_agent_restarts:
        return _append(run, task, CommandFailed(_restart_limit(run, role, loss)), now, correlation, task.attempts)
    delay_ms = backoff_ms(run.policy.retry.backoff, agent.restarts, draw)
    note = RetryScheduled(
        agent_type=role,
        attempt=task.pending.attempt if task.pending else 0,
        delay_ms=delay_ms,
        not_before=to_timestamp(now.wall_ms + delay_ms),
        code=loss.code,
        message=loss.message,
    )
    return _append(run, task, note, now, correlation, "idle", role, agent.starts)


def backoff_ms(backoff: Backoff, restarts: int, draw: float) -> int:
    """Return the wait before the next start, in milliseconds: none at first, then exponential with full jitter.

    ``restarts``: how often the agent was restarted since its last settled step. ``draw``: random, in [0, 1).
    The scheme is the "full jitter" of M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    if restarts == 0:
        return 0
    exponent = min(restarts - 1, 64)
    ceiling = min(float(backoff.max_ms), backoff.initial_ms * backoff.multiplier**exponent)
    return round(ceiling * draw if backoff.jitter == "full" else ceiling)


def _wished_ms(loss: Loss, now: Moment) -> int:
    if loss.until_ms is not None:
        return max(0, loss.until_ms - now.wall_ms)
    return loss.wait_ms or 0


def _patience_ms(pending: Pending) -> int:
    """Return the shortest wait after as many waits: an agent that always asks for none at all must not spin."""
    return min(WAIT_FLOOR_MAX_MS, 500 * 2 ** min(pending.waits, 16)) if pending.waits else 0


def _verdict(
    run: Run, pending: Pending, loss: Loss, role: AgentRole, attempt: int, wished_ms: int
) -> FailureNote | None:
    """Return why the command is given up, or None when it is to be sent again."""
    if loss.fatal:
        return FailureNote(loss.code, loss.message, role)
    if not loss.counted:
        max_wait_s = run.policy.max_wait_s
        if pending.waited_ms + wished_ms <= max_wait_s * 1000:
            return None
        message = f"{loss.message}; waiting for it would take more than policy.max_wait_s ({max_wait_s:g} s)"
        return FailureNote(FailureCode.WAIT_EXHAUSTED, message, role)
    if attempt >= pending.command.retry.max_attempts:
        return FailureNote(loss.code, f"{loss.message} (attempt {attempt} of {attempt}, the last)", role)
    if run.agent(role).restarts >= run.policy.max_agent_restarts:
        return _restart_limit(run, role, loss)
    return None


def _restart_limit(run: Run, role: AgentRole, loss: Loss) -> FailureNote:
    message = (
        f"the {role} was restarted {run.policy.max_agent_restarts} times without a settled step between them; "
        f"last: {loss.message}"
    )
    return FailureNote(FailureCode.AGENT_RESTART_LIMIT, message, role)


def _alive(run: Run, role: AgentRole, pending: Pending) -> str | None:
    """Return the incarnation that had the command, if it is still to be ended."""
    up = run.agent(role).up
    return up if up is not None and up == pending.delivered_to else None


def _append(run: Run, task: Task, note: Payload, now: Moment, correlation: str, *cause: object) -> Append:
    whole = (correlation, run.resumes, *cause)
    return Append(event_of(note, task_id=task.task_id, correlation_id=correlation, now_ms=now.wall_ms, cause=whole))
