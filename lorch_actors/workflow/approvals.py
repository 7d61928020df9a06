"""Leave that an agent asks for in the middle of a command: what a request is, who answers it, and when.

A request is known by an id that follows from command, tool and input, and from how often the same was asked in this
delivery. So a process that was started anew and asks again is answered as a person answered before. Under ``allow`` and
``workspace`` the policy answers; under ``ask`` a person does, or nobody until the time is up, which means no.
"""

import hashlib
from typing import Final, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.canonical import canonical
from lorch_actors.protocol.ids import approval_id
from lorch_actors.protocol.messages import ROLE_OF_ACTION, Entry, Event, Object, Text
from lorch_actors.protocol.times import from_timestamp, to_timestamp
from lorch_actors.workflow.orders import Append, AskOperator, Decision, Order
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.state import (
    Approval,
    Loss,
    Meaning,
    Moment,
    NotBefore,
    Pending,
    Run,
    Task,
    Told,
    with_pending,
)
from lorch_actors.workflow.system import ApprovalAnswered, ApprovalRequested

REQUESTS_MAX: Final = 1000
"""How often an agent may ask in one delivery, and how many answers are remembered."""

OPEN_MAX: Final = 100
"""How many requests may wait at a time."""

INPUT_KEPT_BYTES: Final = 16 * 1024
"""A longer input is kept by its beginning; the whole stands in the agent's own event."""


class _Asked(Struct, frozen=True):
    """The payload of ``approval.requested``."""

    request_id: Text
    tool: Text
    input: Object = field(default_factory=dict)
    message: str = ""


def what_is_wrong(event: Event) -> str:
    """Return why a request cannot be answered, empty when it can."""
    try:
        msgspec.convert(event.payload or {}, _Asked)
    except msgspec.ValidationError as error:
        return f"the request for leave cannot be answered: payload: {error}"
    return ""


# -- what the ledger says ---------------------------------------------------------------------------------------


def requested(pending: Pending, event: Event, entry: Entry) -> Pending:
    """Return the command after its agent has asked for leave."""
    if what_is_wrong(event) or pending.delivered_to is None:
        return pending
    asked = msgspec.convert(event.payload or {}, _Asked)
    if sum(pending.asked.values()) >= REQUESTS_MAX or len(pending.open_requests) >= OPEN_MAX:
        message = f"it asked for leave more than {REQUESTS_MAX} times in one command, or {OPEN_MAX} times at once"
        return replace(pending, loss=Loss(FailureCode.TOO_MANY_REQUESTS, message))
    text = canonical([pending.command.correlation_id, asked.tool, asked.input])
    same = hashlib.sha256(text).hexdigest()
    nth = pending.asked.get(same, 0) + 1
    approval = Approval(
        approval_id=approval_id(f"{same}:{nth}"),
        request_id=asked.request_id,
        agent_id=pending.delivered_to,
        event_seq=entry.seq,
        tool=asked.tool,
        input=_kept(asked.input),
        message=asked.message,
    )
    return replace(
        pending,
        approvals={**pending.approvals, approval.approval_id: approval},
        asked={**pending.asked, same: nth},
        paused_at_ms=pending.paused_at_ms or entry.heard_ms,
    )


def _kept(given: Object) -> Object:
    text = msgspec.json.encode(given)
    if len(text) <= INPUT_KEPT_BYTES:
        return given
    return {"begins": text[:INPUT_KEPT_BYTES].decode("utf-8", "replace"), "size_bytes": len(text)}


def delivered_anew(pending: Pending) -> Pending:
    """Return the command as it is sent once more: who asked is gone, what was answered is remembered."""
    open_ = list(pending.approvals.items())[-REQUESTS_MAX:]
    decided = list(pending.decided.items())[-REQUESTS_MAX:]
    return replace(pending, approvals=dict(open_), decided=dict(decided), asked={}, paused_at_ms=0)


def _approval_requested(run: Run, note: ApprovalRequested, told: Told) -> Run:
    pending = run.pending
    approval = pending and pending.approvals.get(note.approval_id)
    if not pending or not approval or approval.agent_id != note.agent_id:
        return run
    steady_ms = told.heard_ms + note.delay_ms if told.heard_ms else None
    until = NotBefore(from_timestamp(note.expires_at), steady_ms, note.delay_ms)
    approval = replace(approval, until=until, asked_at=told.occurred_at)
    return with_pending(run, replace(pending, approvals={**pending.approvals, approval.approval_id: approval}))


