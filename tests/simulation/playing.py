"""Playing many seeds: one after the other, or on all cores."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from world import SCRIPTS, World, story_of

CHUNK = 100
COLLECT_EVERY = 5
FAILURES_KEPT = 20


@dataclass
class Tally:
    """What came of many seeds. failures: which ones broke a promise, and how."""

    seeds: int = 0
    turns: int = 0
    entries: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.turns += other.turns
        self.entries += other.entries
        for status, count in other.ended.items():
            self.ended[status] = self.ended.get(status, 0) + count
        self.failures |= {seed: told for seed, told in other.failures.items() if len(self.failures) < FAILURES_KEPT}


def play(seeds: Iterable[int], *, to_the_first: bool = False) -> Tally:
    """Play these seeds here. to_the_first: stop at the first failure.

    A world is a heap of cycles. They are cleared away after a few, while they are still in the processor's cache, and
    without a look at what was there before.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return _play(seeds, to_the_first=to_the_first)
    finally:
        gc.enable()
        gc.unfreeze()


def _play(seeds: Iterable[int], *, to_the_first: bool = False) -> Tally:
    tally = Tally()
    for seed in seeds:
        if tally.seeds % COLLECT_EVERY == 0:
            gc.collect()
        world = World(seed)
        try:
            world.play()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is told
            tally.failures[seed] = f"{type(error).__name__}: {error}"
        tally.seeds += 1
        tally.turns += world.turns_before
        tally.entries += world.oracle.seq
        tally.ended[world.ended] = tally.ended.get(world.ended, 0) + 1
        if to_the_first and tally.failures:
            break
    return tally


def play_on_all_cores(count: int, first: int = 0, told: Callable[[Tally], object] = lambda _: None) -> Tally:
    """Play that many seeds, as many at a time as there are cores; ``told`` hears how far it is."""
    for script in range(len(SCRIPTS)):
        story_of(script)  # once, before the forks
    tally = Tally()
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for part in pool.imap_unordered(play, _chunks(first, count)):
            tally.add(part)
            told(tally)
    return tally


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))
