"""Reading runs back from a workspace: folding a ledger, finding the run to resume, numbering steps across runs."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from lorch_actors.errors import LedgerDamaged, StorageError, UsageError
from lorch_actors.protocol.documents import Index, IndexRow, RunState, RunStatus
from lorch_actors.protocol.messages import Entry, own_id
from lorch_actors.storage import disk
from lorch_actors.storage.checkpoint import read_checkpoint
from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.ledger_reading import read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.state import Run

INDEX_MAX_BYTES: Final = 64 * 1024 * 1024
RECENT_IDS: Final = 4096
_RECEIPT: Final = re.compile(r"step-([0-9]{1,9})\.json")


class Loaded(Struct, frozen=True):
    """A run as its ledger tells it. ``recent_ids``: of the last messages of our own, against repeats."""

    run: Run
    position: Position
    recent_ids: tuple[str, ...] = ()


def load_run(workspace: Workspace, run_id: str, *, use_checkpoint: bool = True) -> Loaded:
    """Fold a ledger, from the checkpoint on if there is one; an unacknowledged tail is left out.

    Raises UsageError for a run that is not there, LedgerDamaged (also when a projection stands for an entry that the
    ledger does not hold), StorageError.
    """
    path = workspace.ledger(run_id)
    claims = vouched(workspace, run_id)
    if not disk.exists(path):
        if claims:
            raise _ends_early(path, Position.start(run_id), max(claim.seq for claim in claims))
        raise UsageError(f"there is no run {run_id} here", where=str(path), remedy="`lorch runs` lists them.")
    checkpoint = read_checkpoint(workspace.checkpoint, run_id) if use_checkpoint else None
    run, position = _restored(run_id, checkpoint) or (Run(run_id), Position.start(run_id))
    loaded = Loaded(run, position)
    expected = {claim.seq: claim.chain for claim in claims if claim.seq > position.seq}
    entries = read_entries(path, run_id, after=position)
    first = next(entries, None)
    if first is not None:  # a checkpoint stands for all of a run that is over: then what folds is not even loaded
        loaded = _folded(loaded, chain([first], entries), expected, path)
    if expected:
        raise _ends_early(path, loaded.position, max(expected))
    return loaded


def _folded(loaded: Loaded, entries: Iterator[tuple[Entry, Position]], expected: dict[int, str], path: Path) -> Loaded:
    """Return the run after these entries. ``expected``: chains that some lines must have; those met are taken out."""
    from lorch_actors.workflow.fold import fold

    run, position = loaded.run, loaded.position
    recent: deque[str] = deque(maxlen=RECENT_IDS)
    for entry, position in entries:  # noqa: B007 - the place moves on with them
        run = fold(run, entry)
        if expected and expected.pop(entry.seq, entry.chain) != entry.chain:
            raise _other_than_projected(path, entry.seq)
        known = own_id(entry.message)
        if known is not None:
            recent.append(known)
    return Loaded(run, position, tuple(recent))


def vouched(workspace: Workspace, run_id: str) -> tuple[Position, ...]:
    """Return what projections stand for: the ledger has to hold these entries."""
    found = [Position(row.seq, row.chain, 0) for row in read_index(workspace).runs if row.run_id == run_id]
    state = _read_run_state(workspace)
    if state is not None and state.run_id == run_id:
        found.append(Position(state.seq, state.chain, 0))
    return tuple(found)


def _read_run_state(workspace: Workspace) -> RunState | None:
    try:
        content = disk.read_file(workspace.run_state, INDEX_MAX_BYTES)
        state = msgspec.json.decode(content or b"", type=RunState)
        workspace.ledger(state.run_id)
    except (StorageError, UsageError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return state


def _restored(run_id: str, checkpoint: tuple[Position, Any] | None) -> tuple[Run, Position] | None:
    if checkpoint is None:
        return None
    position, state = checkpoint
    try:
        run = msgspec.convert(state, Run)
    except msgspec.ValidationError:
        return None
    return (run, position) if run.run_id == run_id else None


def _other_than_projected(path: Path, seq: int) -> LedgerDamaged:
    return LedgerDamaged(
        f"line {seq} is another one than the projections in state/ stand for",
        where=f"{path}, line {seq}",
        remedy="Put the right ledger back; or, if this is the right one, remove state/run.json, index.json and "
        "checkpoint.cbor and run `rebuild`.",
    )


def _ends_early(path: Path, end: Position, seq: int) -> LedgerDamaged:
    return LedgerDamaged(
        f"the ledger ends after line {end.seq}, but line {seq} was on the disk once: state/ stands for it",
        where=f"{path}, line {end.seq + 1}, byte {end.offset}",
        remedy="Put the whole ledger back; or, to go on without its end, remove state/run.json, index.json and "
        "checkpoint.cbor.",
    )


def read_index(workspace: Workspace) -> Index:
    """Return the index as it stands, empty when it is absent or unreadable: it is a projection."""
    try:
        content = disk.read_file(workspace.index, INDEX_MAX_BYTES)
        index = msgspec.json.decode(content or b"", type=Index)
        for row in index.runs:
            workspace.ledger(row.run_id)  # an id that cannot be one is damage like any other
    except (StorageError, UsageError, msgspec.MsgspecError, UnicodeDecodeError):
        return Index(runs=[])
    return index


def rows(
    workspace: Workspace, *, skip_damaged: bool = False, use_index: bool = True, held: Loaded | None = None
) -> list[IndexRow]:
    """Return a row for every run of the workspace, oldest first, read from the ledger where the index may be behind.

    So are unfinished runs, and the one that run.json is about, in case its ledger was cut or is gone; without
    ``use_index``, all. held: a run that the caller has read and whose lock it holds, so that it is not read again.
    skip_damaged: leave damaged ledgers out. Raises LedgerDamaged otherwise.
    """
    known = _indexed(workspace) if use_index else {}
    latest = _latest(workspace, known)
    found: list[IndexRow] = []
    for run_id in _known_ids(workspace, latest):
        row = known.get(run_id)
        if row is None or row.status is RunStatus.RUNNING or run_id == latest:
            try:
                loaded = held if held is not None and held.run.run_id == run_id else load_run(workspace, run_id)
            except LedgerDamaged:
                if skip_damaged:
                    continue
                raise
            row = _row(loaded)
        if row is not None:
            found.append(row)
    return sorted(found, key=age)


def newest(workspace: Workspace) -> str | None:
    """Return the id of the run that began last, None if there is none.

    When a run began does not change, so only runs that the index does not know are read. Raises LedgerDamaged if such a
    one is damaged.
    """
    known = _indexed(workspace)
    ids = _known_ids(workspace, _latest(workspace, known))
    found = [row for run_id in ids if (row := known.get(run_id) or _row(load_run(workspace, run_id))) is not None]
    return max(found, key=age).run_id if found else None


def _indexed(workspace: Workspace) -> dict[str, IndexRow]:
    return {row.run_id: row for row in read_index(workspace).runs}


def _latest(workspace: Workspace, known: Mapping[str, IndexRow]) -> str | None:
    """Return the run that run.json is about, or else the last one of the index."""
    state = _read_run_state(workspace)
    return state.run_id if state is not None else max(known, default=None)


def _known_ids(workspace: Workspace, latest: str | None) -> list[str]:
    return sorted({*workspace.run_ids(), *([latest] if latest else [])})


def _row(loaded: Loaded) -> IndexRow | None:
    from lorch_actors.workflow.projection import index_row

    return index_row(loaded.run, loaded.position.seq, loaded.position.chain)


def age(row: IndexRow) -> tuple[str, str]:
    """Return what runs are sorted by, the oldest first; an id alone does not tell two runs of one second apart."""
    return row.started_at, row.run_id


def newest_unfinished(workspace: Workspace, *, skip_damaged: bool = False) -> str | None:
    """Return the id of the newest run that is not over, None if there is none."""
    found = rows(workspace, skip_damaged=skip_damaged)
    return next((row.run_id for row in reversed(found) if row.status is RunStatus.RUNNING), None)


def newest_if_failed(workspace: Workspace) -> str | None:
    """Return the id of the newest run if it has failed, None if it has not, or there is none."""
    found = rows(workspace)
    return found[-1].run_id if found and found[-1].status is RunStatus.FAILED else None


def next_steps(workspace: Workspace, task_ids: Iterable[str], held: Loaded | None = None) -> dict[str, int]:
    """Return for each task the number of its next receipt: steps go on where any run of the workspace stopped.

    Where index and receipts disagree, the ledgers decide: a step that is numbered again costs an older receipt. Where a
    ledger cannot be read, the receipts on disk say what it can no longer say. held: as for `rows`.
    """
    on_disk = {task_id: _last_receipt(workspace, task_id) for task_id in task_ids}
    found = rows(workspace, skip_damaged=True, held=held)
    if _last_steps(found, on_disk) != on_disk:
        found = rows(workspace, skip_damaged=True, use_index=False, held=held)
    is_whole = len(found) == len(workspace.run_ids())
    last = _last_steps(found, on_disk)
    return {task_id: 1 + (last[task_id] if is_whole else max(last[task_id], on_disk[task_id])) for task_id in on_disk}


def _last_steps(found: list[IndexRow], task_ids: Iterable[str]) -> dict[str, int]:
    return {task_id: max((row.last_steps.get(task_id, 0) for row in found), default=0) for task_id in task_ids}


def _last_receipt(workspace: Workspace, task_id: str) -> int:
    """Return the number of the task's last receipt on disk."""
    names = disk.names_in(workspace.receipts(task_id))
    return max((int(found[1]) for name in names if (found := _RECEIPT.fullmatch(name))), default=0)
