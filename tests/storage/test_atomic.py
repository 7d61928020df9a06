"""Whole files that are the old ones or the new ones."""

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import remove_leftovers, write_all, write_atomic, write_json

STEPS = ("create", "write", "sync_file", "replace", "sync_directory")


def test_a_file_is_replaced_whole_and_private(tmp_path):
    """The new content stands under the old name, 0600 even if the old file was open to others; nothing else is left."""
    target = tmp_path / "run.json"
    target.write_bytes(b"old")
    target.chmod(0o644)

    write_atomic(target, b"new")

    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_content_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """Write, sync, rename, sync of the directory: in this order, on a temporary file that names its process."""
    steps = []
    for name in STEPS:
        monkeypatch.setattr(disk, name, _recording(steps, name, getattr(disk, name)))

    write_atomic(tmp_path / "run.json", b"new")

    assert [step for step, _ in steps] == list(STEPS)
    name = os.path.basename(steps[0][1])
    prefix = f".run.json.tmp.{os.getpid()}."
    assert name.startswith(prefix)
    assert len(name) == len(prefix) + 8
    assert set(name[len(prefix) :]) <= set("0123456789abcdef")


@pytest.mark.parametrize("step", STEPS[:-1])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_refusal_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, step, number):
    """When the disk refuses before the rename, the old content stands and the temporary file is gone."""
    target = tmp_path / "run.json"
    target.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(disk, step, _refusing(number))
        with pytest.raises(StorageError):
            write_atomic(target, b"new")

    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_many_files_are_written_before_the_first_is_synced(tmp_path, monkeypatch):
    """One journal commit may serve them all; none has its name before its content is on the disk."""
    steps = []
    for name in STEPS:
        monkeypatch.setattr(disk, name, _recording(steps, name, getattr(disk, name)))

    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})

    twice = ["sync_file", "sync_file", "replace", "replace"]
    assert [step for step, _ in steps] == ["create", "write", "create", "write", *twice, "sync_directory"]
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"1", b"2"]


@pytest.mark.parametrize("told", [0, 1], ids=["the temporary file", "the file"])
def test_a_refusal_among_many_files_names_the_one_it_is_about(tmp_path, monkeypatch, told):
    """The second of them could not be renamed: the first is in place, no temporary file is left."""
    replace = disk.replace

    def refuse_b(source, target):
        if target.name == "b":
            raise StorageError("the disk is full", where=str((source, target)[told]))
        replace(source, target)

    monkeypatch.setattr(disk, "replace", refuse_b)
    with pytest.raises(StorageError, match="full") as caught:
        write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})

    assert caught.value.where == str(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_first_refusal_is_the_one_that_is_told(tmp_path, monkeypatch):
    """A temporary file that cannot be removed either does not hide why the write failed."""
    monkeypatch.setattr(disk, "write", _refusing(errno.ENOSPC))
    monkeypatch.setattr(disk, "unlink", _refusing(errno.EIO))

    with pytest.raises(StorageError, match="the disk is full") as caught:
        write_atomic(tmp_path / "run.json", b"new")
    assert caught.value.where == str(tmp_path / "run.json")  # the file that is meant, not the temporary one


def test_a_document_is_json_with_a_newline(tmp_path):
    """JSON documents are UTF-8, indented, in the given order, and end with a newline."""
    write_json(tmp_path / "run.json", {"b": "é", "a": [1]})

    assert (tmp_path / "run.json").read_bytes() == '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'.encode()


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    """Temporary files of processes that are gone are removed; those of living ones, and all other files, stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = tmp_path / f".run.json.tmp.{dead.pid}.0123abcd"
    stay = [
        tmp_path / name
        for name in (
            f".run.json.tmp.{os.getpid()}.0123abcd",
            f".run.json.tmp.{dead.pid}.0123ABCD",
            f".run.json.tmp.{dead.pid}.0123abcde",
            f"run.json.tmp.{dead.pid}.0123abcd",
            ".run.json.tmp..0123abcd",
            "run.json",
        )
    ]
    for path in (gone, *stay):
        path.write_bytes(b"")

    removed = remove_leftovers(tmp_path)

    assert removed == [gone]
    assert sorted(tmp_path.iterdir()) == sorted(stay)


def test_a_directory_that_is_absent_has_no_leftovers(tmp_path):
    """Cleaning where nothing was ever written is fine; what is no directory is named."""
    (tmp_path / "file").write_bytes(b"")

    assert remove_leftovers(tmp_path / "absent") == []
    with pytest.raises(StorageError, match="cannot list"):
        remove_leftovers(tmp_path / "file")


def test_killed_at_any_step_the_old_or_the_new_file_stands(tmp_path):
    """SIGKILL before any step leaves the old or the new content whole, and the next start cleans up."""
    target = tmp_path / "run.json"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from lorch_actors.storage import disk\n"
        "from lorch_actors.storage.atomic import write_atomic\n"
        "setattr(disk, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "write_atomic(Path(sys.argv[1]), b'new')\n"
    )
    found = []
    for step in STEPS:
        target.write_bytes(b"old")
        killed = subprocess.run([sys.executable, "-c", program, target, step], check=False)
        assert killed.returncode == -signal.SIGKILL
        remove_leftovers(tmp_path)
        found.append(target.read_bytes())
        assert [p.name for p in tmp_path.iterdir()] == ["run.json"]

    assert found == [b"old", b"old", b"old", b"old", b"new"]


def _refusing(number):
    def refuse(*_):
        raise disk.storage_error("do it", "there", OSError(number, os.strerror(number)))

    return refuse


def _recording(steps, name, function):
    def recorded(first, *rest):
        steps.append((name, first))
        return function(first, *rest)

    return recorded
