"""The checkpoint: a cache that is ignored when anything is wrong with it."""

import stat

import cbor2
import pytest

from lorch_actors.errors import StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.checkpoint import read_checkpoint, write_checkpoint
from lorch_actors.storage.ledger_format import Position

RUN = "run-20260101-000000-0a1b2c3d"
PLACE = Position(7, "0123456789abcdef", 4711)
STATE = {"tasks": [{"id": "T-1", "rounds": 2, "big": 2**80, "x": 1.5, "none": None, "yes": True}], "text": "é"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.cbor"


def test_what_was_written_is_read(path):
    """State and place come back as they were, from a private file."""
    write_checkpoint(path, RUN, PLACE, STATE)

    assert read_checkpoint(path, RUN) == (PLACE, STATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_absent_checkpoint_is_none(path):
    """Without the file there is nothing to start from."""
    assert read_checkpoint(path, RUN) is None


def test_a_checkpoint_of_another_run_is_none(path):
    """The one checkpoint of a workspace belongs to one run."""
    write_checkpoint(path, RUN, PLACE, STATE)

    assert read_checkpoint(path, "run-20260101-000000-ffffffff") is None


def test_a_checkpoint_cut_or_flipped_anywhere_is_none(path):
    """Every shortened and every flipped version is ignored without an error."""
    write_checkpoint(path, RUN, PLACE, STATE)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert read_checkpoint(path, RUN) is None
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert read_checkpoint(path, RUN) is None
    path.write_bytes(whole + b"\0")
    assert read_checkpoint(path, RUN) is None


@pytest.mark.parametrize(
    "body",
    [
        cbor2.dumps(None),
        cbor2.dumps([RUN, 7]),
        cbor2.dumps([RUN, "7", "chain", 1, {}]),
        cbor2.dumps({"a": 1}),
        b"\xff\xff",
        b"",
    ],
)
def test_a_whole_file_with_other_content_is_none(path, body):
    """A right checksum over something else, as another version might write, is ignored."""
    from lorch_actors.storage import checkpoint

    path.write_bytes(checkpoint._header(body) + body)

    assert read_checkpoint(path, RUN) is None


def test_a_checkpoint_that_cannot_be_read_is_none(path):
    """A directory, or a disk that refuses, is as good as no checkpoint."""
    path.mkdir()

    assert read_checkpoint(path, RUN) is None


def test_a_checkpoint_on_a_full_disk_leaves_the_old_one(path, monkeypatch):
    """When the new one cannot be written, the old one stands."""
    write_checkpoint(path, RUN, PLACE, STATE)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", _full)
        with pytest.raises(StorageError):
            write_checkpoint(path, RUN, Position(8, "fedcba9876543210", 5000), {})

    assert read_checkpoint(path, RUN) == (PLACE, STATE)


def _full(*_):
    raise disk.storage_error("write", "there", OSError(28, ""))
