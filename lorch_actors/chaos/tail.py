"""Reads a ledger while it is written, as an outsider: who runs, when things were seen, and what was acknowledged.

An entry is acknowledged when a later line says that it is durable; from then on it has to stay. What was read beyond
that may be cut off by a writer that repairs the tail, so everything is read again when a line does not follow.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.times import from_timestamp

_CHUNK_BYTES: Final = 1 << 20


class Note(NamedTuple):
    """One command or event of interest.

    seen_ms: when it was read; said_ms: when it says that it happened; both milliseconds since the epoch. name:
    ``command``, or the event's name without ``system.``. who: the agent's role, the worker or the actor.
    """

    seen_ms: float
    said_ms: int
    name: str
    who: str = ""
    agent_id: str = ""
    identity: ProcessIdentity | None = None


class Tail:
    """The ledger of one run, read so far.

    agents, workers: the processes that are up, by role and worker name. acknowledged: chain by number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[Note] = []
        self.acknowledged: dict[int, str] = {}
        self.agents: dict[str, tuple[str, ProcessIdentity]] = {}
        self.workers: dict[str, ProcessIdentity] = {}
        self.size_bytes = 0
        self._read_bytes = 0
        self._chains: dict[int, str] = {}  # of lines that nothing vouches for yet
        self._seq = 0
        self._known: set[str] = set()

    @property
    def started(self) -> bool:
        """Whether the run is in its ledger, so that it can be resumed."""
        return self._seq > 0

    def look(self, now_ms: float) -> None:
        """Take what was appended since. now_ms: the time, in milliseconds since the epoch."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self.size_bytes = os.fstat(fd).st_size
            if self.size_bytes < self._read_bytes:
                self._start_over()
            while data := os.pread(fd, _CHUNK_BYTES, self._read_bytes):
                whole = data[: data.rfind(b"\n") + 1]
                if not whole or not self._take(whole, now_ms):
                    return
        finally:
            os.close(fd)

    def _take(self, data: bytes, now_ms: float) -> bool:
        """Take whole lines; return False where one does not follow, to be read again the next time."""
        for raw in data.splitlines(keepends=True):
            try:
                line = msgspec.json.decode(raw)
                seal = line["ledger"]
            except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
                seal = {"seq": -1}
            if seal["seq"] != self._seq + 1:
                self._start_over()
                return False
            self._seq += 1
            self._read_bytes += len(raw)
            self._chains[self._seq] = seal["chain"]
            for seq in [seq for seq in self._chains if seq <= seal["durable"]]:
                self.acknowledged[seq] = self._chains.pop(seq)
            self._note(line, now_ms)
        return True

    def _start_over(self) -> None:
        self._read_bytes = 0
        self._seq = 0
        self._chains.clear()
        self.agents.clear()
        self.workers.clear()

    def _note(self, line: Mapping[str, Any], now_ms: float) -> None:
        if line["kind"] not in {"command", "event"}:
            return
        note = _note_of(line, now_ms)
        self._follow(note)
        if line["message_id"] not in self._known:
            self._known.add(line["message_id"])
            self.notes.append(note)

    def _follow(self, note: Note) -> None:
        match note.name:
            case "agent_started" if note.identity is not None:
                self.agents[note.who] = (note.agent_id, note.identity)
            case "agent_exited" if self.agents.get(note.who, ("", None))[0] == note.agent_id:
                del self.agents[note.who]
            case "worker_started" if note.identity is not None:
                self.workers[note.who] = note.identity
            case "run_resumed":
                self.agents.clear()
                self.workers.clear()


def _note_of(line: Mapping[str, Any], now_ms: float) -> Note:
    if line["kind"] == "command":
        return Note(now_ms, round(now_ms), "command", line["to"]["agent_type"])
    payload = line.get("payload") or {}
    process = payload.get("process")
    return Note(
        now_ms,
        from_timestamp(line["occurred_at"]),
        line["event"].removeprefix("system."),
        str(payload.get("agent_type") or payload.get("actor") or ""),
        str(payload.get("agent_id") or ""),
        ProcessIdentity(**process) if isinstance(process, dict) else None,
    )
