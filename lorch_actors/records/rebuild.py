"""Writing every projection again from the ledgers: receipts, run state, index, transcripts, checkpoint.

The ledger is the only truth; what this writes is byte for byte what the run wrote.
"""

from collections.abc import Sequence
from pathlib import Path

from lorch_actors.errors import LedgerDamaged
from lorch_actors.protocol.documents import IndexRow, RunStatus
from lorch_actors.records.history import read_index, rows
from lorch_actors.records.projector import Projector
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import write_atomic
from lorch_actors.storage.checkpoint import read_checkpoint
from lorch_actors.storage.ledger import read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.transcript import render


def rebuild(workspace: Workspace, run_ids: Sequence[str]) -> list[Path]:
    """Write the projections of these runs again; return the files written. The caller holds the run lock.

    Run state and index are removed first: a projection that is wrong must not vouch for a ledger that is right.
    Raises LedgerDamaged, StorageError.
    """
    for path in (workspace.checkpoint, workspace.run_state, workspace.index):
        disk.unlink(path)
    written: dict[Path, None] = {}
    for run_id in workspace.run_ids():
        try:
            projector = Projector(workspace, run_id, use_checkpoint=False)
            projector.catch_up()
        except LedgerDamaged:
            if run_id in run_ids:
                raise
            continue
        if run_id in run_ids:
            written |= dict.fromkeys(projector.receipts)
            written[_write_transcript(workspace, run_id)] = None
        projector.flush()
        projector.checkpoint()
    found = (workspace.run_state, workspace.index, workspace.checkpoint)
    return [*written, *(path for path in found if path.exists())]


def complete(workspace: Workspace, run_id: str) -> None:
    """Bring the projections of a run to the end of its ledger, where they are not there yet; nobody else writes.

    Entries may come while a run's actors end, the restart of a killed worker for example. Raises LedgerDamaged,
    StorageError.
    """
    projector = Projector(workspace, run_id)
    projector.catch_up()
    if projector.dirty:
        _write_transcript(workspace, run_id)
        projector.flush()
        projector.checkpoint()


def complete_finished(workspace: Workspace) -> None:
    """Bring the projections of runs that are over to the end of their ledgers; the caller holds the run lock.

    A run that died between its last entry and the writing of it is over, so that no resume would write it any more.
    The checkpoint is written last, so the newest run has everything if the checkpoint stands for its last entry.
    Damaged ledgers are left as they are. Raises StorageError.
    """
    written = read_index(workspace).runs
    found = rows(workspace, skip_damaged=True)
    for row in found:
        if row.status is RunStatus.RUNNING or (
            row in written and (row is not found[-1] or _is_complete(workspace, row))
        ):
            continue
        projector = Projector(workspace, row.run_id, use_checkpoint=False)
        projector.catch_up()
        _write_transcript(workspace, row.run_id)
        projector.flush()
        projector.checkpoint()


def _is_complete(workspace: Workspace, row: IndexRow) -> bool:
    checkpoint = read_checkpoint(workspace.checkpoint, row.run_id)
    return checkpoint is not None and checkpoint[0].seq == row.seq


def transcript_of(workspace: Workspace, run_id: str) -> bytes:
    """Return the transcript of a run as it follows from its ledger."""
    lines = (line for entry, _ in read_entries(workspace.ledger(run_id), run_id) for line in render(entry))
    return "".join(f"{line}\n" for line in lines).encode()


def _write_transcript(workspace: Workspace, run_id: str) -> Path:
    path = workspace.transcript(run_id)
    disk.make_directory(path.parent)
    write_atomic(path, transcript_of(workspace, run_id))
    return path
