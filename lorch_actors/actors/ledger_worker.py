"""The process half of the ledger writer: it holds the ledger's lock and file, and does nothing but write and sync.

What has arrived while it was syncing is one write and one sync (group commit). The other half, which says what is to be
written and who hears of it, is ``ledger_writer``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from lorch_actors import processes
from lorch_actors.actors.worker import Worker, WorkerContext
from lorch_actors.errors import LorchError, StorageError
from lorch_actors.processes.watermark import watermarked_alike
from lorch_actors.storage.ledger import LedgerFile
from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.locks import Lock, hold, this_process

LOCK_WAIT_S: Final = 5.0
ORPHANS_S: Final = 5.0


class LedgerPlace(Struct, frozen=True):
    """Which ledger, and what has to be in it. ``start``: a place up to which it was read already."""

    path: Path
    lock: Path
    run_id: str
    started_at: str
    vouched: tuple[Position, ...] = ()
    start: Position | None = None


class LedgerWorker(Worker):
    """Writes and syncs. A message is ``[[seq, line], …]`` and whether to sync; a reply says what is durable."""

    def __init__(self, place: LedgerPlace) -> None:
        self._place = place
        self._lock: Lock | None = None
        self._file: LedgerFile | None = None

    def open(self) -> dict[str, Any]:
        """Take the lock, repair the tail, say where the ledger ends. Raises LockedError."""
        place = self._place
        self._lock = hold(place.lock, this_process(place.run_id, place.started_at), wait_s=LOCK_WAIT_S)
        try:
            self._file = LedgerFile.open(place.path, place.run_id, place.vouched, place.start)
        except LorchError as error:
            return _refusal(error)
        return _end_of(self._file)

    def handle(self, messages: Sequence[Any], context: WorkerContext) -> Iterable[Any]:
        """Append everything that has arrived with one write, and sync once if any of it asks for it."""
        file = self._file
        if file is None:
            return []
        lines = [(seq, line) for message in messages for seq, line in message["lines"]]
        try:
            file.append(lines)
            if any(message["sync"] for message in messages):
                file.sync()
        except StorageError as error:
            file.close()
            self._file = None  # what is under way already does not follow from what the file holds now
            return [_refusal(error)]
        return [_end_of(file)]

    def orphaned(self) -> None:
        """End what the dead orchestrator left, in case that the guardian is dead as well.

        Nobody who was started later is meant: the run may be resumed already.
        """
        until_ticks = processes.now_ticks()

        def find() -> set[int]:
            found, table = watermarked_alike(), processes.parents()
            found |= {below for pid in found for below in processes.descendants(pid, table)}
            return {pid for pid in found if (who := processes.identify(pid)) and who.start_ticks <= until_ticks}

        processes.end_all(find, deadline_s=ORPHANS_S)

    def close(self) -> None:
        """Let go of file and lock."""
        if self._file is not None:
            self._file.sync()
            self._file.close()
        if self._lock is not None:
            self._lock.release()


def _end_of(file: LedgerFile) -> dict[str, Any]:
    end = file.synced
    return {"seq": end.seq, "chain": end.chain, "offset": end.offset}


def _refusal(error: LorchError) -> dict[str, Any]:
    return {"refused": [error.what, error.where, error.remedy]}
