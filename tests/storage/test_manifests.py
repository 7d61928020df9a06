"""Manifests on disk, and how two of them differ."""

import json
import os

import msgspec
import pytest

from lorch_actors.errors import SnapshotError
from lorch_actors.protocol.documents import SnapshotManifest
from lorch_actors.storage import manifests
from lorch_actors.storage.manifests import Changes, changes, drift, manifest, read_manifest, write_manifest
from lorch_actors.storage.snapshots import capture

WHEN = "2026-01-02T03:04:05.678Z"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "src" / name).write_text(name)
        os.utime(tmp_path / "src" / name, ns=(0, 1_767_323_045_000_000_007))
    os.symlink("a", tmp_path / "src/link")
    return tmp_path


def now(root):
    return manifest(capture(root, ["src"]), WHEN, str(root))


def test_the_manifest_on_disk_is_the_object(root, monkeypatch):
    """What is written piece by piece is the whole manifest, one entry a line, 0600, and is read back."""
    monkeypatch.setattr(manifests, "_ENTRIES_PER_BLOCK", 3)
    with open(os.fsencode(root / "src") + b"/\xff", "w"):
        pass
    os.mkfifo(root / "src/fifo")
    snapshot = capture(root, ["src"])
    path = root / "snapshots/x.manifest.json"
    write_manifest(path, snapshot, WHEN, str(root))

    expected = manifest(snapshot, WHEN, str(root))
    content = path.read_bytes()
    assert msgspec.json.decode(content, type=SnapshotManifest).snapshot_id == snapshot.snapshot_id
    assert json.loads(content) == expected == read_manifest(path)
    assert content.count(b"\n") == 7
    assert content.endswith(b"]}\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_entry_of_each_kind(root):
    """Files carry checksum, size and a time with nanoseconds; links their target."""
    document = now(root)

    assert document["snapshot_id"].startswith("snap-")
    assert (document["created_at"], document["workspace_root"]) == (WHEN, str(root))
    assert document["files"][0] == {
        "path": "src/a",
        "sha256": "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "size": 1,
        "mtime": "2026-01-02T03:04:05.000000007Z",
    }
    assert {**document["files"][3], "mtime": ""} == {"path": "src/link", "link": "a", "mtime": ""}


def test_an_empty_tree_has_a_manifest(tmp_path):
    """Nothing tracked is a snapshot too."""
    path = tmp_path / "m.json"
    write_manifest(path, capture(tmp_path, ["src"]), WHEN, str(tmp_path))

    assert read_manifest(path)["files"] == []


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"files":[{}]}', b'{"files":3}', b"\xff"])
def test_what_is_no_manifest_is_told(tmp_path, content):
    """An absent or damaged manifest is an error that names the file."""
    path = tmp_path / "m.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SnapshotError) as caught:
        read_manifest(path)
    assert caught.value.where == str(path)


def alter(root):
    (root / "src/a").write_text("x")
    (root / "src/b").unlink()
    (root / "src/d").write_text("d")
    (root / "src/link").unlink()
    os.symlink("c", root / "src/link")
    os.utime(root / "src/c")


def test_changes_between_two_manifests(root):
    """Added, changed and removed paths; a new time alone is no change."""
    old = now(root)
    assert not changes(old, now(root))

    alter(root)

    assert changes(old, now(root)) == Changes(("src/d",), ("src/a", "src/link"), ("src/b",))


def test_drift_is_what_nobody_claimed(root):
    """Paths that a step claimed are expected to differ."""
    old = now(root)
    alter(root)

    assert drift(old, now(root), {"src/d", "src/a"}) == Changes((), ("src/link",), ("src/b",))
