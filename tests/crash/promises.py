"""What has to hold when a run was recovered from whatever happened to it."""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from reference import RUN_ID, Reference, is_completed, journals, steps_of

from lorch_actors.records.verify import verify_workspace
from lorch_actors.storage.ledger import read_lines


@dataclass(frozen=True)
class Story:
    """What a run came to, without what differs from one run to the next: times, incarnations, numbers."""

    keys: tuple[str, ...]
    receipts: dict[str, dict[str, Any]]
    files: dict[str, bytes]


def lines_of(reference: Reference) -> list[dict[str, Any]]:
    """Return the ledger's lines; what a run that is over left half written behind them is passed over."""
    return [msgspec.json.decode(line.raw) for line in read_lines(reference.ledger, RUN_ID)]


def story_of(reference: Reference) -> Story:
    """Return what the run came to."""
    root = reference.root
    keys = [line["idempotency_key"] for line in lines_of(reference) if line["kind"] == "command"]
    receipts = {}
    for path in _visible(root / "receipts"):
        receipt = msgspec.json.decode(_content(path))
        kept = ("task_id", "step", "action", "idempotency_key", "snapshot_id", "artifacts", "correlation_id")
        receipts[os.path.relpath(path, root)] = {name: receipt[name] for name in kept}
    files = {
        os.path.relpath(path, root): _content(path)
        for folder in ("src", "reviews", "specs")
        for path in _visible(root / folder)
    }
    return Story(tuple(dict.fromkeys(keys)), receipts, files)


def broken_promises(reference: Reference, ended: str, expected: Story) -> list[str]:
    """Return every promise that does not hold after a recovery; nothing if all do."""
    found = []
    if not is_completed(ended):
        return [f"the run ended with {ended!r}"]
    lines = lines_of(reference)
    chains = {line["ledger"]["seq"]: line["ledger"]["chain"] for line in lines}
    for seq, chain in reference.acknowledged.items():
        if chains.get(seq) != chain:
            found.append(f"entry {seq} was acknowledged and is lost")
    counted = Counter(line["message_id"] for line in lines if "message_id" in line)
    found += [f"{name} is in the ledger {count} times" for name, count in counted.items() if count > 1]
    told = story_of(reference)
    for part in ("keys", "receipts", "files"):
        if getattr(told, part) != getattr(expected, part):
            found.append(f"other {part} than the reference run: {getattr(told, part)} for {getattr(expected, part)}")
    found += _journal(reference, set(told.keys), {one["idempotency_key"] for one in told.receipts.values()})
    found += [f"{one.check}: {one.where}: {one.what}" for one in verify_workspace(reference.workspace)]
    for path in (reference.workspace.transcript(RUN_ID), reference.workspace.run_state, reference.workspace.index):
        if not path.exists():
            found.append(f"absent: {path}")
    found += [f"left behind: {path}" for path in _files(reference.root) if ".tmp." in os.path.basename(path)]
    return found


def _files(root: Path) -> list[str]:
    return sorted(os.path.join(place, name) for place, _, names in os.walk(root) for name in names)


def _visible(root: Path) -> list[str]:
    return [path for path in _files(root) if not os.path.basename(path).startswith(".")]


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _journal(reference: Reference, keys: set[str], settled: set[str]) -> list[str]:
    """Find what was done without a command, done again after it was done, or forgotten although it was settled."""
    found = []
    finished: set[str] = set()
    for line in journals(reference.root):
        key = line["key"]
        if key not in keys:
            found.append(f"the journal has {key}, the ledger has not")
        if line["entry"] == "started" and key in finished:
            found.append(f"{key} was executed again after it had been finished")
        if line["entry"] == "finished":
            finished.add(key)
    return [*found, *(f"the journal has forgotten {key}" for key in sorted(settled - finished))]


def well_known(reference: Reference) -> Story:
    """Return the story of an undisturbed run, which is checked for being what the scripts say."""
    told = story_of(reference)
    assert len(told.keys) == len(told.receipts) == sum(len(steps_of(task_id)) for task_id in reference.tasks)
    assert broken_promises(reference, "completed", told) == []
    assert RUN_ID in reference.ledger.name
    return told


@cache
def story_of_tasks(tasks: tuple[str, ...]) -> Story:
    """Return what an undisturbed run of these tasks comes to."""
    with tempfile.TemporaryDirectory(prefix="lorch-crash-") as directory:
        reference = Reference(Path(directory, "w"), tasks).make()
        assert reference.play() == "completed"
        return well_known(reference)
