"""From the state of a run to what is shown of it. Pure: no clock, no file, no terminal."""

from lorch_actors.cli.output import one_line
from lorch_actors.cli.run_documents import (
    AgentLine,
    AmountsBody,
    FailureBody,
    HolderBody,
    SpentBody,
    StatusDocument,
    TaskLine,
)
from lorch_actors.cli.waiting import (
    approval_lines,
    asking_text,
    limit_lines,
    limit_text,
    pending_body,
    pending_text,
)
from lorch_actors.protocol.configuration import Amounts
from lorch_actors.protocol.messages import ROLES
from lorch_actors.workflow.budget import MICRO, spent_now
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.state import Moment, Run, Task


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


def spent_body(run: Run, now_ms: int) -> SpentBody:
    """Return what the run has spent and may. ``now_ms``: since the epoch; of a run that nobody works on, its end."""
    spent = spent_now(run, Moment(wall_ms=now_ms, steady_ms=0))
    budget = run.policy.budget
    return SpentBody(
        usd=spent.usd_micro / MICRO,
        tokens=spent.tokens,
        work_s=spent.work_ms / 1000,
        commands=spent.commands,
        priced=spent.priced,
        counted=spent.counted,
        budget=_amounts(budget),
        task_budget=_amounts(budget.task),
    )


def _amounts(amounts: Amounts) -> AmountsBody:
    return AmountsBody(usd=amounts.usd, tokens=amounts.tokens, wall_s=amounts.wall_s)


def spent_text(spent: SpentBody) -> str:
    """Return what was spent for people, empty when nobody told anything and nothing is limited."""
    limits, told = spent.budget, []
    if spent.priced or limits.usd is not None:
        told.append(f"{money(spent.usd)}{_of(limits.usd)} US dollars{_silent(spent.commands - spent.priced, spent)}")
    if spent.counted or limits.tokens is not None:
        told.append(f"{spent.tokens:,}{_of(limits.tokens)} tokens{_silent(spent.commands - spent.counted, spent)}")
    if limits.wall_s is not None:
        told.append(f"{spent.work_s:.0f}{_of(limits.wall_s)} seconds of work")
    return ", ".join(told)


def money(usd: float) -> str:
    """Return US dollars for people: cents, and of small sums what a cent would hide."""
    return f"{usd:.2f}" if usd >= 1 or usd == 0 else f"{usd:.4f}"


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:,.10g}"


def _silent(number: int, spent: SpentBody) -> str:
    return f" (unknown of {number} of {spent.commands} commands)" if number else ""


def status_document(run: Run, workspace: str, holder: HolderBody | None, now_ms: int) -> StatusDocument:
    """Return what `status` prints; holder: who holds the workspace now. ``now_ms``: since the epoch."""
    active = holder is not None and holder.run_id == run.run_id
    return StatusDocument(
        run_id=run.run_id,
        status=run.status.value,
        active=active,
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
        pending=pending_body(run, now_ms),
        approvals=approval_lines(run),
        limits=limit_lines(run, now_ms) if run.completed_at is None else [],
        spent=spent_body(run, now_ms if active else run.ticked_ms),
        stopped=failure_body(run.stopped),
    )


def status_text(status: StatusDocument) -> str:
    """Return the status for people."""
    lines = [_headline(status), "", *task_table(status.tasks)]
    if status.pending is not None:
        lines += ["", f"Under way: {pending_text(status.pending)}"]
    lines += [f"Limited:   {limit_text(limit)}" for limit in status.limits]
    spent = spent_text(status.spent)
    if spent:
        lines.append(f"Spent:     {spent}")
    for approval in status.approvals:
        lines += ["", *asking_text(approval)]
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
