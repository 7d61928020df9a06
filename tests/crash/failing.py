"""A disk that refuses: the reference run with one call, or every call from one on, that does not do what it should."""

import errno
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promises import Story, broken_promises
from reference import Reference, is_completed
from tampering import CHANGING, Call, Death, intercepted

from lorch_actors.errors import LorchError

TOUCHED = CHANGING | {"open", "read"}
FAULTS = ("EIO", "ENOSPC", "EMFILE", "EINTR", "short", "death")
_POSSIBLE = {
    "EIO": TOUCHED,
    "ENOSPC": frozenset({"write", "create", "mkdir", "replace", "fsync", "fdatasync", "ftruncate"}),
    "EMFILE": frozenset({"create", "open"}),
    "EINTR": TOUCHED,
    "short": frozenset({"write", "read"}),
    "death": TOUCHED,
}
"""Which calls may end so; others are left alone."""


@dataclass
class Fault:
    """What goes wrong: ``kind`` at call ``number``, once or from there on ``for_good``. struck: how often it did."""

    kind: str
    number: int
    for_good: bool
    struck: int = 0

    def __call__(self, call: Call) -> Any:
        is_due = call.number >= self.number if self.for_good else call.number == self.number
        if not is_due or call.name not in _POSSIBLE[self.kind] or (self.for_good and _is_of_agent(call)):
            return call.perform()
        self.struck += 1
        if self.kind == "death":
            call.perform()
            raise Death
        if self.kind != "short":
            number = getattr(errno, self.kind)
            raise OSError(number, os.strerror(number))
        first, second = call.arguments
        return (
            os.write(first, second[: len(second) // 2 or 1])
            if call.name == "write"
            else os.read(first, second // 2 or 1)
        )


def _is_of_agent(call: Call) -> bool:
    """Tell whether the call is an agent's, which has a process of its own: one that never can work fails its task."""
    return any(folder in f"{call.place}/" for folder in ("/state/agents/", "/src/", "/reviews/"))


def survives(fault: Fault, expected: Story, root: Path, tasks: tuple[str, ...]) -> list[str]:
    """Return what is wrong with a run under this fault, and with its recovery when the fault is gone."""
    reference = Reference(root, tasks).make()
    try:
        with intercepted(fault, TOUCHED):
            ended = reference.play()
    except LorchError as error:
        ended = f"interrupted: {type(error).__name__}: {error.what}"
    except Death:
        ended = "interrupted: dead"
    except BaseException:  # noqa: BLE001 - anything but an error for people is a finding
        return [traceback.format_exc().replace("\n", " | ")]
    is_begun = bool(reference.acknowledged)  # before, what fails to start ends the run
    if fault.kind == "death" and is_begun and not is_completed(ended) and ended != "interrupted: dead":
        return [f"a death below the supervisors ended the run: {ended}"]
    if is_completed(ended) and (fault.kind in {"short", "death"} or not fault.struck):
        return broken_promises(reference, ended, expected)
    if not is_completed(ended) and not ended.startswith("interrupted: "):
        return [f"ended with {ended}"]
    with intercepted(Call.perform):
        ended = reference.play()
    return broken_promises(reference, ended, expected)


def calls_of(root: Path, tasks: tuple[str, ...]) -> list[str]:
    """Return the names of all calls of an undisturbed run, in order."""
    names: list[str] = []

    def note(call: Call) -> Any:
        names.append(call.name)
        return call.perform()

    with intercepted(note, TOUCHED):
        assert Reference(root, tasks).make().play() == "completed"
    return names


def faults(calls: list[str]) -> list[Fault]:
    """Return every fault at every call that can have it."""
    return [
        Fault(kind, number, for_good)
        for number, name in enumerate(calls, start=1)
        for kind in FAULTS
        if name in _POSSIBLE[kind]
        for for_good in ((False,) if kind == "death" else (False, True))
    ]
