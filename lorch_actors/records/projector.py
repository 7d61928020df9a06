"""Projections on disk: receipts, `state/run.json`, `state/index.json`, the checkpoint, all derived from the fold.

The same code serves the run-state keeper during a run and `rebuild` afterwards, so both write the same bytes.
Receipts are written by `settle`, as many together as their steps have settled; run state and index are brought up to
date by `flush`.
"""

from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.protocol.documents import Index, RunStatus
from lorch_actors.protocol.messages import Entry
from lorch_actors.records.history import age, read_index
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import json_bytes, write_all
from lorch_actors.storage.checkpoint import read_checkpoint, write_checkpoint
from lorch_actors.storage.ledger import Position, read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.projection import index_row, receipt, run_state
from lorch_actors.workflow.state import Run

CHECKPOINT_EVERY_ENTRIES: Final = 2000
TOGETHER_MAX: Final = 32
"""So many receipts wait for each other at most: a worker gives no sign of life while it writes them."""


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
        self._due: dict[Path, bytes] = {}  # receipts that are not on the disk yet
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
        """Fold one entry; a receipt is due if it settles a step. Entries that were folded before are dropped.

        To be followed by `settle`, after as many as there are.
        """
        if entry.seq <= self.position.seq:
            return
        if len(self._due) >= TOGETHER_MAX:
            self.settle()
        run = fold(self.run, entry)
        settled = run.last_settled
        if run.settled_count != self.run.settled_count and settled is not None:
            declared = run.tasks[settled.task_id].declared
            path = self._workspace.receipt(settled.task_id, settled.step)
            self._due[path] = json_bytes(receipt(settled, declared, entry.seq, entry.chain))
        self.run = run
        self.position = position
        self.dirty = True
        self._since_checkpoint += 1

    def settle(self) -> None:
        """Write the receipts that are due.

        Those that could not be written stay due: nothing that would say that they are there is written before them.
        """
        for path in self._due:
            disk.make_directory(path.parent)
        write_all(self._due)
        self.receipts += self._due
        self._due = {}

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
            behind = {self._workspace.index: json_bytes(Index(runs=rows))}
            if rows[-1] is row:
                behind[self._workspace.run_state] = json_bytes(state)  # it belongs to the newest run
            write_all(behind)
        self.dirty = False
        if self._since_checkpoint >= CHECKPOINT_EVERY_ENTRIES and self.run.status is RunStatus.RUNNING:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Cache the fold, so that a resume reads only what comes after."""
        self.settle()
        self._since_checkpoint = 0
        state = msgspec.to_builtins(self.run)
        write_checkpoint(self._workspace.checkpoint, self.run.run_id, self.position, state)
