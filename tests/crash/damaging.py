"""Damaging one file of a finished or interrupted run at one place, and asking everybody who reads it.

What counts as accepted in silence: the ledger opens, the run loads and `verify` finds nothing, although the file says
something else than before. What is never right: an exception that is none of ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from reference import RUN_ID, Reference

from lorch_actors.errors import LorchError
from lorch_actors.records.history import load_run, next_steps, vouched
from lorch_actors.records.verify import verify_workspace
from lorch_actors.storage.ledger import LedgerFile, inspect
from lorch_actors.storage.workspace import Workspace


@dataclass(frozen=True)
class Damage:
    """One change to a file: cut to ``at`` bytes, or the byte there changed by ``mask``."""

    at: int
    mask: int = 0

    def of(self, content: bytes) -> bytes:
        """Return the damaged content."""
        if not self.mask:
            return content[: self.at]
        return content[: self.at] + bytes([content[self.at] ^ self.mask]) + content[self.at + 1 :]

    def __str__(self) -> str:
        return f"byte {self.at} changed by {self.mask:#04x}" if self.mask else f"cut to {self.at} bytes"


def damages(size: int, masks: tuple[int, ...]) -> Iterator[Damage]:
    """Yield every cut, and every change of a byte by one of the masks."""
    for at in range(size):
        yield Damage(at)
        yield from (Damage(at, mask) for mask in masks)


@dataclass(frozen=True)
class Whole:
    """A run before it was damaged. state: as it is folded. steps: where its tasks go on."""

    reference: Reference
    state: bytes
    steps: dict[str, int]
    end_seq: int
    durable: int


def whole(reference: Reference) -> Whole:
    """Return what is known of a run that is whole; `verify` agrees."""
    workspace = reference.workspace
    assert verify_workspace(workspace) == []
    found = inspect(reference.ledger, RUN_ID)
    return Whole(reference, _state(workspace), next_steps(workspace, reference.tasks), found.end.seq, found.durable)


def _state(workspace: Workspace) -> bytes:
    loaded = load_run(workspace, RUN_ID)
    return msgspec.json.encode([loaded.run, loaded.position])


def heard(run: Whole, path: Path, damage: Damage) -> str:
    """Damage the file, ask everybody, put it back; return what they said: a refusal, findings, ``same`` or ``silence``.

    Raises whatever is no error of ours.
    """
    content = path.read_bytes()
    path.write_bytes(damage.of(content))
    try:
        return _asked(run)
    finally:
        path.write_bytes(content)


def _asked(run: Whole) -> str:
    workspace = run.reference.workspace
    ledger = run.reference.ledger
    before = ledger.read_bytes()
    refused: LorchError | None = None
    try:
        state = _state(workspace)
        steps = next_steps(workspace, run.reference.tasks)
        LedgerFile.open(ledger, RUN_ID, vouched(workspace, RUN_ID)).close()
    except LorchError as error:
        refused = error
    if refused is not None:
        assert ledger.read_bytes() == before, "refused, and yet changed"
        assert f"{ledger}, line " in refused.where, f"refused without a place: {refused}"
        return f"refused: {refused}"
    found = verify_workspace(workspace)
    if found:
        return f"found: {found[0].check}: {found[0].where}"
    return "same" if (state, steps) == (run.state, run.steps) else "silence"


def opened(run: Whole, damage: Damage, content: bytes) -> str:
    """Damage the ledger and only open it, which is quick; return ``refused``, ``same``, ``cut`` or ``silence``."""
    ledger = run.reference.ledger
    ledger.write_bytes(damage.of(content))
    try:
        with LedgerFile.open(ledger, RUN_ID, vouched(run.reference.workspace, RUN_ID)) as file:
            end = file.last_seq
        after = ledger.read_bytes()
    except LorchError as error:
        return "refused" if f"{ledger}, line " in error.where else "refused without a place"
    finally:
        ledger.write_bytes(content)
        for torn in ledger.parent.glob("*.torn-*"):
            torn.unlink()
    if not content.startswith(after):
        return "silence"
    if end < run.durable:
        return "lost"
    return "same" if after == content else "cut"
