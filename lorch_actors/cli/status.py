"""`status` and `runs`: where a run stands, and which runs there are."""

import sys
import time
from typing import TYPE_CHECKING, Final

import click

from lorch_actors.cli.options import global_options, output, place

if TYPE_CHECKING:
    from lorch_actors.cli.documents import RunsDocument
    from lorch_actors.cli.place import Place
    from lorch_actors.cli.run_documents import StatusDocument
    from lorch_actors.storage.workspace import Workspace

WATCH_INTERVAL_S: Final = 1.0


@click.command("status")
@click.option("--run", "run_id", metavar="RUN", help="Which run; the newest by default.")
@click.option("--watch", is_flag=True, help="Show it anew every second until the run is over.")
@global_options
def status_command(run_id: str | None, *, watch: bool) -> None:
    """Show where a run stands: tasks, stage, agents, restarts and the command under way."""
    from lorch_actors.cli.views import status_text

    where, to = place(), output()
    document = _status(where, run_id)
    while watch and document.active:
        _show_again(status_text(document), document)
        if not _wait(WATCH_INTERVAL_S):
            return
        document = _status(where, document.run_id)
    to.result(document, status_text(document))


def _status(where: "Place", run_id: str | None) -> "StatusDocument":
    from lorch_actors.cli.holder import find_holder
    from lorch_actors.cli.views import status_document
    from lorch_actors.records import history

    workspace = where.workspace
    wanted = run_id if run_id is not None else newest_run(workspace)
    # asked first: a run that ends in between is then shown as ended, not as one that nobody works on
    holder = find_holder(workspace.lock)
    run = history.load_run(workspace, wanted).run
    return status_document(run, str(where.root), holder, time.time_ns() // 1_000_000)


def newest_run(workspace: "Workspace") -> str:
    """Return the id of the newest run; raises `UsageError` when there is none."""
    from lorch_actors.errors import UsageError
    from lorch_actors.records import history

    found = history.newest(workspace)
    if found is None:
        raise UsageError(
            "there are no runs in this workspace yet",
            where=str(workspace.root),
            remedy="`lorch run --task ID` starts one; `--workspace DIR` names another workspace.",
        )
    return found


def _show_again(text: str, document: "StatusDocument") -> None:
    to = output()
    if not to.json and sys.stdout.isatty():
        # clear the screen and go to its first line
        sys.stdout.write("\x1b[2J\x1b[H")
    to.result(document, text)


def _wait(seconds: float) -> bool:
    """Wait; return False when the user has had enough."""
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        return False
    return True


@click.command("runs")
@global_options
def runs_command() -> None:
    """List every run of this workspace, the oldest first."""
    from lorch_actors.cli.documents import RunLine, RunsDocument, RunTask
    from lorch_actors.records import history

    where = place()
    lines = [
        RunLine(
            run_id=run.run_id,
            status=run.status.value,
            started_at=run.started_at,
            completed_at=run.completed_at,
            tasks=[RunTask(task_id=task_id, status=status.value) for task_id, status in run.tasks.items()],
        )
        for run in history.rows(where.workspace)
    ]
    document = RunsDocument(workspace=str(where.root), runs=lines)
    output().result(document, _runs_text(document))


def _runs_text(document: "RunsDocument") -> str:
    if not document.runs:
        return "No runs yet."
    lines = []
    for run in document.runs:
        done = sum(task.status == "completed" for task in run.tasks)
        failed = sum(task.status == "failed" for task in run.tasks)
        trouble = f", {failed} failed" if failed else ""
        lines.append(
            f"{run.run_id}  {run.status:<10} {done} of {len(run.tasks)} tasks{trouble}  {run.started_at or ''}"
        )
    return "\n".join(line.rstrip() for line in lines)
