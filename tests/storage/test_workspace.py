"""Where everything lies in a workspace."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lorch_actors.errors import StorageError, UsageError
from lorch_actors.storage.workspace import OWN_DIRECTORIES, Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_every_path_of_the_layout(workspace, tmp_path):
    """Each file lies where the documented layout says."""
    run = "run-20260101-000000-0a1b2c3d"
    paths = {
        "lorch.json": workspace.config_file,
        f"events/{run}.ndjson": workspace.ledger(run),
        f"events/{run}.ndjson.lock": workspace.ledger_lock(run),
        "state/run.json": workspace.run_state,
        "state/run.json.lock": workspace.run_state_lock,
        "state/index.json": workspace.index,
        "state/lorch.lock": workspace.lock,
        "state/guardian.lock": workspace.guardian_lock,
        "state/checkpoint.cbor": workspace.checkpoint,
        "state/requests": workspace.requests,
        "receipts/T-1": workspace.receipts("T-1"),
        "receipts/T-1/step-3.json": workspace.receipt("T-1", 3),
        "snapshots/snap-0123456789ab.manifest.json": workspace.manifest("snap-0123456789ab"),
        f"logs/builder/{run}.ndjson": workspace.log("builder", run),
        f"transcripts/{run}.txt": workspace.transcript(run),
    }

    assert {name: tmp_path / name for name in paths} == paths


@pytest.mark.parametrize("name", ["", ".", "..", "../escape", "a/b", "/etc", ".hidden", "a\n", "a\0", "ü", "x" * 200])
def test_no_name_leads_elsewhere(workspace, name):
    """Whatever enters a path is checked where the path is made: `../../escape` writes no receipt outside."""
    makers = (
        workspace.ledger,
        workspace.ledger_lock,
        workspace.receipts,
        workspace.manifest,
        workspace.transcript,
        lambda n: workspace.receipt(n, 1),
        lambda n: workspace.log(n, "run"),
        lambda n: workspace.log("builder", n),
    )
    for make in makers:
        with pytest.raises(UsageError, match="cannot be part of a path"):
            make(name)


def test_prepare_makes_private_directories(workspace, tmp_path):
    """Our directories are made with mode 0700, whatever the umask; the root keeps its mode; a second time is fine."""
    tmp_path.chmod(0o755)
    umask = os.umask(0)
    try:
        workspace.prepare()
        workspace.prepare()
    finally:
        os.umask(umask)

    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(OWN_DIRECTORIES)
    assert {mode(p) for p in (*tmp_path.iterdir(), workspace.requests)} == {0o700}
    assert mode(tmp_path) == 0o755


def test_prepare_tightens_directories_that_were_open_to_others(workspace):
    """A directory of ours that others could enter is closed to them."""
    workspace.events.mkdir(mode=0o755)

    workspace.prepare()

    assert mode(workspace.events) == 0o700


def test_prepare_leaves_the_users_directories_alone(workspace, tmp_path):
    """The user's own files keep their modes."""
    (tmp_path / "src").mkdir(mode=0o755)

    workspace.prepare()

    assert mode(tmp_path / "src") == 0o755


def test_prepare_refuses_a_link_in_the_place_of_our_directory(workspace, tmp_path):
    """A link could lead our files out of the workspace: it is named and left alone."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    workspace.events.symlink_to(outside)

    with pytest.raises(StorageError, match="symbolic link") as caught:
        workspace.prepare()

    assert caught.value.where == str(workspace.events)
    assert mode(outside) == 0o755


def test_prepare_names_a_file_in_the_place_of_our_directory(workspace):
    """A file named like one of our directories is told, not removed."""
    workspace.state.write_bytes(b"mine")

    with pytest.raises(StorageError, match="something is already there"):
        workspace.prepare()

    assert workspace.state.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_workspace_that_is_no_directory_is_a_usage_error(tmp_path, name):
    """A mistyped --workspace is told as such, and nothing is made."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UsageError, match="not a directory"):
        Workspace(tmp_path / name).prepare()

    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_a_workspace_that_cannot_be_written_is_named(workspace, monkeypatch, existing):
    """A read-only workspace is told at the start, with its path, whether our directories are there or not."""
    if existing:
        workspace.prepare()
        monkeypatch.setattr(os, "access", lambda *_: False)
        words = "the workspace cannot be written"
    else:
        monkeypatch.setattr(os, "mkdir", _read_only)
        words = "the file system is read-only"

    with pytest.raises(StorageError, match=words) as caught:
        workspace.prepare()

    assert caught.value.where == str(workspace.events)


def test_leftovers_are_removed_from_all_our_directories(workspace, tmp_path):
    """Unfinished writes of dead processes go, also below receipts; the user's directories are not searched."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = f".x.json.tmp.{dead.pid}.0123abcd"
    workspace.prepare()
    workspace.receipts("T-1").mkdir()
    (tmp_path / "src").mkdir()
    ours = [tmp_path / name, workspace.state / name, workspace.receipts("T-1") / name]
    theirs = tmp_path / "src" / name
    for path in (*ours, theirs):
        path.write_bytes(b"")

    assert sorted(workspace.remove_leftovers()) == sorted(ours)
    assert theirs.exists()


def test_runs_are_found_by_their_ledgers(workspace):
    """The runs of a workspace are its ledgers; locks and torn tails are none; without a directory there are none."""
    assert workspace.run_ids() == []
    workspace.prepare()
    for name in ("run-b.ndjson", "run-a.ndjson", "run-a.ndjson.lock", "run-a.ndjson.torn-1", ".x.ndjson", "notes.txt"):
        (workspace.events / name).write_bytes(b"")

    assert workspace.run_ids() == ["run-a", "run-b"]


def test_runs_that_cannot_be_listed_are_an_error(workspace):
    """Something else in the place of the ledgers is told, not taken for a workspace without runs."""
    workspace.events.write_bytes(b"")

    with pytest.raises(StorageError, match="cannot list"):
        workspace.run_ids()


def test_a_relative_root_is_fixed_at_once(tmp_path, monkeypatch):
    """A later change of directory does not move the workspace."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path())
    monkeypatch.chdir("/")

    assert workspace.config_file == tmp_path / "lorch.json"


def _read_only(*_):
    raise OSError(30, "Read-only file system")
