"""How one line of the ledger is written (SPEC §4). Pure: bytes in, bytes out.

A line is a message in compact JSON with one more top-level key, always the last one:

    {"kind":"event", ... ,"ledger":{"seq":7,"durable":5,"chain":"0123456789abcdef"}}

``seq`` numbers the lines from 1. ``durable`` is the highest number known to be on the disk when the line was written,
so it is below ``seq``. ``chain`` is the first 16 hex digits of SHA-256 over the previous line's chain (for the first
line: the run id) and this line up to ``,"chain":"``. So a line proves every byte of itself and of all lines before it.

This form is part of the public file format: any change needs a reader for the old one.
"""

import re
from binascii import hexlify
from hashlib import sha256
from typing import Final, NamedTuple, Self

from msgspec import Struct

LINE_MAX_BYTES: Final = 4 * 1024 * 1024
"""Longest line, without its newline: a message of 256 KiB that redaction made longer, and then some. Nothing longer is
written, so whatever is longer was not written by us."""

CHAIN_KEY: Final = b',"chain":"'
CHAIN_BYTES: Final = len(CHAIN_KEY) + 16 + len(b'"}}')
"""Length of a line's end, from its last ``,"chain":"`` on."""

TAIL_MAX_BYTES: Final = 128
"""No less than the longest ``,"ledger":{…}}``, with both numbers at 19 digits."""

_TAIL: Final = re.compile(
    rb',"ledger":\{"seq":([1-9][0-9]{0,18}),"durable":(0|[1-9][0-9]{0,18}),"chain":"([0-9a-f]{16})"\}\}\Z'
)


class Position(Struct, frozen=True):
    """A place between two lines: the line before it, and where the next one starts.

    seq: number of the line before, 0 at the start. chain: its chain, the run id at the start. offset: bytes from the
    start of the file to just after its newline.
    """

    seq: int
    chain: str
    offset: int

    @classmethod
    def start(cls, run_id: str) -> Self:
        """Return the place before the first line."""
        return cls(seq=0, chain=run_id, offset=0)


class SealedLine(NamedTuple):
    """The parts of a line. ``hashed`` is what its chain was computed over, after the previous chain."""

    message_json: bytes
    seq: int
    durable: int
    chain: str
    hashed: bytes


def link(previous_chain: str, hashed: bytes) -> str:
    """Return the chain of a line whose bytes before ``,"chain":"`` are these."""
    return hexlify(sha256(previous_chain.encode() + hashed).digest()[:8]).decode()


def seal(message_json: bytes, seq: int, durable: int, previous_chain: str) -> tuple[bytes, str]:
    """Return the ledger line of a message, without newline, and its chain.

    message_json: a compact JSON object with at least one key. Raises ValueError for what could not be read again.
    """
    if not (message_json.startswith(b"{") and message_json.endswith(b"}") and len(message_json) > len(b"{}")):
        raise ValueError("a ledger line is made of a JSON object with at least one key")
    if b"\n" in message_json:
        raise ValueError("a ledger line contains no newline")
    if not 0 <= durable < seq:
        raise ValueError(f"line {seq} cannot have been written when line {durable} was durable")
    hashed = b'%b,"ledger":{"seq":%d,"durable":%d' % (message_json[:-1], seq, durable)
    if len(hashed) + CHAIN_BYTES > LINE_MAX_BYTES:
        raise ValueError(f"a ledger line has at most {LINE_MAX_BYTES} bytes")
    chain = link(previous_chain, hashed)
    return b'%b,"chain":"%b"}}' % (hashed, chain.encode()), chain


def split(line: bytes) -> SealedLine | None:
    """Return the parts of a line (without newline), or None if it lacks the form; its chain is not checked."""
    if len(line) > LINE_MAX_BYTES:
        return None
    match = _TAIL.search(line, max(0, len(line) - TAIL_MAX_BYTES))
    if match is None or not line.startswith(b"{") or match.start() < len(b'{"'):
        return None
    seq, durable = int(match[1]), int(match[2])
    if durable >= seq:
        return None
    return SealedLine(line[: match.start()] + b"}", seq, durable, match[3].decode(), line[:-CHAIN_BYTES])


def follows(line: bytes, seq: int, previous_chain: str) -> SealedLine | None:
    """Return the parts of a line if it is line ``seq`` after the one with that chain, every byte as written."""
    sealed = split(line)
    if sealed is None or sealed.seq != seq or sealed.chain != link(previous_chain, sealed.hashed):
        return None
    return sealed
