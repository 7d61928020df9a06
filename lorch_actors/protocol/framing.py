"""Lines out of a byte stream (NDJSON), in memory bounded by the limit, whatever arrives in whatever pieces.

A line is what stands between two newlines; a carriage return before the newline is JSON whitespace and belongs to the
line. Each byte is looked at once, so a line that trickles in byte by byte costs no more than one that comes whole.
"""

from typing import Final

from msgspec import Struct

from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES

Line = bytes
"""One line without its newline; it may be empty."""

OVERSIZE_HEAD_BYTES: Final = 1024
"""How much of a line over the limit is kept for the log."""


class OversizeLine(Struct, frozen=True):
    """A line that was dropped because it is over the limit: its length without newline, and how it began."""

    size_bytes: int
    head: bytes


class LineReader:
    """Cuts a stream into lines. Lines of exactly the limit are delivered, longer ones become an OversizeLine."""

    def __init__(self, limit_bytes: int = MESSAGE_MAX_BYTES, head_bytes: int = OVERSIZE_HEAD_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._head_bytes = min(head_bytes, limit_bytes)
        self._begun = bytearray()  # the unfinished line; of one over the limit only its head
        self._begun_bytes = 0  # how long the unfinished line is by now

    @property
    def pending_bytes(self) -> int:
        """How many bytes have come since the last newline."""
        return self._begun_bytes

    def feed(self, data: bytes) -> list[Line | OversizeLine]:
        """Take the next piece of the stream; return the lines that end in it."""
        if b"\n" not in data:
            self._extend(data)
            return []
        first, *middle, last = data.split(b"\n")
        lines: list[Line | OversizeLine] = [self._finish(first)]
        lines.extend(self._measure(line) for line in middle)
        self._extend(last)
        return lines

    def close(self) -> list[Line | OversizeLine]:
        """End the stream; return the last line if it had no newline."""
        return [self._finish(b"")] if self._begun_bytes else []

    def _measure(self, line: bytes) -> Line | OversizeLine:
        size_bytes = len(line)
        return line if size_bytes <= self._limit_bytes else OversizeLine(size_bytes, line[: self._head_bytes])

    def _finish(self, piece: bytes) -> Line | OversizeLine:
        if not self._begun_bytes:
            return self._measure(piece)
        self._extend(piece)
        size_bytes, kept = self._begun_bytes, bytes(self._begun)
        self._begun = bytearray()
        self._begun_bytes = 0
        return kept if size_bytes <= self._limit_bytes else OversizeLine(size_bytes, kept[: self._head_bytes])

    def _extend(self, piece: bytes) -> None:
        self._begun_bytes += len(piece)
        if self._begun_bytes <= self._limit_bytes:
            self._begun += piece
        else:
            self._begun = (self._begun + piece[: self._head_bytes])[: self._head_bytes]
