"""``logs/<agent>/<run_id>.ndjson``: what an agent wrote that is no entry, and how its processes ended.

For people who look for a reason: one JSON object a line, with time and incarnation. Not synced; the ledger is the
record. Of what is more than ``LOG_MAX_BYTES`` in one run nothing is kept, whatever an agent writes all night.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.protocol.framing import LineReader, OversizeLine
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.storage import disk

STDERR_LINE_MAX_BYTES: Final = 64 * 1024
LOG_MAX_BYTES: Final = 1 << 30


class AgentLog:
    """One agent's log, open for appending."""

    def __init__(self, path: Path, redactor: Redactor, *, limit_bytes: int = LOG_MAX_BYTES) -> None:
        disk.make_directory(path.parent)
        self._fd = disk.open_append(path)
        self._room_bytes = max(0, limit_bytes - disk.status(self._fd).st_size)
        self._redactor = redactor
        self._stderr = LineReader(STDERR_LINE_MAX_BYTES)

    def note(self, agent_id: str, note: dict[str, Any], now_ms: int) -> None:
        """Write one note. ``now_ms``: since the epoch."""
        self._write(_line(agent_id, now_ms, note), agent_id, now_ms)

    def stderr(self, agent_id: str, piece: bytes, now_ms: int, *, last: bool = False) -> None:
        """Write the lines that a piece of standard error completes; the unfinished one too if it is the ``last``."""
        lines = self._stderr.feed(piece) + (self._stderr.close() if last else [])
        written = bytearray()
        for line in lines:
            written += _line(agent_id, now_ms, {"stream": "stderr", **self._told(line)})
        if written:
            self._write(bytes(written), agent_id, now_ms)

    def _write(self, lines: bytes, agent_id: str, now_ms: int) -> None:
        if len(lines) > self._room_bytes > 0:
            lines = _line(agent_id, now_ms, {"reason": "this log is full: from here on nothing of this run is kept"})
            self._room_bytes = len(lines)
        if self._room_bytes > 0:
            disk.write(self._fd, lines)
            self._room_bytes -= len(lines)

    def _told(self, line: bytes | OversizeLine) -> dict[str, Any]:
        if isinstance(line, OversizeLine):
            head = self._redactor.bytes(line.head, is_cut=True).decode("utf-8", "replace")
            return {"oversize_bytes": line.size_bytes, "head": head}
        return {"line": self._redactor.bytes(line).decode("utf-8", "replace")}

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1


def _line(agent_id: str, now_ms: int, note: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"at": to_timestamp(now_ms), "agent_id": agent_id, **note}) + b"\n"
