"""Opening beneath the workspace what others name."""

import errno
import os
import pickle
import socket

import pytest

from lorch_actors.errors import PathRefused, StorageError
from lorch_actors.storage.paths import (
    MAX_DEPTH,
    MAX_HOPS,
    Refusal,
    RefusedPath,
    components,
    open_beneath,
)


@pytest.fixture
def root(tmp_path):
    """Return a workspace with one file, beside a secret that must not be reached."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / "src" / "a.py").write_bytes(b"inside")
    return tmp_path / "tree"


def content(root, path):
    """Return what is read beneath the root at that path."""
    fd = open_beneath(root, path)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def refusal(function, *args):
    """Return why a path is refused; also that no descriptor was left open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RefusedPath) as caught:
        function(*args)
    assert len(os.listdir("/proc/self/fd")) == before
    return caught.value.reason


@pytest.mark.parametrize("path", ["src/a.py", "./src/a.py", "src//a.py", "src/./a.py"])
def test_a_file_inside_is_opened(root, path):
    """A relative path to a regular file below the root opens it, and no child inherits it."""
    before = len(os.listdir("/proc/self/fd"))

    fd = open_beneath(root, path)

    assert os.read(fd, 100) == b"inside"
    assert os.get_inheritable(fd) is False
    assert len(os.listdir("/proc/self/fd")) == before + 1
    os.close(fd)


