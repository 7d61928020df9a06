"""The stat cache saves reading, and never changes what a snapshot says."""

import os
import time
from types import SimpleNamespace

import msgspec
import pytest

from lorch_actors.storage import disk, snapshots
from lorch_actors.storage.file_records import fingerprint, is_racy
from lorch_actors.storage.snapshots import capture
from lorch_actors.storage.stat_cache import StatCache

HOUR_NS = 3600 * 10**9


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        (tmp_path / "src" / name).write_text(name * 100)
    return tmp_path


@pytest.fixture
def an_hour_later(monkeypatch):
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + HOUR_NS)
    monkeypatch.setattr("lorch_actors.storage.snapshots.time", clock)


def cache_file(root):
    return root / "state/stat_cache.cbor"


def take(root):
    cache = StatCache.load(cache_file(root))
    snapshot = capture(root, ["src"], [], cache)
    cache.save()
    return snapshot


def test_unchanged_files_are_not_read_again(root, an_hour_later):
    """The second capture reads nothing and says the same."""
    first = take(root)
    second = take(root)

    assert (first.files_read, second.files_read) == (2, 0)
    assert first.snapshot_id == second.snapshot_id


def test_of_an_unchanged_tree_nothing_is_made_anew(root, an_hour_later, monkeypatch):
    """Each file is compared once; neither entries nor the id over them are made: it has the id that it had."""
    (root / "src/link").symlink_to("a")
    first = take(root)
    seen = []
    monkeypatch.setattr(snapshots, "fingerprint", lambda found: seen.append(1) or fingerprint(found))
    monkeypatch.setattr(snapshots, "snapshot_id", lambda _: pytest.fail("made anew"))
    second = take(root)

    assert (second, len(seen)) == (msgspec.structs.replace(first, files_read=0), 2)


def test_another_link_is_another_tree(root, an_hour_later):
    """Links are remembered by what they say, and an id only for exactly what was found."""
    (root / "src/link").symlink_to("a")
    first = take(root)
    (root / "src/link").unlink()
    (root / "src/link").symlink_to("b")
    second = take(root)
    (root / "src/link").unlink()
    third = take(root)

    assert len({first.snapshot_id, second.snapshot_id, third.snapshot_id}) == 3
    assert (second.files_read, third.files_read) == (0, 0)
    assert third.snapshot_id == capture(root, ["src"]).snapshot_id


def test_a_clock_that_was_set_back_makes_known_files_racy(root, an_hour_later, monkeypatch):
    """What was known is not read again, but forgotten: by that clock it could still change under the same times."""
    first = take(root)
    monkeypatch.setattr("lorch_actors.storage.snapshots.time", time)
    set_back = take(root)

    assert (set_back.files_read, set_back.snapshot_id) == (0, first.snapshot_id)
    assert take(root).files_read == 2


def test_young_files_are_read_again(root):
    """A file written just before its capture could change once more within the same tick: it is not remembered."""
    take(root)

    assert take(root).files_read == 2


def test_a_change_of_the_same_size_with_its_mtime_set_back(root, an_hour_later):
    """An agent that restores the mtime cannot restore the ctime."""
    first = take(root)
    path = root / "src/a"
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text("x" * 100)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = take(root)

    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert second.files_read == 1
    assert first.snapshot_id != second.snapshot_id


def test_a_file_replaced_by_another_of_the_same_size_and_time(root, an_hour_later):
    """A rename over a file is a change, though size and mtime are equal."""
    first = take(root)
    before = (root / "src/a").stat()
    (root / "src/new").write_text("y" * 100)
    os.utime(root / "src/new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(root / "src/new", root / "src/a")

    assert first.snapshot_id != take(root).snapshot_id


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2] + b"\xff" + content[len(content) // 2 + 1 :],
        lambda content: b"\x81" * 5000,
        lambda content: b"\xa1\x66format\x02",
        lambda content: b"\xf6",
    ],
    ids=["empty", "cut", "flipped", "nested", "other format", "null"],
)
def test_a_damaged_cache_is_ignored(root, an_hour_later, damage):
    """Whatever stands in the file, the capture reads everything, is right, and writes a good cache."""
    first = take(root)
    cache_file(root).write_bytes(damage(cache_file(root).read_bytes()))
    again = take(root)

    assert (again.files_read, again.snapshot_id) == (2, first.snapshot_id)
    assert take(root).files_read == 0


def test_an_unchanged_cache_is_not_written(root, an_hour_later, monkeypatch):
    """A capture that learns nothing new costs no sync."""
    take(root)
    monkeypatch.setattr(disk, "sync_file", lambda fd: pytest.fail("written"))

    take(root)


def test_vanished_files_leave_the_cache(root, an_hour_later):
    """The cache holds what the last capture saw and nothing else."""
    take(root)
    (root / "src/a").unlink()
    take(root)

    assert list(StatCache.load(cache_file(root)).found.records) == ["src/b"]


def test_names_that_are_not_utf8_are_remembered(root, an_hour_later):
    """Any name the file system allows goes through the cache."""
    with open(os.fsencode(root / "src") + b"/\xff\n%", "w"):
        pass
    take(root)

    assert take(root).files_read == 0


@pytest.mark.parametrize(
    ("age_ns", "on_whole_second", "racy"),
    [(-1, False, True), (49_000_000, False, True), (51_000_000, False, False), (1, True, True), (0, True, True)],
)
def test_how_young_is_too_young(age_ns, on_whole_second, racy):
    """Fifty milliseconds, or two seconds where the file system counts in whole seconds."""
    started = 1_767_323_045_000_000_000
    stamp = started - 10**9 if on_whole_second else started - age_ns
    found = os.stat_result((0,) * 10 + (0.0, 0.0, 0.0, 0, stamp, stamp))

    assert is_racy(found, started) is racy