def _approval_answered(run: Run, note: ApprovalAnswered, told: Told) -> Run:
    pending = run.pending
    if pending is None or told.correlation_id != pending.command.correlation_id:
        return run
    if note.by == "timeout":
        run = replace(run, unanswered=run.unanswered + 1)
    if note.by == "operator":
        pending = replace(pending, decided={**pending.decided, note.approval_id: note.decision == "allow"})
    approval = pending.approvals.get(note.approval_id)
    if approval is not None and approval.agent_id == note.agent_id:
        left = {name: one for name, one in pending.approvals.items() if name != note.approval_id}
        waited_ms = _between(approval.asked_at, told.occurred_at)
        pending = _going_on(replace(pending, approvals=left, waited_ms=pending.waited_ms + waited_ms), told)
    return with_pending(run, pending)


def _between(asked_at: str | None, answered_at: str) -> int:
    return max(0, from_timestamp(answered_at) - from_timestamp(asked_at)) if asked_at is not None else 0


def _going_on(pending: Pending, told: Told) -> Pending:
    """Let the clock of the deadline go on where it stopped, when the last open request is answered."""
    if pending.open_requests or not pending.paused_at_ms:
        return pending
    stood_ms = max(0, told.heard_ms - pending.paused_at_ms)
    return replace(pending, delivered_ms=pending.delivered_ms and pending.delivered_ms + stood_ms, paused_at_ms=0)


MEANINGS: Final[dict[type[Payload], Meaning]] = {
    ApprovalRequested: _approval_requested,
    ApprovalAnswered: _approval_answered,
}


# -- what comes next --------------------------------------------------------------------------------------------


def answers(run: Run, task: Task, pending: Pending, now: Moment) -> Decision | None:
    """Return what to do about open requests, None when there are none."""
    open_ = pending.open_requests
    if not open_:
        return None
    orders = tuple(_next(run, task, pending, approval, now) for approval in open_)
    waits = [approval.until.wait_ms(now) for approval in open_ if approval.until is not None]
    return Decision(orders, min((wait for wait in waits if wait > 0), default=None))


def _next(run: Run, task: Task, pending: Pending, approval: Approval, now: Moment) -> Order:
    role = ROLE_OF_ACTION[pending.command.action]
    permissions = run.agent_settings.get(role, {}).get("permissions")
    if permissions != "ask":
        allowed = permissions == "allow"
        reason = "" if allowed else f"agents.{role}.permissions is workspace: nobody is asked for more"
        return _answer(task, pending, approval, now, "allow" if allowed else "deny", "policy", reason)
    if approval.approval_id in pending.decided:
        allowed = pending.decided[approval.approval_id]
        return _answer(task, pending, approval, now, "allow" if allowed else "deny", "operator", "answered before")
    timeout_ms = round(run.policy.approval_timeout_s * 1000)
    if approval.until is None:
        left_ms = max(0, round(run.policy.max_wait_s * 1000) - pending.waited_ms)
        return _ask(task, pending, approval, now, min(timeout_ms, left_ms))
    if approval.until.wait_ms(now) <= 0:
        reason = f"nobody answered within {approval.until.delay_ms / 1000:g} s (policy.approval_timeout_s)"
        return _answer(task, pending, approval, now, "deny", "timeout", reason)
    return AskOperator(
        task_id=task.task_id,
        correlation_id=pending.command.correlation_id,
        role=role,
        approval_id=approval.approval_id,
        agent_id=approval.agent_id,
        request_id=approval.request_id,
    )


def _ask(task: Task, pending: Pending, approval: Approval, now: Moment, delay_ms: int) -> Append:
    note = ApprovalRequested(
        approval_id=approval.approval_id,
        agent_type=ROLE_OF_ACTION[pending.command.action],
        agent_id=approval.agent_id,
        request_id=approval.request_id,
        tool=approval.tool,
        input=approval.input,
        message=approval.message,
        event_seq=approval.event_seq,
        delay_ms=delay_ms,
        expires_at=to_timestamp(now.wall_ms + delay_ms),
    )
    return _append(task, pending, note, approval, now)


def _answer(
    task: Task,
    pending: Pending,
    approval: Approval,
    now: Moment,
    decision: Literal["allow", "deny"],
    by: Literal["policy", "operator", "timeout"],
    reason: str,
) -> Append:
    note = ApprovalAnswered(
        approval_id=approval.approval_id,
        agent_type=ROLE_OF_ACTION[pending.command.action],
        agent_id=approval.agent_id,
        request_id=approval.request_id,
        decision=decision,
        by=by,
        reason=reason,
    )
    return _append(task, pending, note, approval, now)


def _append(
    task: Task, pending: Pending, note: ApprovalRequested | ApprovalAnswered, approval: Approval, now: Moment
) -> Append:
    correlation = pending.command.correlation_id
    event = event_of(
        note,
        task_id=task.task_id,
        correlation_id=correlation,
        now_ms=now.wall_ms,
        cause=(approval.approval_id, approval.agent_id),
    )
    return Append(event)
