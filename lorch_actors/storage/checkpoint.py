"""``state/checkpoint.cbor``: the folded state and the place in the ledger it stands for; a resume reads only the rest.

A cache and nothing more: whatever is wrong with it, reading says None and the ledger is folded from its start.

Format: one line ``lorch-checkpoint 1 <64 hex>``, the SHA-256 of the rest; then CBOR of
``[run_id, seq, chain, offset, state]``.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import cbor2
import msgspec

from lorch_actors.errors import StorageError
from lorch_actors.storage import atomic, disk
from lorch_actors.storage.ledger_format import Position

_HEADER: Final = b"lorch-checkpoint 1 "
_LIMIT_BYTES: Final = 256 * 1024 * 1024


def write_checkpoint(path: Path, run_id: str, position: Position, state: Any) -> None:
    """Replace the checkpoint. ``state``: dicts, lists, strings, numbers, booleans, None. Raises StorageError."""
    body = cbor2.dumps([run_id, position.seq, position.chain, position.offset, state])
    atomic.write_atomic(path, _header(body) + body)


def read_checkpoint(path: Path, run_id: str) -> tuple[Position, Any] | None:
    """Return place and state; None if there is no checkpoint of this run that is whole."""
    try:
        content = disk.read_file(path, _LIMIT_BYTES)
        if content is None:
            return None
        start = content.find(b"\n") + 1
        if start == 0 or content[:start] != _header(content[start:]):
            return None
        of_run, seq, chain, offset, state = cbor2.loads(content[start:])
        position = msgspec.convert({"seq": seq, "chain": chain, "offset": offset}, Position)
    except (StorageError, msgspec.ValidationError, cbor2.CBORDecodeError, ValueError, TypeError):
        return None
    return (position, state) if of_run == run_id else None


def _header(body: bytes) -> bytes:
    return _HEADER + hashlib.sha256(body).hexdigest().encode() + b"\n"
