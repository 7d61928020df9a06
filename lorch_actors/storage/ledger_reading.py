"""Reads ledgers: entry by entry, in bounded memory, each line proved before it is handed out.

A reader changes nothing and needs no lock. What follows the last provable line is passed over in silence when nothing
vouches for it: a writer may be at work there, or may have died there. Otherwise it is damage, and is named.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from lorch_actors.errors import LedgerDamaged
from lorch_actors.protocol.messages import Entry, Message
from lorch_actors.storage import disk
from lorch_actors.storage.disk import StrPath
from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.ledger_legacy import is_legacy, legacy_messages
from lorch_actors.storage.ledger_scan import Fault, Judgement, ProvenLine, Walk, durable_of, fits, judge


class LedgerLine(NamedTuple):
    """One line as it stands in the file.

    offset: where it starts. raw: its bytes without newline. message_json: the message without our key. A line of a
    legacy ledger has an empty chain and ``durable`` 0.
    """

    seq: int
    durable: int
    chain: str
    offset: int
    raw: bytes
    message_json: bytes

    def end(self) -> Position:
        """Return the place after this line: from there the next one is read."""
        return Position(self.seq, self.chain, self.offset + len(self.raw) + 1)


class Inspection(Struct, frozen=True):
    """How a ledger ends.

    end: the place after the last provable line. durable: the highest number some line says was on the disk.
    tail_bytes: how much stands behind ``end`` that was never acknowledged. tail: what that is, in words.
    """

    end: Position
    durable: int
    legacy: bool = False
    tail_bytes: int = 0
    tail: str = ""


def damaged(path: StrPath, fault: Fault, judgement: Judgement) -> LedgerDamaged:
    """Return the error for a fault in what was acknowledged."""
    return LedgerDamaged(
        f"the ledger is damaged: {judgement.what}",
        where=place_name(path, fault.before),
        remedy="Restore the file from a backup, or start over with `run --new`. Nothing was changed.",
    )


def place_name(path: StrPath, before: Position) -> str:
    """Return how errors name the line after a place: path, line number, byte offset."""
    return f"{os.fsdecode(path)}, line {before.seq + 1}, byte {before.offset}"


def read_entries(
    path: StrPath, run_id: str, *, after: Position | None = None, upto_seq: int | None = None
) -> Iterator[tuple[Entry, Position]]:
    """Yield the entries after a place (default: all), up to and with ``upto_seq`` (default: the end).

    Each comes with the place after it. Raises LedgerDamaged, StorageError.
    """
    fd = disk.open_read(path)
    try:
        if _reads_as_legacy(fd, run_id, after):
            for place, _, message in legacy_messages(fd, os.fsdecode(path), after):
                if upto_seq is not None and place.seq > upto_seq:
                    return
                yield Entry(place.seq, "", message), place
            return
        decoder: msgspec.json.Decoder[Message] | None = None
        for seq, chain, offset, cut, raw in _proven_lines(fd, path, run_id, after, upto_seq):
            if decoder is None:  # made for the first line: who reads on from the last one needs none
                decoder = msgspec.json.Decoder(Message)
            try:
                message = decoder.decode(raw[:cut] + b"}")
            except msgspec.MsgspecError:
                message = _decode_otherwise(raw[:cut] + b"}", f"{os.fsdecode(path)}, line {seq}, byte {offset}")
            link = chain.decode()
            yield Entry(seq, link, message), Position(seq, link, offset + len(raw) + 1)
    finally:
        disk.close(fd)


def _decode_otherwise(message_json: bytes, where: str) -> Message:
    """Decode what the fast decoder refuses: a checksum that was accepted with a warning. Raises LedgerDamaged."""
    from lorch_actors.protocol.parse import InvalidLine, decode

    try:
        return decode(message_json)
    except InvalidLine as error:
        raise LedgerDamaged(
            f"the ledger is damaged: a sealed line is no message: {error}",
            where=where,
            remedy="Was it written by a newer version? Use that one.",
        ) from error


def read_lines(
    path: StrPath, run_id: str, *, after: Position | None = None, upto_seq: int | None = None
) -> Iterator[LedgerLine]:
    """Yield the lines after a place, as `read_entries` does, without looking into the messages."""
    fd = disk.open_read(path)
    try:
        if _reads_as_legacy(fd, run_id, after):
            for place, raw, _ in legacy_messages(fd, os.fsdecode(path), after):
                if upto_seq is not None and place.seq > upto_seq:
                    return
                yield LedgerLine(place.seq, 0, "", place.offset - len(raw) - 1, raw, raw)
            return
        for seq, chain, offset, cut, raw in _proven_lines(fd, path, run_id, after, upto_seq):
            yield LedgerLine(seq, durable_of(raw), chain.decode(), offset, raw, raw[:cut] + b"}")
    finally:
        disk.close(fd)


def inspect(path: StrPath, run_id: str) -> Inspection:
    """Prove the whole ledger and tell how it ends. Raises LedgerDamaged, StorageError."""
    fd = disk.open_read(path)
    try:
        if _reads_as_legacy(fd, run_id, None):
            end = Position(0, "", 0)
            for end, _, _ in legacy_messages(fd, os.fsdecode(path), None):  # noqa: B007 - the last one is wanted
                continue
            return Inspection(end, 0, legacy=True)
        walk = Walk(fd, Position.start(run_id))
        raw = b""
        for *_, raw in walk.lines():  # noqa: B007 - the last one is wanted
            continue
        durable = durable_of(raw) if raw else 0
        if walk.fault is None:
            return Inspection(walk.end, durable)
        judgement = _judge_tail(fd, path, walk.fault)
        size = disk.status(fd).st_size
        return Inspection(walk.end, durable, tail_bytes=size - walk.end.offset, tail=judgement.what)
    finally:
        disk.close(fd)


def _reads_as_legacy(fd: int, run_id: str, after: Position | None) -> bool:
    if after is not None and after.seq:
        return not after.chain
    walk = Walk(fd, Position.start(run_id))
    return next(walk.lines(), None) is None and walk.fault is not None and is_legacy(fd)


def _proven_lines(
    fd: int, path: StrPath, run_id: str, after: Position | None, upto_seq: int | None
) -> Iterator[ProvenLine]:
    """Yield the proven lines after a place, from there on if it fits the file, else from the start."""
    start = Position.start(run_id)
    wanted = after or start
    is_there = fits(fd, wanted, run_id)
    walk = Walk(fd, wanted if is_there else start)
    lines = walk.lines()
    if wanted.seq and not is_there:
        _pass_over(lines, wanted, path)
    if upto_seq is None:
        yield from lines
    else:
        for line in lines:
            if line[0] > upto_seq:
                return
            yield line
    if upto_seq is None and walk.end.seq >= wanted.seq:
        if walk.fault is not None:
            _judge_tail(fd, path, walk.fault)
        return
    _require_reached(fd, path, walk, max(wanted.seq, upto_seq or 0))


def _pass_over(lines: Iterator[ProvenLine], wanted: Position, path: StrPath) -> None:
    """Read up to the line before the wanted place, and see that it is the one that was there."""
    for seq, link, offset, _, _ in lines:
        if seq < wanted.seq:
            continue
        if link.decode() != wanted.chain:
            raise LedgerDamaged(
                f"line {seq} has the chain {link.decode()}, a reader saw it with {wanted.chain}",
                where=f"{os.fsdecode(path)}, line {seq}, byte {offset}",
                remedy="The file was replaced by another one. Put the right one back.",
            )
        return


def _require_reached(fd: int, path: StrPath, walk: Walk, seq: int) -> None:
    """Raise LedgerDamaged if the ledger ends before a line that was on the disk once."""
    if walk.end.seq >= seq:
        return
    if walk.fault is not None:
        raise damaged(path, walk.fault, judge(fd, walk.fault))
    raise LedgerDamaged(
        f"the ledger ends after line {walk.end.seq}, but line {seq} was on the disk once",
        where=place_name(path, walk.end),
        remedy="Restore the file from a backup, or start over with `run --new`.",
    )


def _judge_tail(fd: int, path: StrPath, fault: Fault) -> Judgement:
    judgement = judge(fd, fault)
    if fault.before.seq < judgement.acknowledged:
        raise damaged(path, fault, judgement)
    return judgement
