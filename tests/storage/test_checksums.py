"""Checksums, and whether files are what was claimed."""

import hashlib
import os
import tracemalloc

import pytest

from lorch_actors.errors import FailureCode, StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.checksums import checksum_of, hash_file, hash_open_file, verify_file

LIMIT = 1 << 30


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    return tmp_path


def verified(root, path="a.txt", checksum=None, size=5, limit_bytes=LIMIT):
    return verify_file(root, path, checksum or checksum_of(b"hello"), size, limit_bytes=limit_bytes)


def test_checksums_have_one_form():
    """A checksum is `sha256:` and 64 hex digits of SHA-256."""
    assert checksum_of(b"hello") == "sha256:" + hashlib.sha256(b"hello").hexdigest()


def test_a_file_is_hashed_with_its_size(root):
    """Hashing a file gives checksum and size, also for an empty one."""
    (root / "empty").write_bytes(b"")

    assert hash_file(root / "a.txt") == (checksum_of(b"hello"), 5)
    assert hash_file(root / "empty") == (checksum_of(b""), 0)


def test_a_large_file_is_hashed_in_constant_memory(root):
    """Memory does not grow with the file."""
    with (root / "large").open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    tracemalloc.start()

    _, size = hash_file(root / "large")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 32 * 1024 * 1024
    assert peak < 4 * 1024 * 1024


def test_hashing_stops_at_its_limit(root):
    """No more is read than asked for."""
    fd = disk.open_read(root / "a.txt")

    assert hash_open_file(fd, 3) == (checksum_of(b"hel"), 3)
    os.close(fd)


def test_a_true_claim_has_nothing_against_it(root):
    """A file that is just as claimed gives no mismatch."""
    assert verified(root) is None


@pytest.mark.parametrize(
    ("claim", "code", "words"),
    [
        ({"path": "b.txt"}, FailureCode.ARTIFACT_MISMATCH, "b.txt: the file does not exist"),
        ({"path": "../a.txt"}, FailureCode.ARTIFACT_MISMATCH, "contains '..'"),
        ({"path": "/etc/passwd"}, FailureCode.ARTIFACT_MISMATCH, "absolute"),
        ({"path": "."}, FailureCode.ARTIFACT_MISMATCH, "empty"),
        ({"path": "directory"}, FailureCode.ARTIFACT_MISMATCH, "not a regular file"),
        ({"path": "fifo"}, FailureCode.ARTIFACT_MISMATCH, "not a regular file"),
        ({"path": "out"}, FailureCode.ARTIFACT_MISMATCH, "leaves the workspace"),
        ({"size": 4}, FailureCode.ARTIFACT_MISMATCH, "a.txt has 5 bytes, claimed are 4"),
        ({"size": 6}, FailureCode.ARTIFACT_MISMATCH, "a.txt has 5 bytes, claimed are 6"),
        ({"checksum": checksum_of(b"other")}, FailureCode.ARTIFACT_MISMATCH, f"claimed is {checksum_of(b'other')}"),
        ({"checksum": "none"}, FailureCode.ARTIFACT_MISMATCH, "claimed is none"),
        ({"limit_bytes": 4}, FailureCode.ARTIFACT_TOO_LARGE, "at most 4 are accepted"),
    ],
)
def test_a_false_claim_is_told(root, claim, code, words):
    """Absent, elsewhere, of another kind, size or content, or too large: each is a value that says so."""
    (root / "directory").mkdir()
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to("/etc/passwd")

    mismatch = verified(root, **claim)

    assert (mismatch.code, mismatch.path) == (code, claim.get("path", "a.txt"))
    assert words in mismatch.message


def test_a_file_that_grows_while_it_is_read_is_a_mismatch(root, monkeypatch):
    """A file without end does not keep the check from ending."""
    reading = disk.read

    def growing(fd, size_bytes):
        with (root / "a.txt").open("ab") as file:
            file.write(b"more")
        return reading(fd, size_bytes)

    monkeypatch.setattr(disk, "read", growing)

    assert "a.txt has 6 bytes, claimed are 5" in verified(root).message


def test_a_read_error_is_no_mismatch(root, monkeypatch):
    """A broken disk is a StorageError: nobody's claim was wrong."""
    monkeypatch.setattr(os, "read", _broken)

    with pytest.raises(StorageError, match="input/output error"):
        verified(root)


def test_checking_leaves_no_descriptor(root):
    """Neither true nor false claims use up descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    for claim in ({}, {"size": 4}, {"path": "b.txt"}, {"limit_bytes": 1}):
        verified(root, **claim)

    assert len(os.listdir("/proc/self/fd")) == before


def _broken(*_):
    raise OSError(5, "Input/output error")