def test_the_root_may_be_a_descriptor(root):
    """A directory's descriptor serves as the root, and stays open."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    assert content(fd, "src/a.py") == b"inside"
    assert content(fd, "src/a.py") == b"inside"
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", Refusal.EMPTY),
        (".", Refusal.EMPTY),
        ("./", Refusal.EMPTY),
        ("/etc/passwd", Refusal.ABSOLUTE),
        ("..", Refusal.UPWARDS),
        ("../secret", Refusal.UPWARDS),
        ("src/../../secret", Refusal.UPWARDS),
        ("src/../src/a.py", Refusal.UPWARDS),
        ("src/a.py\0.txt", Refusal.NUL),
        ("src/\ud800", Refusal.NOT_TEXT),
        ("src/b.py", Refusal.MISSING),
        ("absent/b.py", Refusal.MISSING),
        ("src/a.py/b.py", Refusal.MISSING),
        ("x" * 300, Refusal.MISSING),
        ("src", Refusal.NOT_REGULAR),
        ("/".join("d" * 5000), Refusal.MISSING),
    ],
)
def test_a_path_that_is_none_is_refused(root, path, reason):
    """Absolute, empty, upward and impossible paths are refused with their reason; what is absent is said to be."""
    assert refusal(open_beneath, root, path) == reason


def test_what_is_no_regular_file_is_refused_at_once(root):
    """FIFOs, sockets and devices are refused without waiting for their other end."""
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(root / "socket"))

        assert refusal(open_beneath, root, "socket") == Refusal.NOT_REGULAR
    assert refusal(open_beneath, root, "fifo") == Refusal.NOT_REGULAR


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("link.py", "src/a.py"),
        ("link.py", "./src//a.py"),
        ("src/link.py", "../src/a.py"),
        ("src/link.py", "../src/../src/a.py"),
        ("link", "src"),
        ("src/self", "."),
    ],
)
def test_a_link_that_stays_inside_is_followed(root, link, target):
    """Links within the workspace work as they do elsewhere, at the end of a path and in its middle."""
    (root / link).symlink_to(target)

    path = link if link.endswith(".py") else f"{link}/a.py"
    assert content(root, path) == b"inside"


def test_an_absolute_link_that_stays_inside_is_followed(root):
    """An absolute link to a place in the workspace is followed, also when the root was named through a link."""
    (root / "link.py").symlink_to(root / "src" / "a.py")
    (root.parent / "other-name").symlink_to(root)
    (root / "link2.py").symlink_to(root.parent / "other-name" / "src" / "a.py")

    assert content(root, "link.py") == b"inside"
    assert content(root.parent / "other-name", "link2.py") == b"inside"


@pytest.mark.parametrize("target", ["../secret", "../tree/../secret", "src/../../secret", "..", "../tree/src/a.py"])
def test_a_link_that_leaves_is_refused(root, target):
    """A link that leads out is refused, even if it leads back in: what lies outside could change its way."""
    (root / "link").symlink_to(target)

    assert refusal(open_beneath, root, "link") == Refusal.LEAVES
    assert refusal(open_beneath, root, "link/secret") == Refusal.LEAVES


def test_an_absolute_link_that_leaves_is_refused(root):
    """Absolute links lead out, also those that only begin like the root."""
    (root / "a").symlink_to(root.parent / "secret")
    (root / "b").symlink_to(f"{root}/../secret")
    (root / "c").symlink_to(f"{root}-other")
    (root / "d").symlink_to("/")

    reasons = [refusal(open_beneath, root, path) for path in ("a", "b", "c", "d/etc/passwd")]

    assert reasons == [Refusal.LEAVES] * 4
    assert (root.parent / "secret").read_bytes() == b"secret"


def test_a_loop_of_links_ends(root):
    """Links that lead to each other are given up, as the kernel does."""
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")

    assert refusal(open_beneath, root, "a") == Refusal.TOO_MANY_LINKS


def test_as_many_links_as_the_kernel_follows(root):
    """A chain of 40 links is followed, one of 41 is not."""
    target = "src/a.py"
    for number in range(MAX_HOPS + 1):
        (root / f"l{number}").symlink_to(target)
        target = f"l{number}"

    assert content(root, f"l{MAX_HOPS - 1}") == b"inside"
    assert refusal(open_beneath, root, f"l{MAX_HOPS}") == Refusal.TOO_MANY_LINKS


def test_depth_is_bounded(root):
    """A tree deeper than the bound is refused before it uses up descriptors."""
    deep = root
    for _ in range(MAX_DEPTH + 5):
        deep = deep / "d"
        deep.mkdir()

    assert refusal(open_beneath, root, "/".join(["d"] * (MAX_DEPTH + 5))) == Refusal.TOO_DEEP


def test_a_directory_swapped_for_a_link_during_the_walk_is_not_followed(root, monkeypatch):
    """What is replaced between looking and opening does not lead out: there is no such moment."""
    opener = os.open

    def swapping(path, flags, mode=0o777, *, dir_fd=None):
        if path == "src":
            (root / "src").rename(root / "away")
            (root / "src").symlink_to("..")
        return opener(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)

    with pytest.raises(RefusedPath) as caught:
        open_beneath(root, "src/secret")
    assert caught.value.reason == Refusal.LEAVES


def test_a_file_that_may_not_be_read_is_refused(root, monkeypatch):
    """Missing permission is told as such."""
    opener = os.open

    def forbidding(path, flags, mode=0o777, *, dir_fd=None):
        if path == "a.py":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opener(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", forbidding)

    with pytest.raises(RefusedPath, match="permission denied"):
        open_beneath(root, "src/a.py")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOSPC])
def test_a_broken_disk_is_not_the_paths_fault(root, monkeypatch, number):
    """When the disk or the machine is at fault, it is a StorageError: the agent is not blamed."""
    opener = os.open

    def failing(path, flags, mode=0o777, *, dir_fd=None):
        if path == "a.py":
            raise OSError(number, os.strerror(number))
        return opener(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", failing)

    with pytest.raises(StorageError):
        open_beneath(root, "src/a.py")


def test_a_missing_root_is_a_storage_error(tmp_path):
    """A workspace that is gone is not the path's fault either."""
    with pytest.raises(StorageError, match="cannot open the workspace"):
        open_beneath(tmp_path / "absent", "a")


def test_components_are_the_names_alone():
    """Dots and doubled slashes say nothing and are left out."""
    assert components("./a//b/./c") == ["a", "b", "c"]


def test_a_refusal_survives_a_process_border():
    """The error keeps its reason and path when it is sent to another process."""
    error = pickle.loads(pickle.dumps(RefusedPath(Refusal.LEAVES, "a/b")))

    assert (type(error), error.reason, error.where) == (RefusedPath, Refusal.LEAVES, "a/b")
    assert isinstance(error, PathRefused)
