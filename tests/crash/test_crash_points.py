"""A run that is killed at any call to the kernel comes to the same end, and so does its recovery when that is killed.

Points are before each call that changes the disk and in the middle of each write; after a call is before the next one.
A share of 1.0 is all of them; smaller shares are drawn by chance, from the seed.
"""

from pathlib import Path

import pytest
from crashing import Plan, Tally, explore
from promises import broken_promises
from reference import SHORT, TASKS, Reference
from tampering import CHANGING, DEAD_PID, Call, intercepted

SEED = 20260101
POINTS = 10_000
PARTS = 4


def explored(scratch: Path, story_for, tasks: tuple[str, ...], *shares: float, part: int = 0, parts: int = 1) -> Tally:
    """Explore a reference run and fail with the first violations."""
    tally = explore(Plan(shares, SEED, part, parts), story_for(tasks), scratch, tasks)
    assert tally.violations == []
    print(f"\ncrash points by number of deaths: {tally.points}, recoveries: {tally.recovered}")
    return tally


def test_every_kind_of_call_is_a_crash_point(scratch: Path) -> None:
    """A run makes every kind of call that the storage layer has, where something is left and something is too open."""
    reference = Reference(scratch / "w", TASKS[:1]).make()
    (reference.root / "state").mkdir(mode=0o755)
    (reference.root / "state" / f".run.json.tmp.{DEAD_PID}.00000000").touch()
    made: set[str] = set()

    def note(call: Call) -> object:
        made.add(call.name)
        return call.perform()

    with intercepted(note):
        assert reference.play() == "completed"

    assert made == CHANGING


def test_killed_anywhere_a_run_comes_to_the_same_end(scratch: Path, story_for) -> None:
    """Points of a run of two tasks, with review and spec rounds."""
    tally = explored(scratch, story_for, TASKS, 0.04)

    assert tally.total >= 20


def test_killed_anywhere_a_short_run_comes_to_the_same_end(scratch: Path, story_for) -> None:
    """Points of a run of one task, and of its recovery, and of that one's."""
    tally = explored(scratch, story_for, SHORT, 0.12, 0.03, 0.008)

    assert tally.total >= 150
    assert set(tally.points) == {1, 2, 3}


def test_a_run_that_died_behind_its_last_entry_is_written_down_whole(scratch: Path, story_for) -> None:
    """Killed while the last projections are written, whichever is missing: the next start writes it."""
    reference = Reference(scratch / "w", TASKS[:1]).make()
    assert reference.play() == "completed"
    transcript = reference.workspace.transcript(reference.ledger.stem)
    transcript.write_bytes(transcript.read_bytes()[:-5])
    reference.workspace.checkpoint.unlink()  # it is the last to be written

    ended = reference.play()

    assert ended == "over"
    assert broken_promises(reference, ended, story_for(TASKS[:1])) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_at_every_point_a_run_comes_to_the_same_end(scratch: Path, story_for) -> None:
    """All points of a run of two tasks."""
    tally = explored(scratch, story_for, TASKS, 1.0)

    assert tally.points[1] >= 500


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_three_times_over_a_run_comes_to_the_same_end(scratch: Path, story_for, part: int) -> None:
    """All points of a run of one task; a part of each recovery's, and a part of each of those recoveries'."""
    tally = explored(scratch, story_for, SHORT, 1.0, 0.2, 0.022, part=part, parts=PARTS)

    assert set(tally.points) == {1, 2, 3}
    assert tally.total >= POINTS // PARTS
