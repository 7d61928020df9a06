"""The actor system under a seeded scheduler: whatever a seed brings, every promise holds, and the seed replays."""

import re

import pytest
from planted import Bug, planted
from planted_actors import ACTOR_BUGS, SEEDS_MAX
from playing import play
from scheduler import Stuck
from striking import Plan, Strike
from world import SCRIPTS, World, story_of

SAMPLE = 50
SEEDS = 5_000
"""In the long suite, after the sample; `replay.py` plays as many as one likes. Trees of actors that are no run have
seeds of their own: `tests/actors/test_supervision_by_chance.py`."""
CHUNK = 1_000
"""So many in one test: xdist's processes share them evenly."""


def test_an_undisturbed_run_does_its_script() -> None:
    """Without faults each script comes to its end, with the steps it asks for in their order."""
    steps = [len(story_of(script).keys) for script in range(len(SCRIPTS))]

    assert steps == [3, 3, 3, 5, 6, 4]


def test_a_sample_of_seeds_keeps_every_promise() -> None:
    """Order, exactly once, an end, no deadlock, restart intensity, nothing left behind, the same end after a crash."""
    tally = play(range(SAMPLE))

    assert tally.failures == {}
    assert tally.ended["completed"] > SAMPLE // 2


@pytest.mark.parametrize("seed", [35, 375, 774, 9_023, 10_038, 301_364])
def test_seeds_that_once_failed(seed: int) -> None:
    """Each of them led to a mistake in the program, or in what was expected of it."""
    assert play([seed]).failures == {}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(SAMPLE, SAMPLE + SEEDS, CHUNK))
def test_many_seeds_keep_every_promise(first: int) -> None:
    """The same, a chunk of the seeds in each test."""
    tally = play(range(first, first + CHUNK))

    assert tally.failures == {}
    assert tally.seeds == CHUNK
    print(f"{tally.turns} turns, {tally.entries} entries, {tally.ended}")


def test_a_seed_replays_exactly() -> None:
    """Played twice, it takes the same turns, to the last character of its trace."""
    traces = []
    for _ in range(2):
        lines: list[str] = []
        World(77, trace=lines.append).play()
        traces.append([re.sub(r" at 0x[0-9a-f]+", "", line) for line in lines])

    assert len(traces[0]) > 100
    assert traces[0] == traces[1]


def test_a_run_that_stands_still_is_noticed() -> None:
    """An agent that nobody watches any more: the simulator says that nothing happens, and does not wait for ever."""
    world = World("stands still", plan=Plan([Strike("hold up actor", 100, 0.5)]), script=0)
    world.faults._hold_up_actor = _for_good(world)  # type: ignore[method-assign]

    with pytest.raises(Stuck, match="nothing has happened for"):
        world.play()


def _for_good(world: World):  # type: ignore[no-untyped-def]
    def hold_up(number: float) -> None:
        world.scheduler.actors["conductor"].actor_inbox.blocked = True

    return hold_up


def test_a_planted_bug_is_found() -> None:
    """An entry that may be appended twice shows within a few seeds."""
    with planted(ACTOR_BUGS[0]):
        tally = play(range(100), to_the_first=True)

    assert len(tally.failures) == 1


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("bug", ACTOR_BUGS, ids=lambda bug: bug.name)
def test_planted_bugs_are_found(bug: Bug) -> None:
    """Each safeguard that is taken away is missed by some seed."""
    for script in range(len(SCRIPTS)):
        story_of(script)
    with planted(bug):
        tally = play(range(SEEDS_MAX), to_the_first=True)

    assert len(tally.failures) == 1, f"not found by {tally.seeds} seeds"
    print(f"{bug.name}: seed {max(tally.failures)}: {max(tally.failures.values())}")
