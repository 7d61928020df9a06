"""A snapshot says what the tracked files hold, and stands everything that lies around in a directory."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.errors import PathRefused, SnapshotError
from lorch_actors.storage import file_content, manifests, snapshots
from lorch_actors.storage.manifests import TrackedFile, TrackedLink, snapshot_id, written_name
from lorch_actors.storage.snapshots import capture
from lorch_actors.storage.stat_cache import StatCache

INCLUDE = ["specs", "src", "tests", "docs"]


def put(root: Path, files: dict[str, str]):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def root(tmp_path):
    put(tmp_path, {"src/b": "b", "src/a/c": "c", "src/a.py": "a", "docs/d": "d", "other/x": "x"})
    return tmp_path


def paths(snapshot):
    return [entry.path for entry in snapshot.entries]


def test_tracked_files_with_size_and_checksum_in_byte_order(root):
    """Files below the included directories, sorted by their path bytes: '.' comes before '/'."""
    snapshot = capture(root, INCLUDE)

    assert paths(snapshot) == ["docs/d", "src/a.py", "src/a/c", "src/b"]
    assert snapshot.entries[0] == TrackedFile(
        "docs/d", "sha256:" + hashlib.sha256(b"d").hexdigest(), 1, (root / "docs/d").stat().st_mtime_ns
    )
    assert (snapshot.files, snapshot.links, snapshot.size_bytes, snapshot.files_read) == (4, 0, 4, 4)


def test_equal_content_gives_an_equal_id(root, tmp_path_factory):
    """Times, inodes, places and the order of creation do not enter the id."""
    other = tmp_path_factory.mktemp("other")
    put(other, {"docs/d": "d", "src/a.py": "a", "src/b": "b", "src/a/c": "c"})
    os.utime(other / "src/b", ns=(1, 1))

    assert capture(root, INCLUDE).snapshot_id == capture(other, reversed(INCLUDE)).snapshot_id


@pytest.mark.parametrize("change", ["content", "name", "new", "gone", "link"])
def test_every_change_of_content_changes_the_id(root, change):
    """Content, names, links and what is there enter the id."""
    before = capture(root, INCLUDE).snapshot_id
    match change:
        case "content":
            put(root, {"src/b": "x"})
        case "name":
            (root / "src/b").rename(root / "src/bb")
        case "new":
            put(root, {"src/new": ""})
        case "gone":
            (root / "src/b").unlink()
        case "link":
            (root / "src/link").symlink_to("b")

    assert capture(root, INCLUDE).snapshot_id != before


def test_hidden_files_and_what_tools_leave_are_skipped(root):
    """Hidden names, caches and dependencies are not tracked at any depth; the same names as ours below the root are."""
    before = capture(root, INCLUDE).snapshot_id
    put(root, {f"src/a/{name}/x": "x" for name in (".git", "node_modules", ".cache", "__pycache__", ".hidden")})
    put(root, {"src/.env": "x"})
    (root / "src/.link").symlink_to("b")
    assert capture(root, INCLUDE).snapshot_id == before

    put(root, {"src/logs/x": "x"})
    assert "src/logs/x" in paths(capture(root, INCLUDE))


def test_including_everything_leaves_our_own_directories_out(root):
    """The root itself can be included; the ledger and its like are not tracked."""
    put(root, {"events/r.ndjson": "", "state/run.json": "", "reviews/T.json": ""})

    assert paths(capture(root, ["."])) == ["docs/d", "other/x", "src/a.py", "src/a/c", "src/b"]
    assert paths(capture(root, ["events", "state/run.json"])) == []


def test_overlapping_includes_count_once(root):
    """A file reached twice is one file."""
    assert paths(capture(root, ["src", "./src/a/", "src/b"])) == ["src/a.py", "src/a/c", "src/b"]


def test_what_is_included_twice_and_replaced_in_between_is_one_thing(root, monkeypatch):
    """A file that was a link, or a link that was a file, when it was met first."""
    opened = []

    def replace_at_the_second():
        opened.append(1)
        if len(opened) == 2:
            (root / "src/b").unlink()
            (root / "src/b").symlink_to("a.py")

    before_opening(monkeypatch, "src", replace_at_the_second)

    snapshot = capture(root, ["src", "src/b"])

    assert paths(snapshot) == ["src/a.py", "src/a/c", "src/b"]
    assert (snapshot.files, snapshot.links) == (3, 0)


@pytest.mark.parametrize("path", ["/etc", "../x", "src/../../x", "a\0b"])
def test_an_include_outside_the_workspace_is_refused(root, path):
    """Absolute paths and those that climb are refused."""
    with pytest.raises(PathRefused):
        capture(root, [path])


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.py", ["docs/d", "src/a/c", "src/b"]),
        ("a", ["docs/d", "src/a.py", "src/b"]),
        ("src/a/", ["docs/d", "src/a.py", "src/b"]),
        ("src/*", ["docs/d"]),
        ("c", ["docs/d", "src/a.py", "src/b"]),
        ("nothing/at/all", ["docs/d", "src/a.py", "src/a/c", "src/b"]),
    ],
)
def test_excluded_patterns(root, pattern, left):
    """A pattern without a slash matches a name anywhere, one with a slash a path, and all that is below."""
    assert paths(capture(root, INCLUDE, [pattern])) == left


def test_links_are_recorded_and_never_followed(root, tmp_path_factory):
    """Dangling, circular, to directories, out of the workspace: a link is the text it holds."""
    outside = tmp_path_factory.mktemp("outside")
    put(outside, {"secret": "s"})
    targets = {"dangling": "nowhere", "self": "self", "up": "..", "out": str(outside), "file": "b"}
    for name, target in targets.items():
        (root / "src" / f"l-{name}").symlink_to(target)

    found = {e.path: e.link for e in capture(root, INCLUDE).entries if isinstance(e, TrackedLink)}

    assert found == {f"src/l-{name}": target for name, target in targets.items()}


def test_an_included_directory_that_is_a_link_is_not_entered(root):
    """A link in place of src is recorded as a link; what is named below it is not reached through it."""
    (root / "specs").symlink_to("other")

    assert paths(capture(root, ["specs"])) == ["specs"]
    assert paths(capture(root, ["specs/x"])) == []


def test_sockets_fifos_and_devices_are_skipped_and_listed(root):
    """What would hang or has no content is named and left alone."""
    os.mkfifo(root / "src/fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.open(root / "src", os.O_RDONLY)
        unix.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        snapshot = capture(root, INCLUDE)

    assert [(one.path, one.kind) for one in snapshot.skipped] == [("src/fifo", "fifo"), ("src/socket", "socket")]
    assert len(snapshot.entries) == 4


def test_names_that_are_not_utf8_stay_different(root):
    """The byte FF and the text %FF are two files with two entries, and two trees with two ids."""
    directory = os.fsencode(root / "specs")
    os.mkdir(directory)
    ids = set()
    for names in ([b"%FF"], [b"\xff"], [b"%FF", b"\xff", b"50%\xe4", "\uff5e\U0001f600".encode()]):
        for old in os.listdir(directory):
            os.unlink(directory + b"/" + old)
        for name in names:
            with open(directory + b"/" + name, "w"):
                pass
        snapshot = capture(root, ["specs"])
        ids.add(snapshot.snapshot_id)

    assert len(ids) == 3
    assert [(e.path, e.encoded) for e in snapshot.entries] == [
        ("specs/%FF", False),
        ("specs/50%25%E4", True),
        ("specs/\uff5e\U0001f600", False),
        ("specs/%FF", True),
    ]


def test_a_link_target_that_is_not_utf8(root):
    """Path and target of such a link are written alike, under one mark."""
    os.symlink(b"100%\xff", os.fsencode(root / "src/%"))
    link = next(entry for entry in capture(root, INCLUDE).entries if isinstance(entry, TrackedLink))

    assert (link.path, link.link, link.encoded) == ("src/%25", "100%25%FF", True)


@given(st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), unique=True, max_size=5))
def test_no_two_names_are_written_alike(names):
    """Name and mark together can be turned back into the bytes."""
    texts = [os.fsdecode(name) for name in names]

    assert len({(written_name(text) or text, written_name(text) is None) for text in texts}) == len(names)
    for text in texts:
        (written_name(text) or text).encode()


entries = st.builds(TrackedFile, st.text(), st.just("sha256:00"), st.integers(0, 2**53 - 1), st.just(0), st.booleans())
links = st.builds(TrackedLink, st.text(), st.text(), st.just(0), st.booleans())


@given(st.lists(entries | links, max_size=4))
def test_the_id_is_over_the_rfc_8785_form(listed):
    """Anyone can recompute the id from a manifest: its entries without mtime, in canonical JSON."""
    objects = []
    for entry in listed:
        said = {"path": entry.path, "encoded": True} if entry.encoded else {"path": entry.path}
        held = {"link": entry.link} if isinstance(entry, TrackedLink) else {"sha256": entry.sha256, "size": entry.size}
        objects.append(said | held)

    assert snapshot_id(listed) == "snap-" + hashlib.sha256(rfc8785.dumps(objects)).hexdigest()[:12]


def test_the_id_of_many_entries_is_that_of_one_list(monkeypatch):
    """Hashing in blocks leaves no seam."""
    listed = [TrackedFile(f"p{at}", "sha256:00", at, 0) for at in range(10)]
    whole = snapshot_id(listed)
    monkeypatch.setattr(manifests, "_ENTRIES_PER_HASH", 3)

    assert snapshot_id(listed) == whole


def before_opening(monkeypatch, name, act):
    """Do something just before what has that name is opened."""
    real = os.open

    def opened(path, *rest, **options):
        if path == name:
            act()
        return real(path, *rest, **options)

    monkeypatch.setattr(snapshots.os, "open", opened)


def deny():
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(("name", "where"), [("c", "src/a/c"), ("a", "src/a")])
def test_an_unreadable_file_or_directory_is_named(root, monkeypatch, name, where):
    """What cannot be read is an error with its path, never left out silently."""
    before_opening(monkeypatch, name, deny)

    with pytest.raises(SnapshotError, match="Permission denied") as caught:
        capture(root, INCLUDE)
    assert caught.value.where == where


def test_what_becomes_another_thing_during_the_walk(root, monkeypatch):
    """A file replaced by a link or a FIFO before it is opened is recorded as what it is."""

    def replace(name, make):
        if not (root / name).is_symlink() and (root / name).is_file():
            (root / name).unlink()
            make(root / name)

    before_opening(monkeypatch, "b", lambda: replace("src/b", lambda path: path.symlink_to("/etc/passwd")))
    before_opening(monkeypatch, "d", lambda: replace("docs/d", os.mkfifo))
    snapshot = capture(root, INCLUDE)

    assert [e.link for e in snapshot.entries if isinstance(e, TrackedLink)] == ["/etc/passwd"]
    assert [(one.path, one.kind) for one in snapshot.skipped] == [("docs/d", "fifo")]
    assert snapshot.files_read == 2  # neither the FIFO nor what the link leads to


@pytest.mark.parametrize(("name", "gone"), [("c", "src/a/c"), ("a", "src/a")])
def test_what_vanishes_during_the_walk_is_not_there(root, monkeypatch, name, gone):
    """A file or directory removed between listing and opening is as if it had never been."""
    before_opening(monkeypatch, name, lambda: os.path.lexists(root / gone) and (root / gone).rename(root / "away"))

    assert paths(capture(root, INCLUDE)) == ["docs/d", "src/a.py", "src/b"]


def change_while_read(monkeypatch, root, times):
    real, left = os.read, [times]

    def read(fd, size):
        content = real(fd, size)
        if content == b"c" or content.startswith(b"changed"):
            if left[0] == 0:
                return content
            left[0] -= 1
            put(root, {"src/a/c": "changed" * (left[0] + 1)})
        return content

    monkeypatch.setattr(snapshots.os, "read", read)


LARGE_OR_NOT = pytest.mark.parametrize("large_from", [snapshots.LARGE_BYTES, 0])


@LARGE_OR_NOT
def test_a_file_that_changes_while_it_is_read_is_read_again(root, monkeypatch, large_from):
    """The snapshot holds the content that stood still, not a mixture."""
    monkeypatch.setattr(snapshots, "LARGE_BYTES", large_from)
    change_while_read(monkeypatch, root, 2)
    snapshot = capture(root, INCLUDE)

    entry = next(e for e in snapshot.entries if e.path == "src/a/c")
    assert (entry.size, entry.sha256) == (7, "sha256:" + hashlib.sha256(b"changed").hexdigest())


@LARGE_OR_NOT
def test_a_file_that_never_stands_still(root, monkeypatch, large_from):
    """Reading again has an end, and the file is named."""
    monkeypatch.setattr(snapshots, "LARGE_BYTES", large_from)
    change_while_read(monkeypatch, root, 1000)

    with pytest.raises(SnapshotError, match="changes all the time") as caught:
        capture(root, INCLUDE)
    assert caught.value.where == "src/a/c"


def test_a_file_larger_than_one_chunk(root, monkeypatch):
    """Large files are read piece by piece and tell that they go on."""
    content = os.urandom(1000)
    (root / "docs/large").write_bytes(content)
    monkeypatch.setattr(file_content, "_CHUNK_BYTES", 7)
    told = []
    snapshot = capture(root, ["docs/large"], on_progress=lambda: told.append(1))

    assert snapshot.entries[0].sha256 == "sha256:" + hashlib.sha256(content).hexdigest()
    assert len(told) == 143 // 64


def test_progress_is_told_in_many_small_directories(root, monkeypatch):
    """Files count wherever they lie: once when they are looked at, and once when they are read."""
    monkeypatch.setattr(snapshots, "_FILES_PER_PROGRESS", 2)
    put(root, {f"docs/{number}/x": "x" for number in range(10)})
    monkeypatch.setattr(snapshots, "is_racy", lambda *_: False)
    cache = StatCache(root / "cache")
    first, second = [], []
    for told in (first, second):
        capture(root, ["docs"], [], cache, lambda told=told: told.append(1))

    assert (len(first), len(second)) == (11, 5)


@pytest.mark.parametrize("waiting_max", [1, 3, 64])
def test_large_files_are_hashed_to_the_same_snapshot(root, monkeypatch, waiting_max):
    """Whether files are read at once or put off, few or many together, and no descriptor is left open."""
    at_once = capture(root, INCLUDE)
    monkeypatch.setattr(snapshots, "LARGE_BYTES", 0)
    monkeypatch.setattr(snapshots, "WAITING_MAX", waiting_max)
    before = len(os.listdir("/proc/self/fd"))
    put_off = capture(root, INCLUDE)

    assert at_once == put_off
    assert before == len(os.listdir("/proc/self/fd"))


def test_directories_nested_without_end(root, monkeypatch):
    """A directory deeper than the bound is an error, not a stack overflow."""
    monkeypatch.setattr(snapshots, "DEPTH_MAX", 5)
    put(root, {"specs/1/2/3/4/x": "x"})
    assert paths(capture(root, ["specs"])) == ["specs/1/2/3/4/x"]

    put(root, {"specs/1/2/3/4/5/x": "x"})
    with pytest.raises(SnapshotError, match="nested more than 5 deep"):
        capture(root, ["specs"])


def test_the_real_depth_bound_can_be_walked(root):
    """As many levels as allowed are walked with the stack and the descriptors a process has."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(snapshots.DEPTH_MAX):
        os.mkdir("specs", dir_fd=here)
        below = os.open("specs", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)

    assert paths(capture(root, ["specs"])) == ["specs/" * snapshots.DEPTH_MAX + "x"]
