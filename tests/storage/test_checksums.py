"""Checksums, and whether files are what was claimed."""

import os
import tracemalloc

import pytest

from lorch_actors.protocol.checksums import checksum
from lorch_actors.storage import disk
from lorch_actors.storage.checksums import hash_file, hash_open_file


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    return tmp_path


def test_checksums_have_one_form():
    """A checksum is `sha256:` and 64 hex digits of SHA-256 (NIST's vector for "abc")."""
    assert checksum(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_hashed_with_its_size(root):
    """Hashing a file gives checksum and size, also for an empty one."""
    (root / "empty").write_bytes(b"")

    assert hash_file(root / "a.txt") == (checksum(b"hello"), 5)
    assert hash_file(root / "empty") == (checksum(b""), 0)


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

    assert hash_open_file(fd, 3) == (checksum(b"hel"), 3)
    os.close(fd)


def test_hashing_a_large_file_gives_signs_of_life(root):
    """Whoever waits hears something every 16 MiB."""
    with (root / "large").open("wb") as file:
        file.truncate(33 * 1024 * 1024)
    signs = []
    fd = disk.open_read(root / "large")

    hash_open_file(fd, on_progress=lambda: signs.append(1))

    os.close(fd)
    assert len(signs) == 2
