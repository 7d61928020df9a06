"""What an agent has done, on disk: the memory that lets it answer a repeated command without doing the work again.

One file for each role and workspace, ``state/agents/<role>.journal.ndjson``, append-only. Its kinds of line:

``{"entry":"started","key":…,"action":…,"task_id":…,"round":…,"correlation_id":…,"pid":…,"at":…}``
    synced before the work begins: one line for every real execution, so counting them counts executions.
``{"entry":"finished","key":…,"outcome":{"event":…,"status"?,"payload"?,"artifacts"?},"at":…}``
    synced before the terminal event is sent: what was answered is never forgotten.

``{"entry":"session","key":…,"session_id":…,"usage"?,"at":…}``
    synced when an adapter's CLI names its session, and again when that ends with what it used by then; an empty id
    says that the session must not be resumed.

``{"entry":"began","pid":…,"at":…}``
    one process of this agent came up (kept only where somebody wants to count them).

A line that was torn, by a crash or by a disk that refused the rest, is closed off with a newline before the next one is
written, and passed over.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.agents import files
from lorch_actors.protocol.messages import Artifact, Command
from lorch_actors.storage import disk

_LINE_MAX_BYTES: Final = 1 << 20
"""Longer lines are no entries: an outcome fits into a message of 256 KiB, escaped or not."""


class Started(msgspec.Struct, frozen=True, tag_field="entry", tag="started"):
    """One execution began. at: milliseconds since the epoch."""

    key: str
    action: str
    task_id: str
    correlation_id: str
    pid: int
    at: int
    round: int | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The terminal event of a command, without what is fresh in every message.

    message_id: of the event that told it first.
    """

    event: str
    status: str | None = None
    payload: dict[str, Any] | None = None
    artifacts: list[Artifact] | None = None
    message_id: str | None = None


class Finished(msgspec.Struct, frozen=True, tag_field="entry", tag="finished"):
    """One execution ended with this outcome. at: milliseconds since the epoch."""

    key: str
    outcome: Outcome
    at: int


class Session(msgspec.Struct, frozen=True, tag_field="entry", tag="session", omit_defaults=True):
    """The session of a foreign CLI that works on a key. usage: what is reported of it. at: milliseconds since 1970."""

    key: str
    session_id: str
    at: int
    usage: dict[str, int | float] = msgspec.field(default_factory=dict)


class Began(msgspec.Struct, frozen=True, tag_field="entry", tag="began"):
    """One process of this agent came up. at: milliseconds since the epoch."""

    pid: int
    at: int


Entry = Started | Finished | Session | Began
_decoder: Final = msgspec.json.Decoder(Entry)


