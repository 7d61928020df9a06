"""The closing report of `run` and `resume`: what was done, what failed and why, and what to do next. Pure."""

import shlex

from lorch_actors.cli.documents import NextLine, ReportDocument
from lorch_actors.cli.views import (
    counts,
    duration,
    failure_body,
    failure_text,
    spent_body,
    spent_text,
    task_line,
    task_table,
    times,
)
from lorch_actors.errors import ExitCode
from lorch_actors.protocol.documents import TaskStatus
from lorch_actors.protocol.times import from_timestamp
from lorch_actors.workflow.budget import exhausted
from lorch_actors.workflow.state import Moment, Run


def report(run: Run, code: int, workspace: str, *, here: bool) -> ReportDocument:
    """Return the report of a run that ended with that exit code.

    here: whether the user stands in the workspace, so that command lines need not name it.
    """
    tasks = [task_line(task) for task in run.tasks.values()]
    return ReportDocument(
        run_id=run.run_id,
        status=run.status.value,
        exit_code=code,
        interrupted=code == ExitCode.INTERRUPTED,
        workspace=workspace,
        started_at=run.started_at,
        completed_at=run.completed_at,
        duration_s=_duration_s(run),
        tasks=tasks,
        rounds=sum(task.rounds for task in tasks),
        attempts=sum(task.attempts for task in tasks),
        steps=run.settled_count,
        restarts=dict(run.restarts),
        resumes=run.resumes,
        branch=run.git.branch if run.git_begun else None,
        unanswered=run.unanswered,
        spent=spent_body(run, run.ticked_ms),
        stopped=failure_body(run.stopped),
        next=_next(run, code, workspace, here=here),
    )


def _duration_s(run: Run) -> float | None:
    if run.started_at is None or run.completed_at is None:
        return None
    return (from_timestamp(run.completed_at) - from_timestamp(run.started_at)) / 1000


def _next(run: Run, code: int, workspace: str, *, here: bool) -> list[NextLine]:
    lorch = "lorch" if here else f"lorch --workspace {shlex.quote(workspace)}"
    if not run.started:
        return []
    lines = []
    failed = [task for task in run.tasks.values() if task.status is TaskStatus.FAILED]
    if code == ExitCode.INTERRUPTED:
        spent = exhausted(run, run.task, Moment(wall_ms=run.ticked_ms, steady_ms=0))
        more = f" {spent.more()}" if spent is not None else ""
        lines.append(NextLine(command=f"{lorch} resume --run {run.run_id}{more}", does="go on where it stopped"))
    elif failed:
        lines.append(
            NextLine(command=f"{lorch} resume --run {run.run_id} --retry-failed", does="try failed tasks anew")
        )
    lines.append(NextLine(command=f"{lorch} show {run.run_id}", does="every step with its artifacts"))
    return lines + ([] if code == ExitCode.INTERRUPTED else _git_lines(run, workspace, here=here))


def _git_lines(run: Run, workspace: str, *, here: bool) -> list[NextLine]:
    if not run.git_begun or run.git_failure is not None:
        return []
    git = "git" if here else f"git -C {shlex.quote(workspace)}"
    start = shlex.quote(run.git.start_branch or run.git.base)
    lines = _work_lines(run, git, start) if run.git_head != run.git.base else []
    back = "go back without it" if lines else "go back; nothing was committed"
    lines.append(NextLine(command=f"{git} checkout {start}", does=back))
    lines += [
        NextLine(command=f"{git} show {task.commit.branch}", does=f"the work of {task.task_id}, set aside")
        for task in run.tasks.values()
        if task.status is TaskStatus.FAILED and task.commit is not None and task.commit.commit
    ]
    return lines


def _work_lines(run: Run, git: str, start: str) -> list[NextLine]:
    """Return what to do with the commits on the branch of the run."""
    log = f"{git} log --stat {run.git.base[:12]}..{run.git.branch}"
    lines = [NextLine(command=log, does="the work, a commit a task")]
    if run.git.start_branch:
        merge = f"{git} checkout {start} && {git} merge {run.git.branch}"
        lines.append(NextLine(command=merge, does="take it over"))
    return lines


def report_text(document: ReportDocument) -> str:
    """Return the report for people."""
    if document.started_at is None:
        return "No run was started."
    done = sum(task.status == "completed" for task in document.tasks)
    failed = sum(task.status == "failed" for task in document.tasks)
    left = len(document.tasks) - done - failed
    parts = [f"{done} of {len(document.tasks)} tasks completed"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{left} left"] if left else []
    parts += [f"in {duration(document.duration_s)}"] if document.duration_s is not None else []
    headline = "interrupted" if document.interrupted else document.status
    lines = [f"{document.run_id} {headline}: {', '.join(parts)}", "", *task_table(document.tasks), ""]
    sums = (("step", document.steps), ("round", document.rounds), ("attempt", document.attempts))
    lines.append(", ".join(f"{n} {what}" if n == 1 else f"{n} {what}s" for what, n in sums) + f"{_trouble(document)}.")
    spent = spent_text(document.spent)
    lines += [f"Spent: {spent}."] if spent else []
    if document.unanswered:
        lines.append(f"Denied because nobody answered in time: {document.unanswered} (policy.approval_timeout_s).")
    if document.stopped is not None:
        lines.append(f"Stopped: {failure_text(document.stopped)}")
    lines += [f"In {document.workspace}" + (f", branch {document.branch}" if document.branch else "")]
    lines += ["", "Next:"]
    lines += [f"  {line.command}\n      {line.does}" for line in document.next]
    return "\n".join(lines)


def _trouble(document: ReportDocument) -> str:
    restarts = f", restarts: {counts(document.restarts)}" if document.restarts else ", no restarts"
    return restarts + (f", resumed {times(document.resumes)}" if document.resumes else "")
