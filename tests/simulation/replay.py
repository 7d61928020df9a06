"""Plays seeds with a trace: ``python tests/simulation/replay.py 4711`` shows each turn of that one.

With ``--count N`` it plays so many from there on all cores without one, and names those that broke a promise.
"""

import argparse
import resource
import sys
import time

from playing import play_on_all_cores
from world import World


def main() -> int:
    """Play what the command line asks for; the exit code is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=0, help="play so many seeds from there on, without a trace")
    asked = parser.parse_args()
    if asked.count:
        return _play_many(asked.seed, asked.count)
    try:
        world = World(asked.seed, trace=lambda line: print(line[:400]))
        world.play()
    except Exception as error:  # noqa: BLE001 - it is what one wants to see, below the trace that led to it
        print(f"{type(error).__name__}: {error}")
        return 1
    print(f"{world.ended}, {world.oracle.seq} entries, {world.turns_before} turns")
    return 0


def _play_many(first: int, count: int) -> int:
    began_s = time.monotonic()
    tally = play_on_all_cores(
        count, first, lambda part: print(f"\r{part.seeds} seeds, broken: {[*part.failures]}", end="", flush=True)
    )
    took_s = time.monotonic() - began_s
    print(
        f"\n{tally.seeds} seeds in {took_s:.0f} s, {tally.seeds / took_s:.0f} a second; "
        f"{1000 * _used_s() / tally.seeds:.0f} ms of a processor each; "
        f"{tally.turns} turns, {tally.entries} entries; {tally.ended}"
    )
    for seed, told in sorted(tally.failures.items()):
        print(f"{seed}: {told}")
    return 1 if tally.failures else 0


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
