"""Cutting the power at every moment of the reference run, with every fate, and recovering from what is left."""

import hashlib
import os
import pickle
import random
import shutil
import signal
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from lying import Disk, Note, Recorder, fates, lay_out
from promises import Story, broken_promises
from reference import FRESH, Reference
from tampering import Call, Death, intercepted

EVER = range(1 << 30)
NAMES_USED = 1000  # more than a killed run can have given


@dataclass
class Recording:
    """A reference run as the disk saw it. before: what was there when it began. killed_notes: calls of a killed one."""

    notes: list[Note]
    acknowledged: list[tuple[int, str]]
    before: Path
    now_ms: int
    tasks: tuple[str, ...]
    killed_notes: int = 0


def record(root: Path, tasks: tuple[str, ...], *, killed_after_write: int = 0) -> Recording:
    """Play a reference run below ``root`` and note every call.

    killed_after_write: kill a first orchestrator after so many writes to the ledger, and go on with another one.
    """
    reference = Reference(root / "run", tasks).make()
    shutil.copytree(reference.root, root / "before")
    recorder = Recorder(reference.root, lambda: len(reference.acknowledged))
    if killed_after_write:
        recorder.notes, reference.acknowledged = _killed(reference, recorder, killed_after_write, root / "notes")
        reference.plays = 1
        for _ in range(NAMES_USED):
            next(FRESH)
    killed_notes = len(recorder.notes)
    with intercepted(recorder):
        assert reference.play() == "completed"
    told = list(reference.acknowledged.items())
    return Recording(recorder.notes, told, root / "before", reference.now_ms, tasks, killed_notes)


def _killed(reference: Reference, recorder: Recorder, after: int, told: Path) -> tuple[list[Note], dict[int, str]]:
    """Have a fork play until it has written to the ledger so often, and kill itself; return what it had noted."""

    def until(call: Call) -> object:
        done = recorder(call)
        if sum(note.name == "write" and note.path.startswith("events/") for note in recorder.notes) == after:
            told.write_bytes(pickle.dumps((recorder.notes, reference.acknowledged)))
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    pid = os.fork()
    if not pid:
        try:
            with intercepted(until):
                reference.play()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    notes, acknowledged = pickle.loads(told.read_bytes())
    return notes, acknowledged


@dataclass
class Cuts:
    """What came of it."""

    states: int = 0
    violations: list[str] = field(default_factory=list)


def cut_power(
    recording: Recording,
    expected: Story,
    root: Path,
    share: float,
    seed: int,
    *,
    moments: range = EVER,
    to_the_first: bool = False,
) -> Cuts:
    """Recover from a share of all states, chosen by chance; a state that was met before is not tried again.

    moments: before which calls the power may be cut. to_the_first: stop at the first violation.
    """
    chance = random.Random(seed)
    disk, cuts = Disk(recording.before), Cuts()
    seen: set[bytes] = set()
    for moment, note in enumerate([*recording.notes, None]):
        for fate in fates(f"{seed} {moment}"):
            if moment not in moments or chance.random() >= share or (to_the_first and cuts.violations):
                continue
            told = note.told if note is not None else len(recording.acknowledged)
            files, directories = disk.after(fate)
            state = hashlib.sha256(repr((told, sorted(files.items()), sorted(directories))).encode()).digest()
            if state in seen:
                continue
            seen.add(state)
            cuts.states += 1
            place = root / f"cut-{moment}-{cuts.states}"
            place.mkdir()
            lay_out(place, files, directories)
            found = _recover(recording, expected, place, told)
            cuts.violations += [f"{_named(moment, note)}, {fate.told}: {one}" for one in found]
            shutil.rmtree(place)
        if note is not None:
            disk.play(note)
    return cuts


def _named(moment: int, note: Note | None) -> str:
    return f"before call {moment}, {note.name} {note.path}" if note is not None else "after the run"


def _recover(recording: Recording, expected: Story, place: Path, told: int) -> list[str]:
    reference = Reference(place, recording.tasks, dict(recording.acknowledged[:told]), recording.now_ms, plays=1)
    try:
        with intercepted(Call.perform):
            return broken_promises(reference, reference.play(), expected)
    except (Exception, Death):  # noqa: BLE001 - whatever it is, it should not be
        return [traceback.format_exc().replace("\n", " | ")]
