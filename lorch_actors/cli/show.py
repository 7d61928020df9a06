"""`show` and `transcript`: what a run did, step by step, and what its console showed."""

import re
from typing import TYPE_CHECKING, Final

import click

from lorch_actors.cli.options import global_options, output, place
from lorch_actors.cli.output import one_line, visible
from lorch_actors.errors import LorchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lorch_actors.cli.documents import ShowDocument, StepLine
    from lorch_actors.protocol.documents import Receipt
    from lorch_actors.storage.workspace import Workspace

RECEIPT_MAX_BYTES: Final = 64 << 20
TRANSCRIPT_MAX_BYTES: Final = 1 << 30

_STEP: Final = re.compile(r"step-([0-9]{1,18})\.json\Z")


@click.command("show")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--task", "task_id", metavar="ID", help="Only this task.")
@global_options
def show_command(run_id: str | None, task_id: str | None) -> None:
    """Show what a run did (the newest by default): its tasks, and every settled step with its receipt and artifacts."""
    from lorch_actors.cli.documents import ShowDocument
    from lorch_actors.cli.status import newest_run
    from lorch_actors.cli.views import task_line
    from lorch_actors.records import history
    from lorch_actors.storage.ledger import read_lines

    workspace = place().workspace
    run_id = run_id or newest_run(workspace)
    run = history.load_run(workspace, run_id).run
    if task_id is not None and task_id not in run.tasks:
        raise UsageError(f"run {run_id} has no task {task_id!r}", remedy=f"Its tasks are: {', '.join(run.tasks)}.")
    links = {line.seq: line.chain for line in read_lines(workspace.ledger(run.run_id), run.run_id)}
    tasks = [task for task in run.tasks.values() if task_id in (None, task.task_id)]
    document = ShowDocument(
        run_id=run.run_id,
        status=run.status.value,
        started_at=run.started_at,
        completed_at=run.completed_at,
        tasks=[task_line(task) for task in tasks],
        steps=[line for task in tasks for line in _steps(workspace, links, task.task_id)],
    )
    output().result(document, _show_text(document))


def _steps(workspace: "Workspace", links: dict[int, str], task_id: str) -> "Iterator[StepLine]":
    """Yield the settled steps of one task in one run.

    links: the chain of every entry of that run. A receipt names the entry it stands for, and so its run.
    """
    directory = workspace.receipts(task_id)
    names = [(int(found[1]), found[0]) for path in directory.glob("step-*.json") if (found := _STEP.match(path.name))]
    for _, name in sorted(names):
        receipt = _receipt(directory / name)
        if links.get(receipt.seq) == receipt.chain:
            yield _step_line(receipt, str((directory / name).relative_to(workspace.root)))


def _receipt(path: "Path") -> "Receipt":
    import msgspec

    from lorch_actors.protocol.documents import Receipt
    from lorch_actors.storage import disk

    content = disk.read_file(path, RECEIPT_MAX_BYTES)
    try:
        return msgspec.json.decode(content or b"", type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = "the receipt is not there" if content is None else f"is not a receipt: {error}"
        raise LorchError(what, where=str(path), remedy="`lorch rebuild` writes it again.") from None


def _step_line(receipt: "Receipt", path: str) -> "StepLine":
    """Return one settled step as it is printed; path: of its receipt, below the workspace."""
    from lorch_actors.cli.documents import ArtifactLine, StepLine

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


def _show_text(document: "ShowDocument") -> str:
    from lorch_actors.cli.views import failure_text

    lines = [
        f"{document.run_id}  {document.status}  {document.started_at or ''} … {document.completed_at or ''}".rstrip()
    ]
    for task in document.tasks:
        lines += ["", f"{task.task_id}  {task.status}  {task.title}".rstrip()]
        lines += [f"  {failure_text(task.failure)}"] if task.failure is not None else []
        lines += [f"  commit {task.commit} on {task.branch}"] if task.commit is not None else []
        for step in document.steps:
            if step.task_id == task.task_id:
                lines += _step_text(step)
    return "\n".join(lines)


def _step_text(step: "StepLine") -> list[str]:
    from lorch_actors.cli.views import size

    tests = f", tests: {step.tests}" if step.tests is not None else ""
    lines = [f"  step {step.step}  {step.action}{tests}  {step.created_at}", f"    {step.idempotency_key}"]
    return lines + [f"    {one_line(file.path)} ({size(file.size)})" for file in step.artifacts]


@click.command("transcript")
@click.argument("run_id", metavar="[RUN]", required=False)
@global_options
def transcript_command(run_id: str | None) -> None:
    """Print what the console of a run showed (the newest by default)."""
    from lorch_actors.cli.documents import TranscriptDocument
    from lorch_actors.cli.status import newest_run
    from lorch_actors.storage import disk

    workspace = place().workspace
    run_id = run_id or newest_run(workspace)
    path = workspace.transcript(run_id)
    content = disk.read_file(path, TRANSCRIPT_MAX_BYTES)
    if content is None:
        known = run_id in workspace.run_ids()
        raise UsageError(
            "the transcript is not there" if known else f"there is no run {run_id!r} in this workspace",
            where=str(path),
            remedy=f"`lorch rebuild --run {run_id}` writes it again." if known else "`lorch runs` lists them.",
        )
    text = visible(content.decode(errors="backslashreplace"))
    output().result(TranscriptDocument(run_id=run_id, lines=text.splitlines()), text)
