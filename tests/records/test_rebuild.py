"""Projections are written again byte for byte, and those of a run that died before it wrote them are completed."""

import shutil
from pathlib import Path

import pytest

from lorch_actors.errors import LedgerDamaged, StorageError
from lorch_actors.records.projector import Projector
from lorch_actors.records.rebuild import complete, complete_finished, rebuild
from lorch_actors.storage import disk
from lorch_actors.storage.workspace import Workspace

KINDS = ["finished", "failed", "interrupted"]


def projections(workspace: Workspace) -> dict[str, bytes]:
    """Return every projection there is, and the checkpoint."""
    found = [workspace.run_state, workspace.index, workspace.checkpoint]
    found += [*workspace.root.glob("receipts/*/*"), *workspace.root.glob("transcripts/*")]
    return {str(path.relative_to(workspace.root)): path.read_bytes() for path in found if path.exists()}


def remove(workspace: Workspace) -> None:
    """Remove every projection."""
    for path in (workspace.run_state, workspace.index, workspace.checkpoint):
        path.unlink(missing_ok=True)
    for name in ("receipts", "transcripts"):
        shutil.rmtree(workspace.root / name, ignore_errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rebuild_writes_the_same_bytes(copied, kind: str) -> None:
    """Run state, index, receipts, transcript and checkpoint, from nothing but the ledger."""
    workspace = copied(kind)
    before = projections(workspace)
    remove(workspace)

    written = rebuild(workspace, workspace.run_ids())

    assert projections(workspace) == before
    assert sorted(str(path.relative_to(workspace.root)) for path in written) == sorted(before)


@pytest.mark.parametrize("kind", KINDS)
def test_rebuild_changes_nothing_that_is_right(copied, kind: str) -> None:
    """It may be called at any time."""
    workspace = copied(kind)
    before = projections(workspace)

    rebuild(workspace, workspace.run_ids())

    assert projections(workspace) == before


def test_what_rebuild_writes_is_for_its_owner_only(copied) -> None:
    """As the run wrote it."""
    workspace = copied()
    remove(workspace)

    rebuild(workspace, workspace.run_ids())

    modes = {path.stat().st_mode & 0o777 for path in map(workspace.root.joinpath, projections(workspace))}
    assert modes == {0o600}


def test_rebuild_refuses_a_damaged_ledger(copied) -> None:
    """What it says could be anything."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    path = workspace.ledger(run_id)
    path.write_bytes(path.read_bytes().replace(b"builder.completed", b"builder.Completed", 1))

    with pytest.raises(LedgerDamaged):
        rebuild(workspace, [run_id])


@pytest.mark.parametrize("kind", KINDS)
def test_complete_brings_projections_to_the_end(copied, kind: str) -> None:
    """Whatever of them there was."""
    workspace = copied(kind)
    before = projections(workspace)
    remove(workspace)

    complete(workspace, workspace.run_ids()[0])

    assert projections(workspace) == before


@pytest.mark.parametrize("missing", ["state/index.json", "state/checkpoint.cbor", "everything"])
@pytest.mark.parametrize("kind", ["finished", "failed"])
def test_runs_that_are_over_are_written_down(copied, kind: str, missing: str) -> None:
    """Nobody would resume them any more."""
    workspace = copied(kind)
    before = projections(workspace)
    if missing == "everything":
        remove(workspace)
    else:
        (workspace.root / missing).unlink()

    complete_finished(workspace)

    assert projections(workspace) == before


def test_runs_that_are_not_over_are_left_to_their_resume(copied) -> None:
    """It writes them as it goes."""
    workspace = copied("interrupted")
    remove(workspace)

    complete_finished(workspace)

    assert projections(workspace) == {}


def test_a_damaged_ledger_is_left_alone(copied) -> None:
    """It keeps no other run from being written down."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    path = workspace.ledger(run_id)
    path.write_bytes(path.read_bytes().replace(b"builder.completed", b"builder.Completed", 1))
    remove(workspace)

    complete_finished(workspace)

    assert projections(workspace) == {}
    assert Path(path).exists()


def test_a_receipt_that_was_refused_is_written_later(copied, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at a receipt: no position says that it is there, so it is written when asked again."""
    workspace = copied()
    before = projections(workspace)
    remove(workspace)
    (run_id,) = workspace.run_ids()
    projector = Projector(workspace, run_id, use_checkpoint=False)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "create", _refuse)
        with pytest.raises(StorageError, match="full"):
            projector.catch_up()
    projector.catch_up()

    receipts = {name for name in before if name.startswith("receipts/")}
    assert {name for name in projections(workspace) if name.startswith("receipts/")} == receipts


def _refuse(path: Path) -> int:
    raise StorageError("the disk is full", where=str(path))
