"""Standing between the storage layer and the kernel.

`intercepted` puts an object in the place of the `os` module that `storage.disk` uses. Every call that reads or changes
a file goes through a handler, with a number; whatever else the layer asks of `os` is passed on. Two neighbours get a
process id that nobody has, so that the leftovers of a killed fork are those of a dead process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lorch_actors.storage import atomic, disk, ledger_repair

CHANGING = frozenset({"write", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "mkdir", "chmod", "create"})
"""What changes the disk or makes a change last; ``create`` is an open that may make a file."""

DEAD_PID = 4_194_305  # one more than Linux ever gives


class Death(BaseException):
    """Whoever made the call is dead right after it: a worker, an actor, an agent, or the orchestrator itself."""


class Call(NamedTuple):
    """One call to the kernel: what it is, its arguments, and where."""

    name: str
    arguments: tuple[Any, ...]
    number: int

    @property
    def place(self) -> str:
        """The file or directory it is about."""
        where = self.arguments[-2] if self.name == "replace" else self.arguments[0]
        if not isinstance(where, int):
            return os.fsdecode(where)
        return os.readlink(f"/proc/self/fd/{where}")

    def perform(self) -> Any:
        """Do what was asked for."""
        name = "open" if self.name == "create" else self.name
        return getattr(os, name)(*self.arguments)


Handler = Callable[[Call], Any]


class _Between:
    """`os`, as the storage layer sees it. ``only``: which calls are counted and handled."""

    def __init__(self, handler: Handler, only: frozenset[str]) -> None:
        self._handler = handler
        self._only = only
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self._only:
            return real
        return lambda *arguments: self._handle(name, arguments)

    def open(self, *arguments: Any) -> int:
        name = "create" if arguments[1] & os.O_CREAT else "open"
        return self._handle(name, arguments) if name in self._only else os.open(*arguments)

    def _handle(self, name: str, arguments: tuple[Any, ...]) -> Any:
        self._count += 1
        return self._handler(Call(name, arguments, self._count))


class _Nobody:
    """`os` with the process id of nobody."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def getpid() -> int:
        return DEAD_PID


@contextmanager
def intercepted(handler: Handler, only: frozenset[str] = CHANGING) -> Iterator[None]:
    """Have every call of the storage layer go through the handler, which has to perform it or not."""
    before = disk.os, atomic.os, ledger_repair.os
    disk.os = _Between(handler, only)  # type: ignore[assignment]
    atomic.os = ledger_repair.os = _Nobody()  # type: ignore[assignment]
    try:
        yield
    finally:
        disk.os, atomic.os, ledger_repair.os = before
