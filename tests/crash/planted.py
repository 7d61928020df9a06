"""Bugs to be planted in the storage layer and around it, one at a time: each takes one safeguard away.

A bug is a piece of a function's source that is replaced by another. A piece that is not there any more is an error, so
that no bug is believed to be found that was never planted.
"""

import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """What is replaced by what, in which function, and who has to notice: a harness of this room, or a test.

    function: its module and its name there, with a colon between; looked up when the bug is planted.
    """

    name: str
    found_by: str
    function: str
    piece: str
    instead: str = "pass"

    @property
    def suite(self) -> str:
        """The suite that has to find it, as a path of the tree."""
        return self.found_by if "::" in self.found_by or "/" in self.found_by else HARNESS_OF[self.found_by]


HARNESS_OF = {
    "power": "tests/crash/test_lying_disk.py",
    "power after a kill": "tests/crash/test_lying_disk.py",
    "crash": "tests/crash/test_crash_points.py",
    "call": "tests/crash/test_nth_call.py",
    "byte": "tests/crash/test_every_byte.py",
}
PLANTED = (
    Bug("the ledger is not synced", "power", "lorch_actors.storage.ledger:LedgerFile.sync", "disk.sync_data(self._fd)"),
    Bug(
        "entries are told before they are synced",
        "power",
        "lorch_actors.actors.ledger_worker:_end_of",
        "file.synced",
        "file._last",
    ),
    Bug(
        "the ledger's name is not synced",
        "power",
        "lorch_actors.storage.ledger:LedgerFile.open",
        "disk.sync_directory(path.parent)",
    ),
    Bug(
        "a ledger is taken over unsynced",
        "power after a kill",
        "lorch_actors.storage.ledger:LedgerFile.open",
        "disk.sync_file(fd)",
    ),
    Bug("a file is renamed unsynced", "power", "lorch_actors.storage.atomic:_write_whole", "disk.sync_file(fd)"),
    Bug(
        "a rename is not synced",
        "power",
        "lorch_actors.storage.atomic:write_all",
        "disk.sync_directory(directory)",
    ),
    Bug("a new directory is not synced", "power", "lorch_actors.storage.disk:make_directory", "sync_directory(parent)"),
    Bug(
        "the journal is not synced", "power", "lorch_actors.agents.journal:Journal._append", "disk.sync_data(self._fd)"
    ),
    Bug(
        "the journal's name is not synced",
        "power",
        "lorch_actors.agents.journal:Journal._load",
        "disk.sync_directory(self._path.parent)",
    ),
    Bug(
        "the transcript is not synced",
        "power",
        "lorch_actors.storage.transcript_file:TranscriptFile.sync",
        "disk.sync_file(self._fd)",
    ),
    Bug(
        "the transcript's name is not synced",
        "power",
        "lorch_actors.storage.transcript_file:TranscriptFile.sync",
        "disk.sync_directory(self._path.parent)",
    ),
    Bug(
        "the checkpoint comes first",
        "power",
        "lorch_actors.actors.conductor:Conductor._end",
        "(TRANSCRIPT, RUN_STATE)",
        "(RUN_STATE, TRANSCRIPT)",
    ),
    Bug(
        "a torn tail is not cut",
        "crash",
        "lorch_actors.storage.ledger:_finish_tail",
        "disk.truncate(append_fd, walk.end.offset)",
    ),
    Bug("leftovers stay", "crash", "lorch_actors.storage.atomic:remove_leftovers", "disk.unlink(directory / name)"),
    Bug("a short write is left short", "call", "lorch_actors.storage.disk:write", "rest = rest[written:]", "break"),
    Bug(
        "the writer takes entries twice",
        "call",
        "lorch_actors.storage.ledger:LedgerFile.append",
        "if number <= seq:",
        "if False:",
    ),
    Bug(
        "repeats are not dropped",
        "call",
        "lorch_actors.actors.ledger_writer:LedgerWriter._is_repeat",
        "if known in self._seen:",
        "if False:",
    ),
    Bug(
        "chains are not compared",
        "byte",
        "lorch_actors.storage.ledger_scan:Walk.lines",
        """ or not raw.endswith(CHAIN_KEY + link + b'"}}')""",
        "",
    ),
    Bug(
        "no later line vouches",
        "byte",
        "lorch_actors.storage.ledger_scan:judge",
        "max(acknowledged, sealed.durable)",
        "acknowledged",
    ),
    Bug(
        "damage is always cut",
        "byte",
        "lorch_actors.storage.ledger:_opened",
        "max(claimed, judgement.acknowledged)",
        "0",
    ),
    Bug("no projection vouches", "byte", "lorch_actors.records.history:vouched", "return tuple(found)", "return ()"),
)


def function_of(bug: Bug) -> Any:
    """Return the plain function that is to have the bug."""
    found = pkgutil.resolve_name(bug.function)
    return inspect.unwrap(getattr(found, "__func__", found))


def changed_source(bug: Bug, source: str) -> str:
    """Return the source of the function with the bug in it."""
    assert source.count(bug.piece) == 1, f"{bug.name}: {bug.piece!r} does not stand there once"
    return source.replace(bug.piece, bug.instead)


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Have the function run with the bug in it, whoever holds it."""
    function = function_of(bug)
    sound = function.__code__
    function.__code__ = _changed(function, bug)
    try:
        yield
    finally:
        function.__code__ = sound


def _changed(function: Any, bug: Bug) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    source = "def changed" + source[source.index("def ") :].removeprefix(f"def {function.__name__}")
    free = ", ".join(function.__code__.co_freevars)
    body = textwrap.indent(changed_source(bug, source), "    ")
    space: dict[str, Any] = {}
    exec(f"def make({free}):\n{body}\n    return changed", dict(function.__globals__), space)
    return space["make"](*(None for _ in function.__code__.co_freevars)).__code__
