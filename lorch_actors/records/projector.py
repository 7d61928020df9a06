"""Projections on disk: receipts, `state/run.json`, `state/index.json`, the checkpoint, all derived from the fold.

The same code serves the run-state keeper during a run and `rebuild` afterwards, so both write the same bytes.
Receipts are written as their steps settle, their names synced by `settle`; run state and index are brought up to date
by `flush`.
"""

from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.protocol.documents import Index, RunStatus
from lorch_actors.protocol.messages import Entry
from lorch_actors.records.history import age, read_index
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import json_bytes, put, write_json
from lorch_actors.storage.checkpoint import read_checkpoint, write_checkpoint
from lorch_actors.storage.ledger import Position, read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.projection import index_row, receipt, run_state
from lorch_actors.workflow.state import Run

CHECKPOINT_EVERY_ENTRIES: Final = 2000


class Projector:
    """Folds one run's ledger and keeps its projections.

    run, position: the state and the place in the ledger it stands for. dirty: run state and index are behind.
    receipts: those written so far.
    """

    def __init__(self, workspace: Workspace, run_id: str, *, use_checkpoint: bool = True) -> None:
        self._workspace = workspace
        self.run = Run(run_id)
        self.position = Position.start(run_id)
        self.dirty = False
        self.receipts: list[Path] = []
        self._since_checkpoint = 0
        self._unsynced: dict[Path, None] = {}  # directories with receipts whose names may not be on the disk yet
        if use_checkpoint:
            self._restore()

    def _restore(self) -> None:
        found = read_checkpoint(self._workspace.checkpoint, self.run.run_id)
        if found is None:
            return
        position, state = found
        try:
            run = msgspec.convert(state, Run)
        except msgspec.ValidationError:
            return
        if run.run_id == self.run.run_id:
            self.run, self.position = run, position

    def catch_up(self, upto_seq: int | None = None) -> None:
        """Fold what the file holds after the position, up to and with ``upto_seq`` (default: all)."""
        path = self._workspace.ledger(self.run.run_id)
        for entry, position in read_entries(path, self.run.run_id, after=self.position, upto_seq=upto_seq):
            self.apply(entry, position)
        self.settle()

    def apply(self, entry: Entry, position: Position) -> None:
        """Fold one entry; write the receipt if it settles a step. Entries that were folded before are dropped.

        The receipt comes first: a position beyond one that could not be written would say that it is there. To be
        followed by `settle`, after as many as there are.
        """
        if entry.seq <= self.position.seq:
            return
        run = fold(self.run, entry)
        settled = run.last_settled
        if run.settled_count != self.run.settled_count and settled is not None:
            declared = run.tasks[settled.task_id].declared
            path = self._workspace.receipt(settled.task_id, settled.step)
            disk.make_directory(path.parent)
            put(path, json_bytes(receipt(settled, declared, entry.seq, entry.chain)))
            self._unsynced[path.parent] = None
            self.receipts.append(path)
        self.run = run
        self.position = position
        self.dirty = True
        self._since_checkpoint += 1

    def settle(self) -> None:
        """Bring the names of the receipts on the disk: one sync for all that were written in between."""
        for directory in tuple(self._unsynced):
            disk.sync_directory(directory)
            del self._unsynced[directory]

    def flush(self) -> None:
        """Write run state and index if they are behind; a checkpoint when many entries have come since the last.

        But none when the run is over: then it would say that everything else is on disk as well.
        """
        self.settle()
        if not self.dirty:
            return
        row = index_row(self.run, self.position.seq, self.position.chain)
        state = run_state(self.run, self.position.seq, self.position.chain)
        if row is not None and state is not None:
            others = [one for one in read_index(self._workspace).runs if one.run_id != row.run_id]
            rows = sorted([*others, row], key=age)
            if rows[-1] is row:
                write_json(self._workspace.run_state, state)  # it belongs to the newest run
            write_json(self._workspace.index, Index(runs=rows))
        self.dirty = False
        if self._since_checkpoint >= CHECKPOINT_EVERY_ENTRIES and self.run.status is RunStatus.RUNNING:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Cache the fold, so that a resume reads only what comes after."""
        self.settle()
        self._since_checkpoint = 0
        state = msgspec.to_builtins(self.run)
        write_checkpoint(self._workspace.checkpoint, self.run.run_id, self.position, state)
