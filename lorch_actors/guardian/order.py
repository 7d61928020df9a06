"""What the guardian is asked to do: read from the command line, before anything else is loaded."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from lorch_actors.cli.routing import locate, route
from lorch_actors.errors import UsageError
from lorch_actors.guardian.link import GuardianLink

Orchestrate = Callable[[Sequence[str], GuardianLink], int]
"""What runs in the orchestrator process: command line without program name, and link; returns the exit code."""


class Limits(NamedTuple):
    """What the guardian puts up with.

    beat_s: longest silence of an orchestrator. restarts in window_s: how often it is started again without a settled
    step between. ending_s: time for the end of what it left. own_stall_s: how late the guardian may notice missing
    beats before it takes itself for the one that stood still.
    """

    beat_s: float = 10.0
    restarts: int = 5
    window_s: float = 600.0
    ending_s: float = 5.0
    own_stall_s: float = 1.0


class Order(NamedTuple):
    """What is to be carried out.

    argv: as the orchestrator gets it. workspace: absolute path. run_id: None for `resume`. keep_alive: whether an
    orchestrator that dies is started again. is_new: whether the directory of a demonstration was made for it.
    """

    argv: list[str]
    orchestrate: Orchestrate
    workspace: str
    run_id: str | None
    keep_alive: bool
    limits: Limits
    is_new: bool = False

    def tidy(self) -> None:
        """Remove the directory of a demonstration of which nothing came."""
        if self.is_new:
            with suppress(OSError):  # it is not empty
                os.rmdir(self.workspace)


def read_order(argv: Sequence[str], orchestrate: Orchestrate, limits: Limits) -> Order:
    """Read what concerns the guardian, and make the directory of a demonstration.

    Raises UsageError when that directory is taken.
    """
    given = route(argv)
    words = list(argv)
    is_new = False
    if given.demo is None:
        workspace, _ = locate(given.workspace, given.config)
    else:
        workspace = given.demo
        is_new = _make_demo_directory(workspace)
        words = _with_demo_directory(words, workspace)
    run_id = None if given.command == "resume" else _new_run_id()
    return Order(words, orchestrate, workspace, run_id, given.keep_alive, limits, is_new)


def _make_demo_directory(directory: str) -> bool:
    """Make it, and tell whether it is new. Raises UsageError."""
    is_new = not os.path.exists(directory)
    try:
        os.makedirs(directory, exist_ok=True)
        is_empty = not os.listdir(directory)
    except OSError as error:
        raise UsageError(
            f"no demonstration can be made here: {error.strerror}",
            where=directory,
            remedy="Name another directory with `--demo DIR`.",
        ) from error
    if not is_empty:
        raise UsageError(
            "a demonstration needs a new or empty directory",
            where=directory,
            remedy="Name another with `--demo DIR`; an interrupted demonstration goes on with `lorch resume`.",
        )
    return is_new


def _with_demo_directory(argv: list[str], directory: str) -> list[str]:
    """Name the directory in the command line, so that every orchestrator of this run means the same one."""
    for at, word in enumerate(argv):
        if word == "--demo":
            is_named = at + 1 < len(argv) and not argv[at + 1].startswith("-")
            return [*argv[:at], f"--demo={directory}", *argv[at + 1 + is_named :]]
    return argv


def _new_run_id() -> str:
    return time.strftime("run-%Y%m%d-%H%M%S-", time.gmtime()) + os.urandom(4).hex()
