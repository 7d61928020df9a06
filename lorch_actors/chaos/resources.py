"""What the long-lived processes hold while they live: memory, descriptors, threads, children, zombies."""

import os
from collections.abc import Iterable
from statistics import linear_regression, median
from typing import Final, NamedTuple

from msgspec import Struct, field

from lorch_actors.chaos.report import ResourceLine
from lorch_actors.processes import ProcessIdentity, descendants, identify, proc

WARM_UP_MS: Final = 2_000
OBSERVED_MIN_S: Final = 10.0
"""What lived shorter says nothing about leaks."""
ZOMBIE_SAMPLES: Final = 3
"""A zombie that is met in so many samples in a row is one that nobody reaps."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """What a process held at one moment."""

    at_ms: float
    resident_bytes: int
    descriptors: int
    threads: int
    processes: int


class Life(Struct):
    """The samples of one process."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def leaked(self) -> int:
        """Return how many descriptors it gained for good; 0 if it did not live long enough to tell.

        For each process below it holds a few, so a moment with more of them than ever before tells nothing.
        """
        settled = self._settled()
        if not settled:
            return 0
        earlier, later = settled[: len(settled) // 2], settled[len(settled) // 2 :]
        processes, most = max(s.processes for s in earlier), max(s.descriptors for s in earlier)
        fewest = min((s.descriptors for s in later if s.processes <= processes), default=0)
        return max(0, fewest - most)

    def _settled(self) -> list[Sample]:
        """Return the samples after its start-up; none if they do not cover enough time."""
        first = self.samples[0].at_ms if self.samples else 0.0
        settled = [sample for sample in self.samples if sample.at_ms >= first + WARM_UP_MS]
        is_enough = len(settled) >= 2 and settled[-1].at_ms - settled[0].at_ms >= OBSERVED_MIN_S * 1000
        return settled if is_enough else []

    def line(self) -> ResourceLine | None:
        """Return start, end and slope; None if it did not live long enough."""
        settled = self._settled()
        if not settled:
            return None
        first = self.samples[0].at_ms
        tenth = max(3, len(settled) // 10)
        start, end = settled[:tenth], settled[-tenth:]
        minutes = [sample.at_ms / 60_000 for sample in settled]
        slope = linear_regression(minutes, [float(sample.resident_bytes) for sample in settled]).slope
        return ResourceLine(
            process=self.name,
            observed_s=round((settled[-1].at_ms - first) / 1000, 1),
            resident_start_bytes=_middle(s.resident_bytes for s in start),
            resident_end_bytes=_middle(s.resident_bytes for s in end),
            resident_slope_bytes_per_minute=round(slope, 1),
            descriptors_start=_middle(s.descriptors for s in start),
            descriptors_end=_middle(s.descriptors for s in end),
            threads_start=_middle(s.threads for s in start),
            threads_end=_middle(s.threads for s in end),
            processes_start=_middle(s.processes for s in start),
            processes_end=_middle(s.processes for s in end),
        )


class Resources:
    """Samples of every guardian and orchestrator, and the zombies that nobody reaped."""

    def __init__(self) -> None:
        self.zombies: dict[ProcessIdentity, str] = {}  # each with its name and its parent's
        self._lives: dict[ProcessIdentity, Life] = {}
        self._suspects: dict[ProcessIdentity, int] = {}

    def sample(self, guardian: ProcessIdentity, orchestrator: ProcessIdentity | None, now_ms: float) -> None:
        """Look at both, and at everything below."""
        below = descendants(guardian.pid)
        for name, identity in (("guardian", guardian), ("orchestrator", orchestrator)):
            held = None if identity is None else _held(identity.pid, len(below), now_ms)
            if identity is not None and held is not None:
                self._lives.setdefault(identity, Life(name)).samples.append(held)
        self._look_for_zombies(below)

    def lines(self) -> list[ResourceLine]:
        """Return the longest-lived guardian and orchestrator."""
        found = [line for life in self._lives.values() if (line := life.line()) is not None]
        longest: dict[str, ResourceLine] = {}
        for line in sorted(found, key=lambda line: line.observed_s):
            longest[line.process] = line
        return [longest[name] for name in sorted(longest)]

    def leaked(self) -> int:
        """Return the most descriptors that any of them gained for good.

        Agents and workers come and go, each with a few. What is leaked stays: then even the fewest of the later half of
        a life are more than the most of the earlier half.
        """
        return max((life.leaked() for life in self._lives.values()), default=0)

    def _look_for_zombies(self, pids: set[int]) -> None:
        met = {identity for pid in pids if _is_unreaped(pid) and (identity := identify(pid)) is not None}
        self._suspects = {one: self._suspects.get(one, 0) + 1 for one in met}
        for identity, times in self._suspects.items():
            if times == ZOMBIE_SAMPLES:
                self.zombies[identity] = _who(identity.pid)


def _is_unreaped(pid: int) -> bool:
    """Tell whether this is a zombie whose parent is not standing still: that one reaps later."""
    stat = proc.stat(pid)
    if stat is None or stat[proc.STATE] != b"Z":
        return False
    parent = proc.stat(int(stat[proc.PARENT]))
    return parent is not None and parent[proc.STATE] not in {b"T", b"t"}


def _who(pid: int) -> str:
    """Return the name of a process and that of its parent."""
    stat = proc.stat(pid)
    parent = int(stat[proc.PARENT]) if stat is not None else 0
    names = [(proc.read(f"/proc/{each}/comm") or b"?").decode("utf-8", "replace").strip() for each in (pid, parent)]
    return f"{names[0]}, a child of {names[1]} (process {parent})"


def _held(pid: int, processes: int, now_ms: float) -> Sample | None:
    memory = proc.read(f"/proc/{pid}/statm")
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    return Sample(now_ms, int(memory.split()[1]) * _PAGE_BYTES, descriptors, threads, processes) if memory else None


def _middle(values: Iterable[int]) -> int:
    return round(median(values))
