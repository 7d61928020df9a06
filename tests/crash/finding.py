"""The suites that have to find planted bugs: the harnesses of this room, and tests run over a copy of the tree."""

import random
import shutil
from pathlib import Path

from crashing import Plan, explore
from damaging import damages, opened, whole
from failing import Fault, calls_of, faults, survives
from planted import Bug, planted
from planted_tree import planted_in, told_by_tests
from powercuts import cut_power, record
from promises import Story, story_of_tasks
from reference import TASKS, Reference

ONE = TASKS[:1]
KILLED_AFTER = (5, 17)
TAKING_OVER_CALLS = 60
CALLS_MAX = 400


def violations_by_power(story: Story, root: Path) -> list[str]:
    """Cut the power of a run."""
    return cut_power(record(root, ONE), story, root, share=0.5, seed=1, to_the_first=True).violations


def violations_by_power_after_a_kill(story: Story, root: Path) -> list[str]:
    """Cut the power of runs that have just taken over from one that was killed."""
    for killed in KILLED_AFTER:
        place = root / f"killed-{killed}"
        place.mkdir()
        recording = record(place, ONE, killed_after_write=killed)
        moments = range(recording.killed_notes, recording.killed_notes + TAKING_OVER_CALLS)
        cuts = cut_power(recording, story, place, share=1.0, seed=1, moments=moments, to_the_first=True)
        if cuts.violations:
            return cuts.violations
    return []


def violations_by_crash(story: Story, root: Path) -> list[str]:
    """Kill a run, and its recoveries."""
    return explore(Plan((0.2, 0.004), 1), story, root, ONE).violations


def violations_by_call(story: Story, root: Path) -> list[str]:
    """Have calls refused, fall short, or be the last."""
    chosen: list[Fault] = [fault for fault in faults(calls_of(root / "calls", ONE)) if fault.kind != "EMFILE"]
    random.Random(1).shuffle(chosen)
    for fault in chosen[:CALLS_MAX]:
        shutil.rmtree(root / "w", ignore_errors=True)
        found = survives(fault, story, root / "w", ONE)
        if found:
            return found
    return []


def violations_by_byte(_story: Story, root: Path) -> list[str]:
    """Damage the ledger of a finished run, with and without projections that stand for it."""
    reference = Reference(root / "w", ONE).make()
    assert reference.play() == "completed"
    run = whole(reference)
    content = reference.ledger.read_bytes()
    chosen = random.Random(1).sample(list(damages(len(content), (1,))), 300)
    found = [f"{one}" for one in chosen if one.at < len(content) - 1 and opened(run, one, content) != "refused"]
    for path in (reference.workspace.run_state, reference.workspace.index, reference.workspace.checkpoint):
        path.unlink()
    return found + [f"{one}" for one in chosen if one.mask and opened(run, one, content) not in {"refused", "cut"}]


HARNESSES = {
    "power": violations_by_power,
    "power after a kill": violations_by_power_after_a_kill,
    "crash": violations_by_crash,
    "call": violations_by_call,
    "byte": violations_by_byte,
}


def found_by(harness: str, story: Story, root: Path) -> list[str]:
    """Return what the harness finds; one that a bug brings to a fall has found it as well."""
    root.mkdir()
    try:
        return HARNESSES[harness](story, root)
    except Exception as error:  # noqa: BLE001 - a bug may end the undisturbed run already
        return [repr(error)]


def evidence(bug: Bug, root: Path, tree: Path) -> list[str]:
    """Plant a bug and return what the suite that is there for it finds; nothing if it does not.

    tree: a copy of the tree, for the bugs that are planted there; it is as before afterwards.
    """
    if bug.found_by in HARNESSES:
        story = story_of_tasks(ONE)
        with planted(bug):
            return found_by(bug.found_by, story, root / "planted")
    with planted_in(tree, bug):
        return told_by_tests(tree, bug.found_by)
