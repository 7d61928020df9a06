"""Every file of a run, cut at any length or with any byte changed: repaired at its tail, refused, or told by `verify`.

Of no matter is what nothing rests upon: a checkpoint, which is a cache, what a manifest says beside its files, and the
last newline of a file that says the same without it.
"""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from damaging import Damage, Whole, damages, heard, opened, whole
from reference import RUN_ID, SHORT, TASKS, Reference, steps_of

from lorch_actors.records.history import next_steps
from lorch_actors.records.rebuild import rebuild

SEED = 20260104
BITS = tuple(1 << bit for bit in range(8))
FILES: dict[str, Callable[[Reference], Path]] = {
    "ledger": lambda run: run.ledger,
    "run state": lambda run: run.workspace.run_state,
    "index": lambda run: run.workspace.index,
    "checkpoint": lambda run: run.workspace.checkpoint,
    "manifest": lambda run: next(run.root.glob("snapshots/*.manifest.json")),
    "first receipt": lambda run: run.workspace.receipt(run.tasks[0], 1),
    "last receipt": lambda run: run.workspace.receipt(run.tasks[0], len(steps_of(run.tasks[0]))),
    "transcript": lambda run: run.workspace.transcript(RUN_ID),
}
UNPROTECTED = (b'"created_at":"', b'"workspace_root":"', b'"mtime":"')
"""What a manifest says beside what its id covers: whoever changes it changes nothing that is read."""


def played(root: Path, tasks: tuple[str, ...]) -> Whole:
    """Return a finished run."""
    reference = Reference(root, tasks).make()
    assert reference.play() == "completed"
    return whole(reference)


@pytest.fixture
def finished(scratch: Path) -> Whole:
    """Return a finished run of one task with review and spec rounds."""
    return played(scratch / "finished", TASKS[:1])


@pytest.fixture
def short(scratch: Path) -> Whole:
    """Return a finished run of a task that was done at the first try: every kind of file, and few enough bytes."""
    return played(scratch / "short", SHORT)


def verdicts(run: Whole, name: str, chosen: list[Damage]) -> Counter[str]:
    """Return how often each answer came; fail on the first that is wrong."""
    path = FILES[name](run.reference)
    content = path.read_bytes()
    counted: Counter[str] = Counter()
    for damage in chosen:
        answer = heard(run, path, damage)
        assert answer != "silence", f"{name}, {damage}: accepted in silence"
        if answer == "same":
            assert is_of_no_matter(name, content, damage), f"{name}, {damage}: nobody noticed"
        counted[answer.partition(":")[0]] += 1
    return counted


def is_of_no_matter(name: str, content: bytes, damage: Damage) -> bool:
    """Tell whether nothing rests upon the damaged place."""
    if name == "checkpoint":
        return True
    if damage == Damage(len(content) - 1):
        return content.endswith(b"\n") and name != "transcript"
    if name == "manifest" and damage.mask:
        value = content.rfind(b'":"', 0, damage.at)
        key = content.rfind(b'"', 0, value)
        return content[key : value + 3] in UNPROTECTED
    return False


def sample(run: Whole, name: str, count: int) -> list[Damage]:
    """Return some damages to a file, by chance, its last byte always among them."""
    size = FILES[name](run.reference).stat().st_size
    chance = random.Random(f"{SEED} {name}")
    return [Damage(size - 1), *chance.sample(list(damages(size, BITS)), count)]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_refused_or_told(finished: Whole, name: str) -> None:
    """Some damages to each file of a finished run."""
    verdicts(finished, name, sample(finished, name, 40))


def unvouched(run: Whole) -> bytes:
    """Remove what stands for the ledger, and return its content: only its own marks are left to vouch for it."""
    for path in (run.reference.workspace.run_state, run.reference.workspace.index, run.reference.workspace.checkpoint):
        path.unlink()
    return run.reference.ledger.read_bytes()


def test_only_the_tail_behind_the_last_mark_is_ever_cut(finished: Whole) -> None:
    """With no projection left, damage behind the last durable mark is repaired, and before it is refused."""
    content = unvouched(finished)
    chance = random.Random(SEED)
    chosen = chance.sample(list(damages(len(content), BITS)), 1500)

    answers = Counter(opened(finished, damage, content) for damage in chosen if damage.mask)

    assert set(answers) == {"refused", "cut"}


def cut_and_changed(size: int) -> list[Damage]:
    """Return every cut, and every byte changed in one of its bits, which by chance."""
    chance = random.Random(SEED)
    return [*map(Damage, range(size)), *(Damage(at, chance.choice(BITS)) for at in range(size))]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FILES)
def test_all_damage_is_refused_or_told(short: Whole, name: str) -> None:
    """Every length and every byte of each file, and what each of its readers says."""
    chosen = cut_and_changed(FILES[name](short.reference).stat().st_size)

    counted = verdicts(short, name, chosen)

    print(f"\n{name}: {dict(counted)}")
    assert counted.total() == len(chosen)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_vouched", [True, False])
def test_every_byte_of_the_ledger_is_proved(finished: Whole, *, is_vouched: bool) -> None:
    """With projections each change is refused; without, only what is behind the last mark is cut."""
    content = finished.reference.ledger.read_bytes() if is_vouched else unvouched(finished)

    chosen = [one for one in cut_and_changed(len(content)) if one.mask]
    answers = Counter(opened(finished, damage, content) for damage in chosen)

    print(f"\nchanges of the ledger: {dict(answers)}")
    assert set(answers) == ({"refused"} if is_vouched else {"refused", "cut"})


def test_a_wrong_number_in_the_index_costs_no_receipt(finished: Whole) -> None:
    """Steps of an older run are numbered from its ledger when receipts and index disagree."""
    workspace = finished.reference.workspace
    expected = finished.steps
    workspace.run_state.unlink()
    workspace.checkpoint.unlink()
    wrong = workspace.index.read_bytes().replace(b'"T-1": 8', b'"T-1": 2')
    workspace.index.write_bytes(wrong)

    found = next_steps(workspace, finished.reference.tasks)

    assert b'"T-1": 2' in wrong
    assert found == expected


def test_rebuild_writes_the_same_bytes(finished: Whole) -> None:
    """Whatever was damaged among the projections, `rebuild` brings it back, byte for byte."""
    reference = finished.reference
    names = ("run state", "index", "first receipt", "last receipt", "transcript", "checkpoint")
    before = {name: FILES[name](reference).read_bytes() for name in names}
    for name in names:
        FILES[name](reference).write_bytes(b"{}")

    rebuild(reference.workspace, [RUN_ID])

    assert {name: FILES[name](reference).read_bytes() for name in names} == before
