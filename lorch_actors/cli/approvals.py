"""`approve` and `deny`: answer what an agent asks leave for, from any terminal, whether the run is going or not."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from lorch_actors.cli.options import global_options, output, place
from lorch_actors.errors import UsageError
from lorch_actors.protocol.ids import shown_approval_id

if TYPE_CHECKING:
    from lorch_actors.cli.place import Place
    from lorch_actors.cli.run_documents import ApprovalLine
    from lorch_actors.workflow.state import Run

REASON_MAX_CHARS: Final = 2000

Decision = Literal["allow", "deny"]


def _command(name: str, decision: Decision, about: str) -> Callable[..., Any]:
    @click.command(name, help=about)
    @click.argument("approval_id", metavar="ID")
    @click.option("--run", "run_id", metavar="RUN", help="Which run; the newest unfinished one by default.")
    @click.option("--reason", default="", metavar="TEXT", help="Words for the agent.")
    @global_options
    def command(approval_id: str, run_id: str | None, reason: str) -> None:
        _answer(place(), approval_id, run_id, decision, reason)

    return command


approve_command = _command("approve", "allow", "Allow what an agent asks leave for. `lorch status` lists the ids.")
deny_command = _command("deny", "deny", "Deny what an agent asks leave for. `lorch status` lists the ids.")


def _answer(where: "Place", approval_id: str, run_id: str | None, decision: Decision, reason: str) -> None:
    from lorch_actors.cli.holder import find_holder
    from lorch_actors.cli.run_documents import AnswerDocument
    from lorch_actors.cli.waiting import approval_text
    from lorch_actors.protocol.times import to_timestamp
    from lorch_actors.records import history
    from lorch_actors.storage import approvals

    if len(reason) > REASON_MAX_CHARS:
        raise UsageError(f"--reason has {len(reason)} characters; {REASON_MAX_CHARS} are allowed")
    workspace = where.workspace
    wanted = run_id or history.newest_unfinished(workspace)
    if wanted is None:
        raise UsageError("no run is unfinished here, so nobody asks for anything", where=str(where.root))
    run = history.load_run(workspace, wanted).run
    asked = _meant(run, approval_id)
    at = to_timestamp(time.time_ns() // 1_000_000)
    said = approvals.Answer(run.run_id, asked.approval_id, decision, reason, at)
    if not approvals.give(workspace.approval(asked.approval_id), said):
        raise UsageError(f"{approval_id} has been answered already", remedy="`lorch status` shows what is open.")
    holder = find_holder(workspace.lock)
    document = AnswerDocument(
        run_id=run.run_id,
        decision=decision,
        reason=reason,
        active=holder is not None and holder.run_id == run.run_id,
        approval=asked,
    )
    word = "allowed" if decision == "allow" else "denied"
    later = f"\nThe run is interrupted; it counts when `lorch resume --run {run.run_id}` goes on."
    output().result(document, f"{word}: {approval_text(asked)}{'' if document.active else later}")


def _meant(run: "Run", given: str) -> "ApprovalLine":
    """Return the open request whose id begins so. Raises UsageError when there is none, or more than one."""
    from lorch_actors.cli.waiting import approval_lines

    open_ = approval_lines(run)
    found = [line for line in open_ if line.approval_id.startswith(given) and len(given) > len("ap-")]
    if len(found) > 1:
        meant = ", ".join(line.approval_id for line in found)
        raise UsageError(f"{given} means more than one request", remedy=f"Name it in full: {meant}.")
    if not found:
        raise _not_open(run, given, ", ".join(shown_approval_id(line.approval_id) for line in open_))
    return found[0]


def _not_open(run: "Run", approval_id: str, open_: str) -> UsageError:
    decided = run.pending is not None and any(one.startswith(approval_id) for one in run.pending.decided)
    what = f"{approval_id} has been answered already" if decided else f"nobody waits for {approval_id}"
    return UsageError(
        f"{what} in run {run.run_id}", remedy=f"Open are: {open_}." if open_ else "Nothing is open at the moment."
    )
