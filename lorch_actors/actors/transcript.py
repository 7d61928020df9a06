"""The transcript: what the run says to people, in a file and on the console.

The file is a projection like any other: `render` of every durable entry, so a restarted transcript writes it from the
start again and arrives at the same bytes. The console is for who happens to look: it never holds up the run, and a
console that is gone is forgotten.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER
from lorch_actors.actors.ring import CONDUCTOR, LEDGER, MAIN, Appended, Broken, Projected, Subscribe, Subscribed
from lorch_actors.actors.run_state_keeper import FlushAll
from lorch_actors.errors import FailureCode, StorageError
from lorch_actors.protocol.messages import Entry
from lorch_actors.records.history import entries
from lorch_actors.storage import disk
from lorch_actors.workflow.transcript import render

CONSOLE_LINES_MAX: Final = 1000
PIECE_BYTES: Final = 64 * 1024


class Console:
    """A stream for people, written by a thread of its own; what it cannot take in time is dropped and counted."""

    def __init__(self, stream: TextIO, decorate: Callable[[str], str] = str) -> None:
        self._stream = stream
        self._decorate = decorate
        self._lines: queue.Queue[str | None] = queue.Queue(CONSOLE_LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Show a line, without waiting."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float) -> None:
        """Let what is written appear, for so long at most."""
        try:
            self._lines.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._stream.write(self._decorate(line) + "\n")
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._stream.write(f"[lorch] … {dropped} lines not shown; the transcript has them\n")
                if self._lines.empty():
                    self._stream.flush()
        except (OSError, ValueError):
            self._silence()

    def _silence(self) -> None:
        """Go on without a console: it hung up. The descriptor leads to nothing, so no later flush meets the error."""
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        except (OSError, ValueError):
            pass
        finally:
            os.close(null)
        while self._lines.get() is not None:
            pass


class Transcript(Actor):
    """Writes the transcript and shows what is new. See the module."""

    def __init__(
        self, context: ActorContext, *, ledger: Path, run_id: str, path: Path, console: Console | None
    ) -> None:
        super().__init__(context)
        self._ledger = ledger
        self._run_id = run_id
        self._path = path
        self._console = console
        self._fd = -1
        self._seq = 0

    def started(self) -> bool:
        """Start the file anew and ask for entries."""
        disk.make_directory(self._path.parent)
        self._fd = disk.open_append(self._path)
        disk.truncate(self._fd, 0)
        self.tell(LEDGER, Subscribe(self.name))
        return LATER

    def receive(self, message: Any) -> None:
        """Write what has become durable."""
        match message:
            case Subscribed(position):
                self._write_all(entry for entry, _ in entries(self._ledger, self._run_id, upto_seq=position.seq))
                self._seq = position.seq
                self.ready()
            case Appended() if not self._announced:
                pass  # meant for a predecessor; it is in the file, which is read up to the place of `Subscribed`
            case Appended(new, _, end):
                self._write_all(new)
                self._show(new)
                self._seq = end.seq
            case FlushAll():
                disk.sync_file(self._fd)
                disk.sync_directory(self._path.parent)
                self.tell(CONDUCTOR, Projected(self.name, self._seq))
            case _:
                super().receive(message)

    def cleanup(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1

    def _write_all(self, found: Any) -> None:
        piece = bytearray()
        try:
            for entry in found:
                for line in render(entry):
                    piece += line.encode() + b"\n"
                if len(piece) >= PIECE_BYTES:
                    disk.write(self._fd, bytes(piece))
                    piece.clear()
            if piece:
                disk.write(self._fd, bytes(piece))
        except StorageError as error:
            self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{error.where}: {error.what}", error.remedy))

    def _show(self, found: tuple[Entry, ...]) -> None:
        if self._console is not None:
            for entry in found:
                for line in render(entry):
                    self._console.write(line)


def console_for(*, quiet: bool, json: bool) -> Console | None:
    """Return where a run speaks to people: standard output, or standard error when standard output is for programs."""
    if quiet:
        return None
    return Console(sys.stderr if json else sys.stdout)
