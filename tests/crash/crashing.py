"""Killing the reference run at a call to the kernel, and recovering from it; and killing the recovery.

One run is played, and stands still before a call that is to be a crash point. A fork of it does the first half of that
call if it has one, and kills itself. What is on disk then, which is what a kill leaves, is copied; over the copy a
recovery is played and every promise checked, and the run goes on. In the recovery again calls are crash points, as deep
as is wanted: so each point costs a copy and a recovery, not a run from the start. A point that leaves the very files,
and the very acknowledgements, of the one before (a sync changes neither) is counted, and not recovered from once more.
"""

import fcntl
import os
import random
import shutil
import signal
import stat
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promises import Story, broken_promises
from reference import Reference
from tampering import Call, Death, intercepted

VIOLATIONS_KEPT = 20

Image = list[tuple[str, int, bytes | None]]
"""A tree of files: path, mode, content; no content is a directory."""


@dataclass(frozen=True)
class Plan:
    """Where to kill: which part of the calls of the run, of its recovery, of that one's recovery are crash points.

    They are chosen by chance, from the seed. part: of the run's own calls only every ``parts``-th, as of that one.
    """

    shares: tuple[float, ...]
    seed: int = 0
    part: int = 0
    parts: int = 1

    def chooses(self, depth: int, call: Call, chance: random.Random) -> bool:
        """Tell whether there is a crash point at this call."""
        is_in_part = depth > 1 or call.number % self.parts == self.part
        return is_in_part and chance.random() < self.shares[depth - 1]


@dataclass
class Tally:
    """What came of it: points by depth, how many of them were recovered from, and the first violations."""

    points: Counter[int] = field(default_factory=Counter)
    recovered: int = 0
    violations: list[str] = field(default_factory=list)

    def tell(self, violation: str) -> None:
        """Take a violation, if there are not enough."""
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(violation.replace("\n", " | "))

    @property
    def total(self) -> int:
        """How many crash points were tried."""
        return self.points.total()


class Explorer:
    """Plays a reference to its end and branches off a recovery at every chosen point."""

    def __init__(self, plan: Plan, expected: Story, scratch: Path, tally: Tally, trail: tuple[str, ...] = ()) -> None:
        self._plan = plan
        self._expected = expected
        self._scratch = scratch
        self._tally = tally
        self._trail = trail
        self._depth = len(trail) + 1
        # not by the whole trail: the names of temporary files are drawn anew each time
        self._random = random.Random(f"{plan.seed} {[told.split()[:2] for told in trail]}")
        self._last: tuple[Image, int] = ([], 0)

    def play(self, reference: Reference) -> None:
        """Play to the end, branching off on the way, and check what came of it."""
        is_deepest = self._depth > len(self._plan.shares)
        with intercepted(Call.perform if is_deepest else lambda call: self._on_call(reference, call)):
            ended = reference.play()
        for found in broken_promises(reference, ended, self._expected):
            self._tally.tell(f"{self._told()}: {found}")

    def _told(self) -> str:
        return " > ".join(self._trail) or "undisturbed"

    def _on_call(self, reference: Reference, call: Call) -> Any:
        if self._plan.chooses(self._depth, call, self._random):
            self._branch(reference, call, "before")
            if call.name == "write" and len(call.arguments[1]) > 1:
                with _half_written(call):
                    self._branch(reference, call, "amid")
        return call.perform()

    def _branch(self, reference: Reference, call: Call, when: str) -> None:
        self._tally.points[self._depth] += 1
        image, told = _image_of(reference.root), len(reference.acknowledged)
        if (image, told) == self._last:
            return
        self._last = image, told
        self._tally.recovered += 1
        trail = (*self._trail, f"{when} {call.number} {call.name} {os.path.basename(call.place)}")
        place = self._scratch / f"{self._depth}-{call.number}-{when}"
        copy, scratch = place / "run", place / "scratch"
        _lay_out(image, copy)
        scratch.mkdir()
        survivor = Reference(copy, reference.tasks, dict(reference.acknowledged), reference.now_ms, reference.plays)
        inner = Explorer(self._plan, self._expected, scratch, self._tally, trail)
        try:
            inner.play(survivor)
        except (Exception, Death):  # noqa: BLE001 - whatever it is, it should not be
            self._tally.tell(f"{inner._told()}: {traceback.format_exc()}")
        finally:
            shutil.rmtree(place)


def _image_of(root: Path) -> Image:
    """Return all that a recovery finds below a directory."""
    image: Image = []
    for directory, names, files in os.walk(root):
        names.sort()
        below = os.path.relpath(directory, root)
        image.append((below, stat.S_IMODE(os.stat(directory).st_mode), None))
        for name in sorted(files):
            with open(os.path.join(directory, name), "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                image.append((os.path.join(below, name), mode, file.read()))
    return image


def _lay_out(image: Image, root: Path) -> None:
    """Make a directory that a recovery finds the same in."""
    for path, mode, content in image:
        place = os.path.join(root, path)
        if content is None:
            os.makedirs(place, mode)
        else:
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb", buffering=0) as file:
                file.write(content)


@contextmanager
def _half_written(call: Call) -> Iterator[None]:
    """Have a fork die in the middle of this write; undo it after."""
    fd, data = call.arguments
    place = call.place
    size = os.fstat(fd).st_size
    offset = size if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND else os.lseek(fd, 0, os.SEEK_CUR)
    pid = os.fork()
    if not pid:
        try:
            own = os.open(place, os.O_WRONLY)  # descriptors of locks are closed in a fork
            os.pwrite(own, data[: len(data) // 2], offset)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert os.fstat(fd).st_size == max(size, offset + len(data) // 2)
    yield
    os.ftruncate(fd, size)


def explore(plan: Plan, expected: Story, root: Path, tasks: tuple[str, ...]) -> Tally:
    """Play one reference run below ``root`` with all its crash points; return what came of it."""
    tally = Tally()
    scratch = root / "scratch"
    scratch.mkdir(parents=True)
    Explorer(plan, expected, scratch, tally).play(Reference(root / "run", tasks).make())
    return tally