class Journal:
    """The journal in one file. `clock_ms` returns milliseconds since the epoch.

    Memory grows with the number of keys, not with what was answered: outcomes stay in the file until they are needed.
    """

    def __init__(self, path: Path, clock_ms: Callable[[], int]) -> None:
        disk.make_directory(path.parent)
        self._path = path
        self._clock_ms = clock_ms
        self._fd = disk.open_append(path)
        self._first: dict[str, Started] = {}
        self._executions: dict[str, int] = {}
        self._finished_at: dict[str, int] = {}
        self._sessions: dict[str, Session] = {}
        self._processes = 0
        self._is_torn = False  # a write was refused, and may have left half a line
        self._load()

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def began(self) -> int:
        """Record, durably, that a process of this agent came up; return how often that has happened."""
        self._append(Began(pid=os.getpid(), at=self._clock_ms()))
        self._processes += 1
        return self._processes

    def started(self, command: Command) -> int:
        """Record, durably, that this command is executed now; return how often by now, this time included."""
        round_ = command.inputs.get("round")
        entry = Started(
            key=command.idempotency_key,
            action=command.action,
            task_id=command.task_id,
            correlation_id=command.correlation_id,
            pid=os.getpid(),
            at=self._clock_ms(),
            round=round_ if isinstance(round_, int) else None,
        )
        self._append(entry)
        return self._note(entry)

    def finished(self, key: str, outcome: Outcome) -> None:
        """Record, durably, what a command came to."""
        self._finished_at[key] = self._append(Finished(key=key, outcome=outcome, at=self._clock_ms()))

    def answer(self, key: str, workspace: Path) -> Outcome | None:
        """Return the earlier outcome of this key, or None if the work has to be done.

        That is so if it never ended, ended with an `error`, or a claimed artifact is no longer as claimed.
        """
        offset = self._finished_at.get(key)
        if offset is None:
            return None
        outcome = self._read(offset)
        if outcome is None or outcome.event == "error":
            return None
        return outcome if all(files.holds(workspace, claim) for claim in outcome.artifacts or ()) else None

    def met_session(self, key: str, session_id: str, usage: dict[str, int | float] | None = None) -> None:
        """Record, durably, which session works on a key and what it used so far; an empty id: none from now on."""
        entry = Session(key=key, session_id=session_id, at=self._clock_ms(), usage=usage or {})
        self._append(entry)
        self._sessions[key] = entry

    def session(self, key: str) -> Session | None:
        """Return the session that may be resumed for this key."""
        known = self._sessions.get(key)
        return known if known is not None and known.session_id else None

    def executions(self, key: str) -> int:
        """Return how often the work of this key was begun."""
        return self._executions.get(key, 0)

    def position(self, key: str, like: Callable[[Started], bool]) -> int:
        """Return how many distinct keys that are alike were begun before this one was begun first."""
        return sum(1 for entry in self._first_before(key) if like(entry))

    def _first_before(self, key: str) -> list[Started]:
        entries = list(self._first.values())
        keys = list(self._first)
        return entries[: keys.index(key)] if key in self._first else entries

    def _note(self, entry: Started) -> int:
        self._finished_at.pop(entry.key, None)  # it is begun anew, since what it came to no longer holds
        self._first.setdefault(entry.key, entry)
        self._executions[entry.key] = self._executions.get(entry.key, 0) + 1
        return self._executions[entry.key]

    def _append(self, entry: Entry) -> int:
        """Append an entry, synced; return its offset."""
        line = msgspec.json.encode(entry) + b"\n"
        is_torn, self._is_torn = self._is_torn, True
        disk.write(self._fd, b"\n" + line if is_torn else line)
        self._is_torn = False
        # Asked, not counted: an earlier incarnation that is still dying may append as well.
        offset = os.lseek(self._fd, 0, os.SEEK_CUR) - len(line)
        disk.sync_data(self._fd)
        return offset

    def _load(self) -> None:
        """Read every entry; close off a torn last line."""
        offset, last = 0, b"\n"
        with open(self._path, "rb") as file:
            while line := file.readline(_LINE_MAX_BYTES):
                self._recall(line, offset)
                offset += len(line)
                last = line
        if not last.endswith(b"\n"):
            disk.write(self._fd, b"\n")
        disk.sync_file(self._fd)
        disk.sync_directory(self._path.parent)

    def _recall(self, line: bytes, offset: int) -> None:
        try:
            entry = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):  # torn by a crash, or not ours: it stands for nothing
            return
        if isinstance(entry, Started):
            self._note(entry)
        elif isinstance(entry, Finished):
            self._finished_at[entry.key] = offset
        elif isinstance(entry, Session):
            self._sessions[entry.key] = entry
        else:
            self._processes += 1

    def _read(self, offset: int) -> Outcome | None:
        with open(self._path, "rb") as file:
            file.seek(offset)
            try:
                entry = _decoder.decode(file.readline(_LINE_MAX_BYTES))
            except (msgspec.DecodeError, UnicodeDecodeError):  # the file was changed under us: do the work again
                return None
        return entry.outcome if isinstance(entry, Finished) else None


def outcome_of(document: Mapping[str, Any]) -> Outcome | None:
    """Return the outcome that an event document stands for, or None if it is not one a journal can keep."""
    picked = {
        name: document[name] for name in ("event", "status", "payload", "artifacts", "message_id") if name in document
    }
    try:
        return msgspec.convert(picked, Outcome)
    except msgspec.ValidationError:
        return None
