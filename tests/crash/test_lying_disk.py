"""A power cut at any moment, whatever the disk made of what was not synced: the run comes to the same end.

The states are those of `lying.fates` at every call of a reference run. In the default suite chance picks some.
"""

from pathlib import Path

import pytest
from lying import BLOCK_BYTES, Disk, Fate, Note, fates
from powercuts import cut_power, record
from reference import TASKS

SEED = 20260102
NOTHING = Fate("nothing", lambda: False, lambda _: 0)
NAMES = Fate("names", lambda: True, lambda _: 0)
ALL = Fate("all", lambda: True, lambda size: size)
ZEROS = Fate("zeros", lambda: True, lambda _: None)


@pytest.mark.parametrize(
    "tasks", [TASKS[:1], pytest.param(TASKS, marks=pytest.mark.long)], ids=["one task", "two tasks"]
)
def test_a_power_cut_loses_nothing_that_was_acknowledged(scratch: Path, story_for, tasks) -> None:
    """Some states of each run, by chance."""
    cuts = cut_power(record(scratch, tasks), story_for(tasks), scratch, share=0.02, seed=SEED)

    assert cuts.violations == []
    assert cuts.states >= 10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("tasks", "share"), [(TASKS[:1], 1.0), (TASKS, 0.25)], ids=["one task", "two tasks"])
def test_no_power_cut_loses_anything_that_was_acknowledged(scratch: Path, story_for, tasks, share) -> None:
    """All states of the shorter run; a quarter of those of the longer one."""
    cuts = cut_power(record(scratch, tasks), story_for(tasks), scratch, share=share, seed=SEED)

    print(f"\nstates of the disk: {cuts.states}")
    assert cuts.violations == []
    assert cuts.states >= 300


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """The model itself: data, sizes and names are certain only after their sync."""
    disk = Disk(tmp_path)
    disk.play(Note("create", "f", 0, inode=7))
    disk.play(Note("write", "f", 0, inode=7, data=b"one"))

    assert disk.after(NOTHING)[0] == {}
    assert disk.after(NAMES)[0] == {"f": b""}
    assert disk.after(ALL)[0] == {"f": b"one"}

    disk.play(Note("sync", "f", 0, inode=7))
    disk.play(Note("sync names", ".", 0))
    disk.play(Note("write", "f", 0, inode=7, offset=3, data=b"two"))

    assert disk.after(NOTHING)[0] == {"f": b"one"}
    assert disk.after(ZEROS)[0] == {"f": b"one\0\0\0"}
    assert disk.after(ALL)[0] == {"f": b"onetwo"}


def test_the_disk_forgets_renames_and_directories(tmp_path: Path) -> None:
    """Until the directory that holds the name is synced; a file below a lost directory is lost with it."""
    (tmp_path / "f").write_bytes(b"old")
    disk = Disk(tmp_path)
    for note in (
        Note("create", "t", 0, inode=7),
        Note("write", "t", 0, inode=7, data=b"new"),
        Note("sync", "t", 0, inode=7),
        Note("replace", "t", 0, target="f"),
    ):
        disk.play(note)

    assert disk.after(NOTHING)[0] == {"f": b"old"}
    assert disk.after(ALL)[0] == {"f": b"new"}

    disk.play(Note("sync names", ".", 0))
    disk.play(Note("mkdir", "d", 0))
    disk.play(Note("create", "d/g", 0, inode=8))
    disk.play(Note("sync names", "d", 0))

    assert disk.after(NOTHING) == ({"f": b"new"}, {"."})
    assert disk.after(ALL) == ({"f": b"new", "d/g": b""}, {".", "d"})


def test_writes_are_torn_at_blocks(tmp_path: Path) -> None:
    """Among the fates of a long write are all, nothing, zeros, and a few whole blocks of it."""
    (tmp_path / "f").touch()
    disk = Disk(tmp_path)
    data = bytes(range(1, 256)) * 20
    disk.play(Note("create", "g", 0, inode=7))
    disk.play(Note("write", "g", 0, inode=7, data=data))

    found = {disk.after(fate)[0].get("g") for seed in range(60) for fate in fates(seed)}

    assert {None, b"", data, bytes(len(data))} <= found
    assert any(part and len(part) % BLOCK_BYTES == 0 and data.startswith(part) for part in found)
