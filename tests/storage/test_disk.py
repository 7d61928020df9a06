"""The one layer through which durable bytes reach the disk."""

import errno
import os
import stat

import pytest

from lorch_actors.errors import ExitCode, StorageError
from lorch_actors.storage import disk


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens through the layer; all is closed at the end of the test."""
    fds = []

    def opening(function, *args):
        fds.append(function(*args))
        return fds[-1]

    yield opening
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("function", [disk.open_append, disk.create])
def test_files_are_made_for_their_owner_only_and_not_inherited(tmp_path, opened, function):
    """What we create has mode 0600, and no child gets its descriptor."""
    fd = opened(function, tmp_path / "new")

    assert mode(tmp_path / "new") == 0o600
    assert os.get_inheritable(fd) is False


def test_appending_starts_at_the_end(tmp_path, opened):
    """A file opened for appending keeps what is in it."""
    (tmp_path / "file").write_bytes(b"one")

    disk.write(opened(disk.open_append, tmp_path / "file"), b"two")

    assert (tmp_path / "file").read_bytes() == b"onetwo"


def test_creating_over_something_is_refused(tmp_path):
    """An existing file is neither opened nor changed by create."""
    (tmp_path / "file").write_bytes(b"one")

    with pytest.raises(StorageError, match="something is already there"):
        disk.create(tmp_path / "file")


@pytest.mark.parametrize("function", [disk.open_append, disk.open_read])
def test_a_fifo_where_a_file_belongs_does_not_hang(tmp_path, function):
    """Opening what is not a regular file is refused at once."""
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(StorageError, match="not a regular file"):
        function(tmp_path / "fifo")


@pytest.mark.parametrize("function", [disk.open_append, disk.open_read])
def test_a_link_where_a_file_belongs_is_not_followed(tmp_path, function):
    """Our own files are never reached through a symbolic link."""
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link").symlink_to("target")

    with pytest.raises(StorageError, match="symbolic link") as caught:
        function(tmp_path / "link")

    assert caught.value.where == str(tmp_path / "link")


def test_short_writes_are_completed(tmp_path, opened, monkeypatch):
    """All bytes are written, however few the kernel takes at a time."""
    write = os.write
    fd = opened(disk.create, tmp_path / "file")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))

    disk.write(fd, bytearray(b"0123456789"))
    disk.write(fd, memoryview(b"abc"))

    assert (tmp_path / "file").read_bytes() == b"0123456789abc"


def test_a_write_that_takes_nothing_ends(tmp_path, opened, monkeypatch):
    """A disk that accepts nothing and reports nothing is an error, not an endless loop."""
    fd = opened(disk.create, tmp_path / "file")
    monkeypatch.setattr(os, "write", lambda *_: 0)

    with pytest.raises(StorageError, match="input/output error"):
        disk.write(fd, b"x")


def test_write_when_the_disk_is_full(opened):
    """A full disk is told as such, with the file and what to do, and is resumable."""
    fd = opened(os.open, "/dev/full", os.O_WRONLY)

    with pytest.raises(StorageError) as caught:
        disk.write(fd, b"x")

    remedy = "Free some space; `lorch resume` then goes on with a run that has begun."
    assert str(caught.value) == f"/dev/full: cannot write: the disk is full\n  {remedy}"
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
        (errno.EACCES, "permission denied"),
        (errno.EMFILE, "too many files"),
        (errno.ETXTBSY, "busy"),
    ],
)
@pytest.mark.parametrize(
    ("call", "deed"),
    [("fsync", disk.sync_file), ("fdatasync", disk.sync_data), ("ftruncate", lambda fd: disk.truncate(fd, 0))],
)
def test_every_refusal_becomes_a_sentence(tmp_path, opened, monkeypatch, number, words, call, deed):
    """Whatever errno the kernel gives, a StorageError says it in words and names the file."""
    fd = opened(disk.create, tmp_path / "file")
    monkeypatch.setattr(os, call, _refusing(number))

    with pytest.raises(StorageError, match=words) as caught:
        deed(fd)

    assert caught.value.where == str(tmp_path / "file")
    assert caught.value.remedy


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_may_not_be_written_is_wrong_usage(tmp_path, monkeypatch, number):
    """Unlike a full disk, it is no interruption: trying again later changes nothing."""
    monkeypatch.setattr(os, "mkdir", _refusing(number))

    with pytest.raises(StorageError) as caught:
        disk.make_directory(tmp_path / "d")

    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "deed",
    [
        lambda path: disk.open_append(path / "absent" / "file"),
        lambda path: disk.create(path / "absent" / "file"),
        lambda path: disk.open_read(path / "absent"),
        lambda path: disk.sync_directory(path / "absent"),
        lambda path: disk.replace(path / "absent", path / "other"),
        lambda path: disk.tighten(path / "absent"),
    ],
)
def test_what_is_absent_is_named(tmp_path, deed):
    """A missing file or directory is a StorageError with its path, not a bare OSError."""
    with pytest.raises(StorageError, match="no such file") as caught:
        deed(tmp_path)

    assert caught.value.where.startswith(str(tmp_path))


def test_removing_what_is_gone_is_fine(tmp_path):
    """Unlink leaves nothing behind and does not mind if nothing was there."""
    (tmp_path / "file").write_bytes(b"")

    disk.unlink(tmp_path / "file")
    disk.unlink(tmp_path / "file")

    assert list(tmp_path.iterdir()) == []


def test_removing_a_directory_is_refused(tmp_path):
    """Unlink removes files only."""
    with pytest.raises(StorageError, match="cannot remove"):
        disk.unlink(tmp_path)


def test_directories_are_made_private_with_their_parents(tmp_path, monkeypatch):
    """New directories and missing parents have mode 0700 and their names are synced; existing ones keep theirs."""
    tmp_path.chmod(0o755)
    synced = []
    sync = disk.sync_directory
    monkeypatch.setattr(disk, "sync_directory", lambda path: (synced.append(os.fspath(path)), sync(path)))

    disk.make_directory(tmp_path / "a" / "b")
    disk.make_directory(tmp_path / "a" / "b")

    assert [mode(p) for p in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")] == [0o755, 0o700, 0o700]
    assert synced == [str(tmp_path), str(tmp_path / "a")]


@pytest.mark.parametrize("place", ["file", "file/below", "dangling"])
def test_a_file_in_the_place_of_a_directory_is_named(tmp_path, place):
    """What stands where a directory has to be is told, not overwritten."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")

    with pytest.raises(StorageError, match="cannot make the directory"):
        disk.make_directory(tmp_path / place)


def test_reading_a_whole_file(tmp_path):
    """A file up to the limit is returned, one byte more is refused, and an absent one is None."""
    (tmp_path / "file").write_bytes(b"x" * 100)

    assert disk.read_file(tmp_path / "file", 100) == b"x" * 100
    assert disk.read_file(tmp_path / "absent", 100) is None
    with pytest.raises(StorageError, match="larger than 99 bytes"):
        disk.read_file(tmp_path / "file", 99)


def test_a_failed_opening_leaves_no_descriptor(tmp_path):
    """What is opened and then found to be no regular file is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StorageError):
            disk.open_read(tmp_path)

    assert len(os.listdir("/proc/self/fd")) == before


def _refusing(number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse
