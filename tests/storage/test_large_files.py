"""Large files are hashed side by side, and tell that they go on."""

import threading

import pytest

from lorch_actors.storage import large_files
from lorch_actors.storage.large_files import Hashes, LargeFile

PATIENCE_S = 10.0


def files(count):
    return [LargeFile(-1, "src/", f"f{number}", b"") for number in range(count)]


def test_hashes_come_in_the_order_of_the_files():
    """Whoever is ready first."""
    hashes = Hashes(lambda file, _: file.name.encode(), lambda: None)

    assert hashes.of(files(5)) == [b"f0", b"f1", b"f2", b"f3", b"f4"]


def test_two_files_are_hashed_at_the_same_time(monkeypatch):
    """Each waits for the other to have begun."""
    monkeypatch.setattr(large_files, "_THREADS", 2)
    both = threading.Barrier(2)
    hashes = Hashes(lambda *_: both.wait(PATIENCE_S).to_bytes(), lambda: None)

    assert sorted(hashes.of(files(2))) == [b"\0", b"\1"]


def test_progress_is_told_as_pieces_are_read(monkeypatch):
    """By the thread that waits, and not without a piece: a disk that hangs is no progress."""
    monkeypatch.setattr(large_files, "_LOOK_S", 0.01)
    told = threading.Event()
    tellers = []

    def digest(_, on_piece):
        on_piece()
        assert told.wait(PATIENCE_S)
        return b""

    def on_progress():
        tellers.append(threading.current_thread())
        told.set()

    Hashes(digest, on_progress).of(files(1))
    assert tellers == [threading.current_thread()]


def test_what_a_hash_raises_is_raised():
    """A file that cannot be read is told as one that is read at once."""

    def digest(*_):
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        Hashes(digest, lambda: None).of(files(3))
