"""The ledger file under its one writer: opened and repaired, appended to, synced (SPEC §4).

Promises: what `LedgerFile.sync` returned for is never lost, never changed, never written twice. What a dead writer left
unfinished is copied aside before it is cut off. What was acknowledged once is never repaired away: damage to it is
refused, with its place. The caller holds the ledger's lock for as long as the object lives.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from lorch_actors.errors import LedgerDamaged, StorageError, UsageError
from lorch_actors.storage import disk
from lorch_actors.storage.ledger_format import Position, follows, split
from lorch_actors.storage.ledger_legacy import is_legacy
from lorch_actors.storage.ledger_reading import (
    Inspection,
    LedgerLine,
    damaged,
    inspect,
    place_name,
    read_entries,
    read_lines,
)
from lorch_actors.storage.ledger_repair import copy_aside
from lorch_actors.storage.ledger_scan import Walk, fits, judge

__all__ = ["Inspection", "LedgerFile", "LedgerLine", "Position", "Vouched", "inspect", "read_entries", "read_lines"]

REMEMBERED_LINES: Final = 4096
"""How many of the last chains are kept in memory, to prove that a repeated append is the same."""


class Vouched(Protocol):
    """What a projection or a checkpoint stands for; a `Position` is one."""

    @property
    def seq(self) -> int:
        """Number of the last line it knows."""

    @property
    def chain(self) -> str:
        """That line's chain."""


