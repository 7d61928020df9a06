"""Runs are read back the same with and without checkpoint, and what does not fit together is refused."""

import json

import msgspec
import pytest
from ledger_editing import Lines, edit

from lorch_actors.errors import LedgerDamaged, UsageError
from lorch_actors.protocol.documents import Index, RunStatus
from lorch_actors.records.history import load_run, newest, newest_unfinished, next_steps, read_index, rows
from lorch_actors.records.projector import Projector
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import write_json
from lorch_actors.storage.checkpoint import write_checkpoint
from lorch_actors.storage.ledger import read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.state import Run

KINDS = ["finished", "failed", "interrupted"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_at_any_line_gives_the_same_run(copied, kind: str) -> None:
    """The same state, at the same place; only that fewer lines are read."""
    workspace = copied(kind)
    (run_id,) = workspace.run_ids()
    whole = load_run(workspace, run_id, use_checkpoint=False)
    run = Run(run_id)
    for entry, position in read_entries(workspace.ledger(run_id), run_id):
        run = fold(run, entry)
        write_checkpoint(workspace.checkpoint, run_id, position, msgspec.to_builtins(run))

        loaded = load_run(workspace, run_id)

        assert loaded.run == whole.run
        assert loaded.position == whole.position
        assert whole.recent_ids[len(whole.recent_ids) - len(loaded.recent_ids) :] == loaded.recent_ids


def test_only_our_own_ids_are_remembered(copied) -> None:
    """An agent that names its message like a command of ours must not keep that from being written (SPEC §3)."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    before = load_run(workspace, run_id, use_checkpoint=False).recent_ids

    def imitate(lines: Lines) -> None:
        for line in lines:
            if line["kind"] == "event" and line["from"]["agent_type"] != "system":
                line["message_id"] = f"sys-run_resumed:{line['message_id']}"

    edit(workspace, imitate)

    assert load_run(workspace, run_id, use_checkpoint=False).recent_ids == before


@pytest.mark.parametrize("content", [b"", b"rubbish", b"lorch-checkpoint 1 " + b"0" * 64 + b"\n\x80"])
def test_a_damaged_checkpoint_is_ignored(copied, content: bytes) -> None:
    """It is a cache."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    whole = load_run(workspace, run_id, use_checkpoint=False)
    workspace.checkpoint.write_bytes(content)

    assert load_run(workspace, run_id) == whole


def test_a_checkpoint_of_another_state_format_is_ignored(copied) -> None:
    """As a newer version would leave it."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    whole = load_run(workspace, run_id, use_checkpoint=False)
    write_checkpoint(workspace.checkpoint, run_id, whole.position, {"run_id": run_id, "tasks": 7})

    assert load_run(workspace, run_id) == whole


def test_a_checkpoint_that_another_ledger_made_is_damage(copied) -> None:
    """The ledger has another line where the checkpoint knows one."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    whole = load_run(workspace, run_id, use_checkpoint=False)
    other = msgspec.structs.replace(whole.position, chain="0" * 16)
    write_checkpoint(workspace.checkpoint, run_id, other, msgspec.to_builtins(whole.run))

    with pytest.raises(LedgerDamaged):
        load_run(workspace, run_id)


def test_a_run_that_is_not_there_is_named(copied) -> None:
    """With the command that lists those that are."""
    with pytest.raises(UsageError, match="there is no run run-x here"):
        load_run(copied(), "run-x")


def without_ledger(workspace: Workspace) -> None:
    for run_id in workspace.run_ids():
        workspace.ledger(run_id).unlink()


@pytest.mark.parametrize("left", ["run_state", "index"])
def test_a_ledger_that_is_gone_is_damage_while_anything_stands_for_it(copied, left: str) -> None:
    """The run that run.json, or else the index, knows last."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    without_ledger(workspace)
    for name in {"run_state", "index"} - {left}:
        getattr(workspace, name).unlink()

    with pytest.raises(LedgerDamaged, match="the ledger ends after line 0"):
        load_run(workspace, run_id)
    with pytest.raises(LedgerDamaged):
        rows(workspace)
    assert rows(workspace, skip_damaged=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_index_or_read_from_the_ledger(copied, kind: str) -> None:
    """A missing index costs time, nothing else."""
    workspace = copied(kind)
    before = rows(workspace)
    index = json.loads(workspace.index.read_bytes())["runs"]
    workspace.index.unlink()

    assert rows(workspace) == before
    assert [row.run_id for row in before] == [row["run_id"] for row in index]


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_run_is_found_without_reading_what_the_index_knows(copied, kind: str, monkeypatch) -> None:
    """When a run began never changes, so neither its ledger nor its checkpoint is looked at."""
    workspace = copied(kind)
    with monkeypatch.context() as patched:
        patched.setattr("lorch_actors.records.history.load_run", lambda *_: pytest.fail("read"))
        from_index = newest(workspace)
    workspace.index.unlink()

    assert [from_index] == [newest(workspace)] == workspace.run_ids()


def test_the_newest_unfinished_run_is_found(copied) -> None:
    """Finished and failed ones are not."""
    assert newest_unfinished(copied("finished")) is None
    assert newest_unfinished(copied("failed")) is None
    workspace = copied("interrupted")
    assert [newest_unfinished(workspace)] == workspace.run_ids()


def test_steps_go_on_behind_every_run_of_the_workspace(copied) -> None:
    """Also when the index is gone, and from 1 for a task that nobody has worked on."""
    workspace = copied()
    expected = {"T-1": 11, "T-2": 11, "T-3": 1}

    assert next_steps(workspace, ["T-1", "T-2", "T-3"]) == expected
    workspace.index.unlink()
    assert next_steps(workspace, ["T-1", "T-2", "T-3"]) == expected


def test_a_run_that_is_held_is_not_read_again(copied) -> None:
    """Who resumes a run has folded it already: its steps are known, whatever the file says by now."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    held = load_run(workspace, run_id)
    workspace.ledger(run_id).write_bytes(b"")
    for projection in (workspace.index, workspace.run_state, workspace.checkpoint):
        projection.unlink()

    assert next_steps(workspace, ["T-1", "T-3"], held=held) == {"T-1": 11, "T-3": 1}
    assert rows(workspace, use_index=False, held=held)[0].last_steps == {"T-1": 10, "T-2": 10}


def test_receipts_count_where_a_ledger_cannot_be_read(copied) -> None:
    """Nothing is written over what a damaged ledger stood for."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    path = workspace.ledger(run_id)
    path.write_bytes(path.read_bytes().replace(b"builder.completed", b"builder.Completed", 1))
    for projection in (workspace.index, workspace.run_state, workspace.checkpoint):
        projection.unlink()

    assert next_steps(workspace, ["T-1", "T-3"]) == {"T-1": 11, "T-3": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_projector_takes_each_entry_once(copied, kind: str) -> None:
    """Entries that it has had are dropped; it arrives where one arrives who reads the file."""
    workspace = copied(kind)
    (run_id,) = workspace.run_ids()
    projector = Projector(workspace, run_id, use_checkpoint=False)
    for entry, position in read_entries(workspace.ledger(run_id), run_id):
        projector.apply(entry, position)
        projector.apply(entry, position)
    projector.settle()

    whole = load_run(workspace, run_id, use_checkpoint=False)
    assert (projector.run, projector.position) == (whole.run, whole.position)
    assert len(projector.receipts) == whole.run.settled_count
    assert projector.dirty


def test_receipts_that_come_together_cost_one_sync_of_their_directory(copied, monkeypatch) -> None:
    """A file each and a directory for all: the names of many receipts are on the disk with one call."""
    workspace = copied("finished")
    (run_id,) = workspace.run_ids()
    files, directories = [], []
    sync_file, sync_directory = disk.sync_file, disk.sync_directory
    monkeypatch.setattr(disk, "sync_file", lambda fd: (files.append(fd), sync_file(fd)))
    monkeypatch.setattr(disk, "sync_directory", lambda path: (directories.append(path), sync_directory(path)))
    projector = Projector(workspace, run_id, use_checkpoint=False)
    projector.catch_up()

    receipts = projector.run.settled_count
    assert receipts > len(projector.run.tasks)
    assert len(files) == receipts
    assert sorted(directories) == sorted(workspace.receipts(task_id) for task_id in projector.run.tasks)


def test_a_projector_goes_on_behind_the_checkpoint(copied) -> None:
    """With nothing left to do when the checkpoint is at the end."""
    workspace = copied("finished")
    (run_id,) = workspace.run_ids()
    projector = Projector(workspace, run_id)
    at = projector.position

    projector.catch_up()

    assert at == projector.position == load_run(workspace, run_id).position
    assert projector.run.status is RunStatus.COMPLETED
    assert not projector.dirty


def test_an_older_run_leaves_run_json_to_the_newer_one(copied) -> None:
    """It has its row in the index all the same."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    (row,) = read_index(workspace).runs
    newer = msgspec.structs.replace(row, run_id="run-99991231-000000-00000000", started_at="9999-12-31T00:00:00.000Z")
    write_json(workspace.index, Index(runs=[newer]))
    workspace.run_state.write_text("{}\n")
    projector = Projector(workspace, run_id, use_checkpoint=False)
    projector.catch_up()

    projector.flush()

    assert workspace.run_state.read_text() == "{}\n"
    assert [each.run_id for each in read_index(workspace).runs] == [run_id, newer.run_id]


def test_a_run_that_never_began_does_not_keep_run_json_from_others(copied) -> None:
    """Its ledger is empty, whatever its id."""
    workspace = copied()
    (run_id,) = workspace.run_ids()
    workspace.ledger("run-99991231-000000-00000000").touch()
    workspace.run_state.unlink()
    projector = Projector(workspace, run_id, use_checkpoint=False)
    projector.catch_up()

    projector.flush()

    assert json.loads(workspace.run_state.read_bytes())["run_id"] == run_id
