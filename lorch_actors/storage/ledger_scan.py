"""Walks along a ledger, proves each line from the one before, and judges the first that cannot be proved.

Memory stays bounded whatever the file holds: it is read in blocks of 128 KiB, and a stretch without newline that is
longer than a line may be is dropped. The walk is the hot path of every start, so it is one loop without calls of
our own.
"""

from binascii import hexlify
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from msgspec import Struct

from lorch_actors.storage import disk
from lorch_actors.storage.ledger_format import (
    CHAIN_BYTES,
    CHAIN_KEY,
    LINE_MAX_BYTES,
    TAIL_MAX_BYTES,
    Position,
    SealedLine,
    split,
)

BLOCK_BYTES: Final = 1 << 17


ProvenLine = tuple[int, bytes, int, int, bytes]
"""A line whose number and chain are right: seq, chain, offset, cut, raw.

offset: where it starts in the file. raw: the line without newline. cut: where its ledger key starts in ``raw``, so
``raw[:cut] + b"}"`` is the message. A plain tuple, because naming its parts would cost a tenth of the walk.
"""


def durable_of(raw: bytes) -> int:
    """Return the highest number that was known to be on the disk when this proven line was written."""
    mark = b'"durable":'
    return int(raw[raw.rindex(mark) + len(mark) : -CHAIN_BYTES])


class Fault(NamedTuple):
    """Where the proof broke off.

    before: the place after the last proven line. line: the bytes that stand there up to a newline or the end of the
    file, None if they are longer than any line. finished: whether a newline ends them.
    """

    before: Position
    line: bytes | None
    finished: bool


class Walk:
    """One pass over a ledger from a place on. After the last line, ``end`` and ``fault`` tell how it came out.

    end: the place after the last proven line. fault: what stands there instead of a line, None at the end of the file.
    lacks_newline: the last proven line is the end of the file and has no newline.
    """

    def __init__(self, fd: int, start: Position) -> None:
        self._fd = fd
        self.end = start
        self.fault: Fault | None = None
        self.lacks_newline = False

    def lines(self) -> Iterator[ProvenLine]:
        """Yield the lines that can be proved, in order, up to the first that cannot."""
        seq, chain, offset = self.end.seq, self.end.chain.encode(), self.end.offset
        for lines, finished in line_blocks(self._fd, offset):
            for raw in lines:
                if raw is None:
                    self._stop(seq, chain, offset, raw, finished=finished)
                    return
                # ledger_format.follows() in one go; a test holds the two together
                link = hexlify(sha256(chain + raw[:-CHAIN_BYTES]).digest()[:8])
                cut = raw.rfind(b',"ledger":{"seq":%d,' % (seq + 1), -TAIL_MAX_BYTES)
                if cut < 0 or not raw.endswith(CHAIN_KEY + link + b'"}}'):
                    self._stop(seq, chain, offset, raw, finished=finished)
                    return
                seq += 1
                yield seq, link, offset, cut, raw
                chain = link
                offset += len(raw) + 1
            self.lacks_newline = not finished
        self.end = Position(seq, chain.decode(), offset)

    def _stop(self, seq: int, chain: bytes, offset: int, line: bytes | None, *, finished: bool) -> None:
        self.end = Position(seq, chain.decode(), offset)
        self.fault = Fault(self.end, line, finished)


def line_blocks(fd: int, offset: int) -> Iterator[tuple[list[bytes | None], bool]]:
    """Yield lists of lines, and whether newlines end them. What is longer than any line comes as None."""
    disk.seek(fd, offset)
    rest = b""
    overlong = False
    while block := disk.read(fd, BLOCK_BYTES):
        lines: list[bytes | None] = [*(rest + block).split(b"\n")]
        rest = lines.pop() or b""
        if overlong and lines:
            lines[0] = None
            overlong = False
        if overlong or len(rest) > LINE_MAX_BYTES:
            overlong = True
            rest = b""
        yield lines, True
    if overlong:
        yield [None], False
    elif rest:
        yield [rest], False


class Judgement(Struct, frozen=True):
    """What stands behind a fault.

    what: what is wrong there, in words. acknowledged: the highest number that a line behind the fault vouches for, 0
    if none does: up to it, lines were on the disk once.
    """

    what: str
    acknowledged: int


def judge(fd: int, fault: Fault) -> Judgement:
    """Read on behind a fault to see what it is and whether a later line proves that it was not the end.

    The file ended at an unfinished fault when the walk met it. What a writer may have added since proves nothing.
    """
    expected = fault.before.seq + 1
    first = split(fault.line) if fault.line is not None else None
    acknowledged = first.durable if first is not None and first.seq > expected else 0
    found_later = False
    for lines, _ in line_blocks(fd, fault.before.offset) if fault.finished else ():
        for line in lines:
            sealed = split(line) if line is not None else None
            if sealed is not None and sealed.seq > expected:
                acknowledged = max(acknowledged, sealed.durable)
            elif sealed is not None and sealed.seq == expected:
                found_later = True
    return Judgement(_describe(fault, first, moved=found_later), acknowledged)


def _describe(fault: Fault, first: SealedLine | None, *, moved: bool) -> str:
    expected = fault.before.seq + 1
    if fault.line is None:
        return f"more than {LINE_MAX_BYTES} bytes without a newline stand where line {expected} belongs"
    if first is None and not fault.finished:
        return f"line {expected} is torn: the file ends in the middle of it"
    if first is None:
        return f"what stands where line {expected} belongs is no ledger line"
    if first.seq == expected:
        return f"line {expected} is other than it was written, or does not follow line {expected - 1}"
    if first.seq == fault.before.seq and first.chain == fault.before.chain:
        return f"line {first.seq} stands there twice"
    if first.seq < expected or moved:
        return f"line {first.seq} stands where line {expected} belongs"
    if first.seq == expected + 1:
        return f"line {expected} is missing"
    return f"lines {expected} to {first.seq - 1} are missing"


def fits(fd: int, place: Position, run_id: str) -> bool:
    """Say whether the line that ends at this place has its number and chain."""
    if place.seq == 0:
        return place == Position.start(run_id)
    start = max(0, place.offset - TAIL_MAX_BYTES - 1)
    disk.seek(fd, start)
    tail = disk.read(fd, place.offset - start)
    return (
        len(tail) == place.offset - start
        and tail.endswith(b',"chain":"%b"}}\n' % place.chain.encode())
        and b',"ledger":{"seq":%d,"durable":' % place.seq in tail
    )