class LedgerFile:
    """An open ledger. Made by `open`; one at a time for a file.

    repaired: where the unacknowledged tail was copied to when there was one, else None.
    """

    def __init__(self, path: Path, fd: int, end: Position, recent: Iterable[tuple[int, str]]) -> None:
        self.path = path
        self.repaired: Path | None = None
        self._fd = fd
        self._synced = end
        self._last = end
        self._recent = deque(recent, REMEMBERED_LINES)
        self._clean = True

    @classmethod
    def open(
        cls, path: Path, run_id: str, vouched: Sequence[Vouched] = (), start: Position | None = None
    ) -> "LedgerFile":
        """Open a ledger for appending, make it if it is not there, cut off what was never acknowledged.

        vouched: what projections stand for; the ledger has to hold it. start: a place that a checkpoint stands for;
        lines before it are not read again, if it fits the file. Raises LedgerDamaged, StorageError, and UsageError for
        a ledger of lorch 1.5.
        """
        claims = [*vouched, *([start] if start is not None else [])]
        if not disk.exists(path) and any(claim.seq for claim in claims):
            raise _ends_early(path, Position.start(run_id), claims)
        fd = disk.open_append(path)
        try:
            disk.sync_file(fd)
            disk.sync_directory(path.parent)
            return _opened(path, fd, run_id, claims, start)
        except BaseException:
            disk.close(fd)
            raise

    @property
    def last_seq(self) -> int:
        """Number of the last line that was appended, 0 if there is none."""
        return self._last.seq

    @property
    def last_chain(self) -> str:
        """Chain of that line, the run id if there is none: what the next line is sealed with."""
        return self._last.chain

    @property
    def offset(self) -> int:
        """Size of the ledger in bytes with all that was appended."""
        return self._last.offset

    @property
    def synced_seq(self) -> int:
        """Number of the last line that is on the disk for certain."""
        return self._synced.seq

    @property
    def synced(self) -> Position:
        """The place after the last line that is on the disk for certain."""
        return self._synced

    def append(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Write sealed lines, given with their numbers; those that are there already are dropped.

        They are safe only after `sync`. StorageError: everything since the last sync is undone and has to be appended
        again. LedgerDamaged: a repeated line differs from the one there, or somebody else touched the file.
        ValueError: a gap, or a line that does not follow.
        """
        self._settle()
        seq, chain = self._last.seq, self._last.chain
        fresh: list[tuple[int, str]] = []
        data = bytearray()
        for number, line in lines:
            if number <= seq:
                self._require_same(number, line, fresh)
                continue
            sealed = follows(line, number, chain)
            if sealed is None:
                raise ValueError(f"line {number} does not follow line {seq} of {self.path}")
            seq, chain = sealed.seq, sealed.chain
            fresh.append((seq, chain))
            data += line
            data += b"\n"
        if not data:
            return
        self._require_alone()
        self._clean = False
        try:
            disk.write(self._fd, data)
        except StorageError:
            self._undo()
            raise
        self._last = Position(seq, chain, self._last.offset + len(data))
        self._recent.extend(fresh)
        self._clean = True

    def sync(self) -> None:
        """Wait until everything appended is on the disk.

        StorageError: nothing since the last sync is trusted, all of it is undone and has to be appended again.
        """
        self._settle()
        if self._last == self._synced:
            return
        self._clean = False
        try:
            disk.sync_data(self._fd)
        except StorageError:
            self._undo()
            raise
        self._synced = self._last
        self._clean = True

    def close(self) -> None:
        """Close the file. What was not synced may be lost. A second call does nothing."""
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settle(self) -> None:
        """Undo a call that was broken off, if its own undoing was not possible."""
        if not self._clean:
            self._cut_back()

    def _undo(self) -> None:
        try:
            self._cut_back()
        except StorageError:  # the error under way tells more; the next call tries again, before anything else
            return

    def _cut_back(self) -> None:
        self._last = self._synced
        while self._recent and self._recent[-1][0] > self._synced.seq:
            self._recent.pop()
        disk.truncate(self._fd, self._synced.offset)
        disk.sync_file(self._fd)
        self._clean = True

    def _require_same(self, number: int, line: bytes, fresh: list[tuple[int, str]]) -> None:
        known = fresh if fresh and number >= fresh[0][0] else self._recent
        if not known or number < known[0][0]:
            return
        there = known[number - known[0][0]][1]
        sealed = split(line)
        if sealed is None or sealed.seq != number or sealed.chain != there:
            raise LedgerDamaged(
                f"line {number} was appended again, but is not the line that is there",
                where=f"{self.path}, line {number}",
                remedy="Two writers were at work. Run `lorch verify`.",
            )

    def _require_alone(self) -> None:
        found = disk.status(self._fd)
        if found.st_nlink == 0:
            raise LedgerDamaged(
                "the ledger was removed while it was written", where=str(self.path), remedy="Put the file back."
            )
        if found.st_size != self._last.offset:
            raise LedgerDamaged(
                f"the ledger has {found.st_size} bytes, its writer left it with {self._last.offset}",
                where=place_name(self.path, self._last),
                remedy="Something else wrote to the file. Run `lorch verify`, then `lorch resume`.",
            )


def _opened(path: Path, append_fd: int, run_id: str, claims: Sequence[Vouched], start: Position | None) -> LedgerFile:
    """Prove the ledger against the claims, repair its tail, and return it."""
    fd = disk.open_read(path)
    try:
        first = start if start is not None and fits(fd, start, run_id) else Position.start(run_id)
        walk = Walk(fd, first)
        recent = _walk_checking(path, walk, claims)
        claimed = max((claim.seq for claim in claims), default=0)
        if walk.fault is not None:
            if walk.end.seq == 0 and is_legacy(fd):
                raise _written_by_lorch_1_5(path)
            judgement = judge(fd, walk.fault)
            if max(claimed, judgement.acknowledged) > walk.end.seq:
                raise damaged(path, walk.fault, judgement)
        elif claimed > walk.end.seq:
            raise _ends_early(path, walk.end, claims)
        aside = copy_aside(fd, path, walk.end.offset) if walk.fault is not None else None
    finally:
        disk.close(fd)
    _finish_tail(append_fd, walk)
    ledger = LedgerFile(path, append_fd, walk.end, recent)
    ledger.repaired = aside
    return ledger


def _walk_checking(path: Path, walk: Walk, claims: Sequence[Vouched]) -> deque[tuple[int, str]]:
    """Walk to the end, compare each claimed line, and return the last chains."""
    first = walk.end
    claimed = {claim.seq: {c.chain for c in claims if c.seq == claim.seq} for claim in claims if claim.seq}
    recent: deque[tuple[int, str]] = deque([(first.seq, first.chain)] if first.seq else [], REMEMBERED_LINES)
    for seq, link, offset, _, _ in walk.lines():
        chain = link.decode()
        recent.append((seq, chain))
        if seq in claimed and (others := claimed[seq] - {chain}):
            raise LedgerDamaged(
                f"line {seq} has the chain {chain}, a projection stands for it with {', '.join(sorted(others))}",
                where=f"{path}, line {seq}, byte {offset}",
                remedy="The ledger or the projection was replaced by another one. Put the right one back.",
            )
    return recent


def _finish_tail(append_fd: int, walk: Walk) -> None:
    """Cut off what the walk could not prove, or add the newline that a proven last line lacks.

    Such a line is kept, acknowledged or not: its chain proves every byte of it, and editors strip last newlines.
    """
    if walk.fault is not None:
        disk.truncate(append_fd, walk.end.offset)
    elif walk.lacks_newline:
        disk.write(append_fd, b"\n")
    else:
        return
    disk.sync_file(append_fd)


def _ends_early(path: Path, end: Position, claims: Sequence[Vouched]) -> LedgerDamaged:
    claim = max(claims, key=lambda c: c.seq)
    return LedgerDamaged(
        f"the ledger ends after line {end.seq}, but a projection stands for line {claim.seq} (chain {claim.chain})",
        where=place_name(path, end),
        remedy="Restore the file from a backup, or start over with `run --new`. Nothing was changed.",
    )


def _written_by_lorch_1_5(path: Path) -> UsageError:
    return UsageError(
        "this ledger was written by lorch 1.5: it can be read, not continued",
        where=str(path),
        remedy="Start its tasks again with `run --new`.",
    )
