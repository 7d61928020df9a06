"""What a chaos run came to: also the document that ``lorch chaos --json`` prints.

Durations of detection and recovery are in milliseconds, others in seconds, sizes in bytes.
"""

from msgspec import Struct


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything here: closed objects in which every key is always there."""


class RoleLine(Part, frozen=True):
    """One role under one signal. noticed, back: median and worst, null where it cannot be told from outside.

    measured: of how many strikes the time to be back could be told; the others were overtaken by another strike.
    """

    role: str
    signal: str
    strikes: int
    measured: int
    noticed_median_ms: float | None
    noticed_worst_ms: float | None
    back_median_ms: float | None
    back_worst_ms: float | None


class ResourceLine(Part, frozen=True):
    """What one long-lived process held: medians of the first and of the last tenth of its life, start-up left out.

    processes: alive below the guardian at those times.
    """

    process: str
    observed_s: float
    resident_start_bytes: int
    resident_end_bytes: int
    resident_slope_bytes_per_minute: float
    descriptors_start: int
    descriptors_end: int
    threads_start: int
    threads_end: int
    processes_start: int
    processes_end: int


class BrokenLine(Part, frozen=True):
    """A promise that was not kept: which, where, and what was found."""

    promise: str
    where: str
    what: str


class ChaosReport(Part, frozen=True):
    """`chaos`: what was hurt, what it cost, and which promises broke. limits: what the runs put up with."""

    ok: bool
    interrupted: bool
    seed: int
    workspace: str
    kept: bool
    duration_s: float
    limits: dict[str, float]
    runs: int
    resumed_by_guardian: int
    resumed_by_hand: int
    strikes: int
    roles: list[RoleLine]
    tasks: int
    tasks_completed: int
    steps: int
    executions: int
    executed_twice: int
    entries: int
    entries_lost: int
    entries_doubled: int
    orphans: int
    zombies: int
    descriptors_leaked: int
    resources: list[ResourceLine]
    broken: list[BrokenLine]
