"""What a run waits for, as it is shown: the command under way, leave that is asked for, limits of accounts. Pure."""

from typing import Literal

from lorch_actors.cli.output import one_line, visible
from lorch_actors.cli.run_documents import ApprovalLine, LimitLine, PendingBody
from lorch_actors.protocol.ids import shown_approval_id
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.accounts import account_of, limit_of, wait_ms
from lorch_actors.workflow.state import LOOP_ROLES, Limit, Moment, Pending, Run


def pending_body(run: Run, now_ms: int) -> PendingBody | None:
    """Return the command under way, if there is one. ``now_ms``: since the epoch."""
    task, pending = run.task, run.pending
    if task is None or pending is None:
        return None
    command = pending.command
    role = command.to.agent_type
    not_before = run.agent(role).not_before
    waiting = pending.delivered_to is None and not_before is not None
    is_limited = pending.delivered_to is None and wait_ms(run, role, Moment(now_ms, 0)) > 0
    given_round = command.inputs.get("round")
    asking = any(line.waiting for line in approval_lines(run))
    return PendingBody(
        task_id=task.task_id,
        action=command.action.value,
        agent=command.to.agent_type,
        round=given_round if isinstance(given_round, int) else None,
        attempt=pending.attempt + 1,
        max_attempts=command.retry.max_attempts,
        deliveries=pending.deliveries,
        deadline=pending.deadline or command.deadline,
        waiting_for="limit" if is_limited else _waiting_for(pending, is_waiting=waiting, is_asking=asking),
        retry_at=to_timestamp(not_before.wall_ms) if waiting and not_before is not None else None,
    )


def _waiting_for(
    pending: Pending, *, is_waiting: bool, is_asking: bool
) -> Literal["answer", "approval", "retry", "verification"]:
    if pending.answer is not None:
        return "verification"
    if is_waiting:
        return "retry"
    return "approval" if is_asking else "answer"


def approval_lines(run: Run) -> list[ApprovalLine]:
    """Return what agents ask leave for and have no answer to."""
    task, pending = run.task, run.pending
    if task is None or pending is None:
        return []
    return [
        ApprovalLine(
            approval_id=one.approval_id,
            task_id=task.task_id,
            agent=pending.command.to.agent_type,
            tool=one.tool,
            input=one.input,
            message=one.message,
            waiting=one.agent_id == pending.delivered_to,
            until=to_timestamp(one.until.wall_ms) if one.until is not None else None,
        )
        for one in pending.approvals.values()
    ]


def approval_text(approval: ApprovalLine) -> str:
    """Return in full what is asked for: nobody should allow what he could not read."""
    import json

    given = json.dumps(approval.input, ensure_ascii=False, indent=2) if approval.input else ""
    words = f" ({visible(approval.message)})" if approval.message else ""
    name = shown_approval_id(approval.approval_id)
    return f"{name}: {approval.agent} asks for {visible(approval.tool)}{words} {visible(given)}".rstrip()


def limit_lines(run: Run, now_ms: int) -> list[LimitLine]:
    """Return the limits that hold now. ``now_ms``: since the epoch."""
    now = Moment(wall_ms=now_ms, steady_ms=0)
    users: dict[Limit, list[str]] = {}  # one limit, also where an agent has another name for the account
    for role in LOOP_ROLES:
        limit = limit_of(run, role)
        if limit is not None and limit.until.wait_ms(now) > 0:
            users.setdefault(limit, []).append(role)
    return [
        LimitLine(
            account=account_of(run, limit.role),
            agents=roles,
            code=limit.code,
            message=limit.message,
            until=to_timestamp(limit.until.wall_ms),
            wait_s=limit.until.wait_ms(now) / 1000,
        )
        for limit, roles in users.items()
    ]


def limit_text(limit: LimitLine) -> str:
    """Return a limit for people, with the time that is left."""
    whom = f"{visible(limit.account)} ({', '.join(limit.agents)})"
    return f"{whom} until {limit.until}, in {countdown(limit.wait_s)}: {one_line(limit.message)}"


def countdown(seconds: float) -> str:
    """Return the time that is left: ``42 s``, ``3 min 05 s``, ``4 h 59 min 00 s``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min {left:02d} s"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def asking_text(approval: ApprovalLine) -> list[str]:
    """Return a request for people, and how to answer it."""
    name = shown_approval_id(approval.approval_id)
    if not approval.waiting:
        how = "will ask again when its command is sent again; an answer counts until then"
    else:
        how = f"waits for an answer until {approval.until}" if approval.until else "waits for an answer"
    return [approval_text(approval), f"  {how}: `lorch approve {name}` or `lorch deny {name}`"]


def pending_text(pending: PendingBody) -> str:
    """Return the command under way for people."""
    text = f"{pending.action} of {pending.task_id} with {pending.agent}"
    text += f", round {pending.round}" if pending.round is not None else ""
    text += f", attempt {pending.attempt} of {pending.max_attempts}"
    match pending.waiting_for:
        case "limit":
            return f"{text}, waits for the end of a limit"
        case "retry":
            return f"{text}, to be sent again at {pending.retry_at}"
        case "approval":
            return f"{text}, asks for leave; its deadline stands still"
        case "verification":
            return f"{text}, its artifacts are being checked"
        case _:
            return f"{text}, until {pending.deadline}"
