"""Ledgers of lorch 1.5: one message a line without our key, blank lines and ``null`` lines in between.

The first line that says something decides which kind a ledger is. Such a ledger is read, never written.
"""

from collections.abc import Iterator
from typing import Final

from lorch_actors.errors import LedgerDamaged
from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.messages import Message
from lorch_actors.storage.ledger_format import TAIL_MAX_BYTES, Position, split
from lorch_actors.storage.ledger_scan import line_blocks

_OUR_MARKS: Final = (b'"ledger":{', b'"durable":', b'"chain":"')


def is_legacy(fd: int) -> bool:
    """Say whether the first line that says something is a message without our key.

    A line of ours with one damaged byte still has two of its three marks, so it is not taken for one of lorch 1.5.
    """
    for lines, _ in line_blocks(fd, 0):
        for line in lines:
            if line is None or any(mark in line[-TAIL_MAX_BYTES:] for mark in _OUR_MARKS):
                return False
            try:
                if _parsed(line) is not None:
                    return True
            except InvalidLine:
                return False
    return False


def legacy_messages(fd: int, where: str, after: Position | None) -> Iterator[tuple[Position, bytes, Message]]:
    """Yield each message with the place after it and its line; messages are numbered from 1, chains are empty.

    A last line without newline that is no message was being written when lorch 1.5 died: it ends the ledger. Raises
    LedgerDamaged for any other line that is no message, naming ``where``, line and offset.
    """
    seq, offset = (after.seq, after.offset) if after else (0, 0)
    number = 0
    for lines, finished in line_blocks(fd, offset):
        for line in lines:
            number += 1
            try:
                message = _message(line)
            except InvalidLine as error:
                if not finished:
                    return
                counted = f"line {number} after message {after.seq}" if after else f"line {number}"
                raise LedgerDamaged(
                    f"{counted} is no message: {error}",
                    where=f"{where}, {counted}, byte {offset}",
                    remedy="Restore the file from a backup, or start a new run.",
                ) from error
            raw = line or b""
            offset += len(raw) + 1
            if message is not None:
                seq += 1
                yield Position(seq, "", offset), raw, message


def _message(line: bytes | None) -> Message | None:
    if line is None:
        raise InvalidLine("longer than any message")
    if split(line) is not None:
        raise InvalidLine("sealed, in a ledger whose first line is not")
    return _parsed(line)


def _parsed(line: bytes) -> Message | None:
    from lorch_actors.protocol.parse import parse_legacy  # who reads a ledger of our own needs none of it

    return parse_legacy(line)
