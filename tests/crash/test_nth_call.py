"""Any call that the disk refuses, once or from there on: the run goes on or stops resumably, and nothing is lost.

When the disk works again, the run comes to the same end. A traceback, a hang and a lost entry are failures alike.
"""

import random
import shutil
from pathlib import Path

import pytest
from failing import FAULTS, Fault, calls_of, faults, survives
from reference import TASKS

SEED = 20260103
ONE = TASKS[:1]


def found_wrong(chosen: list[Fault], story, scratch: Path) -> list[str]:
    """Return what is wrong under each of these faults."""
    wrong = []
    for fault in chosen:
        name = f"{fault.kind} at call {fault.number}, {'for good' if fault.for_good else 'once'}"
        wrong += [f"{name}: {one}" for one in survives(fault, story, scratch / "w", ONE)]
        shutil.rmtree(scratch / "w")
    return wrong


@pytest.mark.parametrize("kind", FAULTS)
def test_a_call_that_the_disk_refuses_loses_nothing(scratch: Path, story_for, kind: str) -> None:
    """Some calls, by chance, for each kind of refusal."""
    possible = [fault for fault in faults(calls_of(scratch / "calls", ONE)) if fault.kind == kind]
    chosen = random.Random(f"{SEED} {kind}").sample(possible, 9)

    assert found_wrong(chosen, story_for(ONE), scratch) == []
    assert sum(bool(fault.struck) for fault in chosen) >= 4


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FAULTS)
def test_no_call_that_the_disk_refuses_loses_anything(scratch: Path, story_for, kind: str) -> None:
    """Every call of the reference run, once and for good."""
    chosen = [fault for fault in faults(calls_of(scratch / "calls", ONE)) if fault.kind == kind]

    assert found_wrong(chosen, story_for(ONE), scratch) == []
    assert len(chosen) >= 100
