"""From the state of a run to what is shown of it. Pure: no clock, no file, no terminal."""

import json
from typing import Literal

from lorch_actors.cli.documents import ArtifactLine, StepLine
from lorch_actors.cli.output import one_line, visible
from lorch_actors.cli.run_documents import (
    AgentLine,
    ApprovalLine,
    FailureBody,
    HolderBody,
    PendingBody,
    StatusDocument,
    TaskLine,
)
from lorch_actors.protocol.documents import Receipt
from lorch_actors.protocol.messages import ROLES
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.state import Pending, Run, Task
from lorch_actors.workflow.system import FailureNote


def failure_body(note: FailureNote | None) -> FailureBody | None:
    """Return a failure as it is printed."""
    return None if note is None else FailureBody(code=note.code, message=note.message, agent=note.agent)


def title_of(task: Task) -> str:
    """Return what to call a task beside its id: its title, or its goal."""
    for key in ("title", "goal"):
        given = task.declared.get(key)
        if isinstance(given, str) and given:
            return one_line(given, 80)
    return ""


def task_line(task: Task) -> TaskLine:
    """Return one task as it is printed."""
    commit = task.commit
    return TaskLine(
        task_id=task.task_id,
        title=title_of(task),
        status=task.status.value,
        stage=task.stage.value,
        rounds=task.rounds,
        attempts=task.attempts,
        snapshot_id=task.snapshot_id,
        branch=commit.branch if commit is not None and commit.commit else None,
        commit=commit.commit if commit is not None and commit.commit else None,
        failure=failure_body(task.failure),
    )


def pending_body(run: Run) -> PendingBody | None:
    """Return the command under way, if there is one."""
    task, pending = run.task, run.pending
    if task is None or pending is None:
        return None
    command = pending.command
    not_before = run.agent(command.to.agent_type).not_before
    waiting = pending.delivered_to is None and not_before is not None
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
        deadline=command.deadline,
        waiting_for=_waiting_for(pending, is_waiting=waiting, is_asking=asking),
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
    given = json.dumps(approval.input, ensure_ascii=False, indent=2) if approval.input else ""
    words = f" ({visible(approval.message)})" if approval.message else ""
    return (
        f"{approval.approval_id}: {approval.agent} asks for {visible(approval.tool)}{words} {visible(given)}".rstrip()
    )


def status_document(run: Run, workspace: str, holder: HolderBody | None) -> StatusDocument:
    """Return what `status` prints; holder: who holds the workspace now."""
    return StatusDocument(
        run_id=run.run_id,
        status=run.status.value,
        active=holder is not None and holder.run_id == run.run_id,
        workspace=workspace,
        holder=holder,
        started_at=run.started_at,
        completed_at=run.completed_at,
        current_task=run.current,
        tasks=[task_line(task) for task in run.tasks.values()],
        agents=[
            AgentLine(
                agent=role, up=run.agent(role).up, starts=run.agent(role).starts, restarts=run.restarts.get(role, 0)
            )
            for role in ROLES
            if role in run.agents
        ],
        restarts=dict(run.restarts),
        resumes=run.resumes,
        pending=pending_body(run),
        approvals=approval_lines(run),
        stopped=failure_body(run.stopped),
    )


def status_text(status: StatusDocument) -> str:
    """Return the status for people."""
    lines = [_headline(status), "", *task_table(status.tasks)]
    if status.pending is not None:
        lines += ["", f"Under way: {_pending_text(status.pending)}"]
    for approval in status.approvals:
        lines += ["", *_asking(approval)]
    up = [f"{agent.agent} {'up' if agent.up else 'down'}" for agent in status.agents]
    if up and status.active:
        lines.append(f"Agents:    {', '.join(up)}")
    if status.restarts:
        lines.append(f"Restarts:  {counts(status.restarts)}")
    if status.resumes:
        lines.append(f"Resumed:   {times(status.resumes)}")
    if status.status == "running" and not status.active:
        lines += ["", f"Interrupted; `lorch resume --run {status.run_id}` goes on."]
    return "\n".join(lines)


def _headline(status: StatusDocument) -> str:
    if status.status != "running":
        how = f"{status.status} {status.completed_at or ''}".rstrip()
    elif status.active and status.holder is not None:
        how = f"running in process {status.holder.pid}"
    else:
        how = f"interrupted: {one_line(status.stopped.message)}" if status.stopped is not None else "interrupted"
    return f"{status.run_id}  {how}  (started {status.started_at or 'never'})"


def _asking(approval: ApprovalLine) -> list[str]:
    name = approval.approval_id
    if not approval.waiting:
        how = "will ask again when its command is sent again; an answer counts until then"
    else:
        how = f"waits for an answer until {approval.until}" if approval.until else "waits for an answer"
    return [approval_text(approval), f"  {how}: `lorch approve {name}` or `lorch deny {name}`"]


def _pending_text(pending: PendingBody) -> str:
    text = f"{pending.action} of {pending.task_id} with {pending.agent}"
    text += f", round {pending.round}" if pending.round is not None else ""
    text += f", attempt {pending.attempt} of {pending.max_attempts}"
    match pending.waiting_for:
        case "retry":
            return f"{text}, to be sent again at {pending.retry_at}"
        case "approval":
            return f"{text}, asks for leave; its deadline stands still"
        case "verification":
            return f"{text}, its artifacts are being checked"
        case _:
            return f"{text}, until {pending.deadline}"


def task_table(tasks: list[TaskLine]) -> list[str]:
    """Return tasks as a table, one a line, and below a failed one what failed and why."""
    if not tasks:
        return ["(no tasks)"]
    width = max(len(task.task_id) for task in tasks)
    lines = []
    for task in tasks:
        stage = f"{task.status} ({task.stage})" if task.status == "running" else task.status
        numbers = f"rounds {task.rounds}, attempts {task.attempts}" if task.attempts else ""
        lines.append(f"  {task.task_id:<{width}}  {stage:<24}{numbers:<26}{task.title}".rstrip())
        if task.failure is not None:
            lines.append(f"  {'':<{width}}  {failure_text(task.failure)}")
    return lines


def failure_text(failure: FailureBody) -> str:
    """Return why something failed, in one line."""
    whom = f" ({failure.agent})" if failure.agent else ""
    return f"{failure.code}{whom}: {one_line(failure.message, 400)}"


def counts(numbers: dict[str, int]) -> str:
    """Return named numbers in one line, in the order of their names."""
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items()))


def times(number: int) -> str:
    """Return ``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def duration(seconds: float) -> str:
    """Return a duration for people: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``7 h 12 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(size_bytes: int) -> str:
    """Return a size for people: ``812 B``, ``1.4 KiB``."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def step_line(receipt: Receipt, path: str) -> StepLine:
    """Return one settled step as it is printed; path: of its receipt, below the workspace."""
    return StepLine(
        task_id=receipt.task_id,
        step=receipt.step,
        action=receipt.action.value,
        idempotency_key=receipt.idempotency_key,
        snapshot_id=receipt.snapshot_id,
        correlation_id=receipt.correlation_id,
        tests=receipt.tests.get("status") if receipt.tests is not None else None,
        events=len(receipt.events),
        artifacts=[ArtifactLine(path=one.path, sha256=one.sha256, size=one.size) for one in receipt.artifacts],
        created_at=receipt.created_at,
        receipt=path,
    )
