"""The transcript: what the run says to people, in a file and on the console.

The file is a projection like any other: `render` of every durable entry, so a restarted transcript goes on from the
place up to which the file is known, or from the start, and arrives at the same bytes. The console is for who happens to
look: it never holds up the run, and a console that is gone is forgotten.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER
from lorch_actors.actors.ring import (
    LEDGER,
    MAIN,
    Appended,
    Broken,
    FlushAll,
    Projected,
    Subscribe,
    Subscribed,
)
from lorch_actors.errors import FailureCode, StorageError
from lorch_actors.protocol.messages import Entry
from lorch_actors.storage.ledger import read_entries
from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.transcript_file import TranscriptFile
from lorch_actors.workflow.transcript import render

CONSOLE_PIECES_MAX: Final = 250
"""Of the lines of a moment each."""

PIECE_ENTRIES: Final = 500
MARK_EVERY_ENTRIES: Final = 2000
"""So many entries at most, and what is rendered of them, are read again by a restart."""


class Console:
    """A stream for people, written by a thread of its own; what it cannot take in time is dropped and counted."""

    def __init__(self, stream: TextIO, decorate: Callable[[str], str] = str) -> None:
        self._stream = stream
        self._decorate = decorate
        self._pieces: queue.Queue[Sequence[str] | None] = queue.Queue(CONSOLE_PIECES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def write(self, *lines: str) -> None:
        """Show some lines, without waiting."""
        try:
            self._pieces.put_nowait(lines)
        except queue.Full:
            self._dropped += len(lines)

    def close(self, timeout_s: float) -> None:
        """Let what is written appear, for so long at most."""
        try:
            self._pieces.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while (lines := self._pieces.get()) is not None:
                self._stream.writelines(f"{self._decorate(line)}\n" for line in lines)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._stream.write(f"[lorch] … {dropped} lines not shown; the transcript has them\n")
                if self._pieces.empty():
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
        while self._pieces.get() is not None:
            pass


class Transcript(Actor):
    """Writes the transcript and shows what is new. See the module."""

    def __init__(
        self, context: ActorContext, *, ledger: Path, run_id: str, path: Path, mark: Path, console: Console | None
    ) -> None:
        super().__init__(context)
        self._ledger = ledger
        self._run_id = run_id
        self._path = path
        self._mark = mark
        self._console = console
        self._file: TranscriptFile | None = None
        self._place = Position.start(run_id)
        self._unmarked = 0  # entries since the place was last noted
        self._torn = False

    def started(self) -> bool:
        """Open the file and ask for entries."""
        self._file = TranscriptFile(self._path, self._mark, self._run_id)
        self.tell(LEDGER, Subscribe(self.name, trails=True))
        return LATER

    def receive(self, message: Any) -> None:
        """Write what has become durable. A disk that refuses is told, not raised: a restart would not help.

        From then on nothing is written: a line is missing, and neither a mark nor an answer may say that it is there.
        """
        try:
            if not self._torn:
                self._receive(message)
        except StorageError as error:
            self._torn = True
            self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{error.where}: {error.what}", error.remedy))

    def _receive(self, message: Any) -> None:
        file = self._file
        assert file is not None
        match message:
            case Subscribed(position):
                self._catch_up(file, position.seq)
                self.ready()
            case Appended() if not self._announced:
                pass  # meant for a predecessor; it is in the file, which is read up to the place of `Subscribed`
            case Appended(new, _, end):
                lines = self._write(file, new, end)
                if self._console is not None and lines:
                    self._console.write(*lines)
            case FlushAll(_, reply_to):
                self._sync(file)
                self.tell(reply_to, Projected(self.name, self._place.seq))
            case _:
                super().receive(message)

    def cleanup(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _catch_up(self, file: TranscriptFile, upto_seq: int) -> None:
        """Go on from where the file is known to go, a piece at a time."""
        self._place = file.resume(self._ledger, upto_seq)
        piece: list[Entry] = []
        end = self._place
        for entry, end in read_entries(self._ledger, self._run_id, after=self._place, upto_seq=upto_seq):
            piece.append(entry)
            if len(piece) == PIECE_ENTRIES:
                self._write(file, piece, end)
                piece.clear()
        self._write(file, piece, end)

    def _write(self, file: TranscriptFile, new: Sequence[Entry], end: Position) -> list[str]:
        """Write what is to be said of these entries, and return it."""
        lines = [line for entry in new for line in render(entry)]
        if lines:
            file.write("".join([f"{line}\n" for line in lines]).encode())
        self._place = end
        self._unmarked += len(new)
        if self._unmarked >= MARK_EVERY_ENTRIES:
            self._sync(file)
        return lines

    def _sync(self, file: TranscriptFile) -> None:
        file.sync(self._place)
        self._unmarked = 0


def console_for(*, quiet: bool, json: bool) -> Console | None:
    """Return where a run speaks to people: standard output, or standard error when standard output is for programs."""
    if quiet:
        return None
    return Console(sys.stderr if json else sys.stdout)
