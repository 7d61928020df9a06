"""Killing the reference run at a call to the kernel, and recovering from it; and killing the recovery.

One run is played, and while it stands before a call that is to be a crash point, a fork of it does the first half of
that call if it has one, and kills itself. What is on disk then is copied, and another fork recovers over the copy and
checks every promise, while the run goes on. In that fork again calls are crash points, as deep as is wanted: so each
point costs a copy and a recovery, not a run from the start. A point that leaves the very files, and the very
acknowledgements, of the one before (a sync changes neither) is counted, and not recovered from once more.
"""

import fcntl
import hashlib
import os
import random
import shutil
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promises import Story, broken_promises
from reference import Reference
from tampering import Call, intercepted

FORKS_MAX = 2


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

    points: dict[int, int] = field(default_factory=dict)
    recovered: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Take the report of a fork: lines with a depth, or a violation."""
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            if kind in {"point", "same"}:
                self.points[int(rest)] = self.points.get(int(rest), 0) + 1
                self.recovered += kind == "point"
            elif line and len(self.violations) < 20:
                self.violations.append(line)

    @property
    def total(self) -> int:
        """How many crash points were tried."""
        return sum(self.points.values())


class Explorer:
    """Plays a reference to its end and branches off a recovery at every chosen point."""

    def __init__(self, plan: Plan, expected: Story, scratch: Path, depth: int = 1, trail: str = "") -> None:
        self._plan = plan
        self._expected = expected
        self._scratch = scratch
        self._depth = depth
        self._trail = trail
        self._random = random.Random(f"{plan.seed} {trail}")
        self._forks: list[tuple[int, int]] = []
        self._reports: list[str] = []
        self._reference: Reference | None = None
        self._last = b""

    def play(self, reference: Reference) -> str:
        """Play to the end, branching off; return the reports of all branches, then of this one."""
        self._reference = reference
        if self._depth > len(self._plan.shares):
            with intercepted(Call.perform):
                ended = reference.play()
        else:
            with intercepted(self._on_call):
                ended = reference.play()
        while self._forks:
            self._collect()
        found = broken_promises(reference, ended, self._expected)
        self._reports += [f"violation {self._trail or 'undisturbed'}: {one}".replace("\n", " ") for one in found]
        return "\n".join(self._reports)

    def _on_call(self, call: Call) -> Any:
        if self._plan.chooses(self._depth, call, self._random):
            self._branch(call, "before")
            if call.name == "write" and len(call.arguments[1]) > 1:
                with _half_written(call):
                    self._branch(call, "amid")
        return call.perform()

    def _branch(self, call: Call, when: str) -> None:
        assert self._reference is not None
        state = _state_of(self._reference)
        if state == self._last:
            self._reports.append(f"same {self._depth}")
            return
        self._last = state
        trail = f"{self._trail} > {when} {call.number} {call.name} {os.path.basename(call.place)}"
        copy = self._scratch / f"{self._depth}-{call.number}-{when}"
        shutil.copytree(self._reference.root, copy, symlinks=True)
        if len(self._forks) >= (FORKS_MAX if self._depth == 1 else 1):
            self._collect()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            self._forks.append((pid, reading))
            return
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as report:
                report.write(self._recover(copy, trail))
            code = 0
        finally:
            os._exit(code)

    def _recover(self, copy: Path, trail: str) -> str:
        assert self._reference is not None
        before = self._reference
        survivor = Reference(copy, before.tasks, dict(before.acknowledged), before.now_ms, plays=before.plays)
        scratch = copy.with_name(copy.name + "-forks")
        scratch.mkdir()
        inner = Explorer(self._plan, self._expected, scratch, self._depth + 1, trail)
        try:
            return f"point {self._depth}\n{inner.play(survivor)}"
        except BaseException:  # noqa: BLE001 - it is told through the pipe
            told = traceback.format_exc().replace("\n", " | ")
            return f"point {self._depth}\nviolation {trail}: {told}"
        finally:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.rmtree(scratch, ignore_errors=True)

    def _collect(self) -> None:
        pid, reading = self._forks.pop(0)
        with os.fdopen(reading) as report:
            self._reports.append(report.read())
        _, status = os.waitpid(pid, 0)
        if status:
            self._reports.append(f"violation {self._trail}: a recovering fork ended with {status}")


def _state_of(reference: Reference) -> bytes:
    """Return a digest of all that a recovery finds: names, contents, modes, and what was acknowledged."""
    digest = hashlib.blake2b(repr(len(reference.acknowledged)).encode())
    for directory, names, files in os.walk(reference.root):
        names.sort()
        digest.update(f"{directory} {os.stat(directory).st_mode}\n".encode())
        for name in sorted(files):
            with open(os.path.join(directory, name), "rb") as file:
                content = file.read()
                digest.update(f"{name} {os.fstat(file.fileno()).st_mode} {len(content)}\n".encode())
                digest.update(content)
    return digest.digest()


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
    tally.add(Explorer(plan, expected, scratch).play(Reference(root / "run", tasks).make()))
    return tally
