"""The stat cache saves reading, and never changes what a snapshot says."""

import hashlib
import os
import time
from types import SimpleNamespace

import cbor2
import msgspec
import pytest

from lorch_actors.storage import disk, snapshots
from lorch_actors.storage.file_records import MARK_BYTES, Listing, fingerprint, is_racy
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


def sealed(document):
    """Return a document under the right checksum, as a bug of ours could write it."""
    body = cbor2.dumps(document)
    return b"lorch-stat-cache 2 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


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


@pytest.mark.parametrize("large_from", [snapshots.LARGE_BYTES, 1])
def test_of_an_unchanged_tree_nothing_is_made_anew(root, an_hour_later, monkeypatch, large_from):
    """Each file is looked at once; neither entries nor the id over them are made: it has the id that it had.

    Also where some files were put off when they were read: they stand where the file system tells them.
    """
    monkeypatch.setattr(snapshots, "LARGE_BYTES", large_from)
    for number in range(8):
        (root / f"src/{number}").write_text("")
    (root / "src/link").symlink_to("a")
    first = take(root)
    seen = []
    monkeypatch.setattr(snapshots, "fingerprint", lambda found: seen.append(1) or fingerprint(found))
    monkeypatch.setattr(snapshots, "snapshot_id", lambda _: pytest.fail("made anew"))
    second = take(root)

    assert (second, len(seen)) == (msgspec.structs.replace(first, files_read=0), 10)


def test_in_a_directory_that_changed_only_what_changed_is_read(root, an_hour_later):
    """A new file, a changed one, one that is gone: what is beside them is known."""
    take(root)
    (root / "src/new").write_text("new")
    added = take(root)
    (root / "src/a").write_text("changed")
    changed = take(root)
    (root / "src/b").unlink()
    removed = take(root)

    assert [one.files_read for one in (added, changed, removed)] == [1, 1, 0]
    assert [entry.path for entry in removed.entries] == ["src/a", "src/new"]
    assert removed.snapshot_id == capture(root, ["src"]).snapshot_id


def test_a_directory_that_became_empty(root, an_hour_later):
    """Nothing is known of it any more."""
    take(root)
    for name in ("a", "b"):
        (root / "src" / name).unlink()

    assert (take(root).entries, take(root).snapshot_id) == ((), capture(root, []).snapshot_id)


@pytest.mark.parametrize("include", [["src", "src/b"], ["src/b", "src"], ["src/b"]])
def test_files_that_are_included_by_name_are_known_too(root, an_hour_later, include):
    """Alone, or before or after their directory."""
    cache = StatCache(cache_file(root))
    first = capture(root, include, [], cache)
    second = capture(root, include, [], cache)

    assert second == msgspec.structs.replace(first, files_read=0)


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
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() - HOUR_NS)
    monkeypatch.setattr("lorch_actors.storage.snapshots.time", clock)
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
        lambda content: sealed([]),
        lambda content: sealed([[[b"src/", b"a", b"m" * MARK_BYTES, b""]], [], ""]),
        lambda content: sealed([[[b"src/", 7, b"", b""]], [], ""]),
        lambda content: sealed([[], [[b"src/l", {}]], ""]),
    ],
    ids=["empty", "cut", "flipped", "nested", "other format", "null", "nothing", "no digest", "no name", "no link"],
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

    assert [one.path for one in StatCache.load(cache_file(root)).found.entries()] == ["src/b"]


def test_names_that_are_not_utf8_are_remembered(root, an_hour_later):
    """Any name the file system allows goes through the cache."""
    with open(os.fsencode(root / "src") + b"/\xff\n%", "w"):
        pass
    take(root)

    assert take(root).files_read == 0


def test_names_that_change_places_are_a_change():
    """Also on a file system where a rename leaves no trace on the files."""
    listing = Listing.of({"a": (b"m" * MARK_BYTES, b"d" * 32), "b": (b"n" * MARK_BYTES, b"e" * 32)})
    marks = [b"m" * MARK_BYTES, b"n" * MARK_BYTES]

    assert listing.is_of(["a", "b"], marks)
    assert not listing.is_of(["b", "a"], marks)


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
