"""In which order the storage layer asks the kernel, where only a power cut at the wrong moment would tell."""

import errno
import os
from pathlib import Path

import pytest
from tampering import Call, intercepted

from lorch_actors.errors import StorageError
from lorch_actors.storage import git_repository
from lorch_actors.storage.ledger import LedgerFile
from lorch_actors.storage.ledger_format import seal

RUN_ID = "run-20260101-000000-0a1b2c3d"
FIRST, _ = seal(b'{"kind":"log","level":"info","message":"","timestamp":"2026-01-01T00:00:00Z"}', 1, 0, RUN_ID)


class Asked:
    """Notes what is asked for, by name and file, and performs it; ``refused`` fails with EIO."""

    def __init__(self, refused: str = "") -> None:
        self.calls: list[str] = []
        self._refused = refused

    def __call__(self, call: Call) -> object:
        suffix = Path(call.place).name.removeprefix(f"{RUN_ID}.ndjson").partition(".tmp.")[0]
        self.calls.append(f"{call.name} {suffix}".rstrip())
        if call.name == self._refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call.perform()


def test_a_torn_tail_is_kept_for_certain_before_it_is_cut(tmp_path: Path) -> None:
    """Its copy and the name of that are on the disk before the ledger is touched, and the cut before it is used."""
    path = tmp_path / f"{RUN_ID}.ndjson"
    path.write_bytes(FIRST + b"\ntorn")
    asked = Asked()

    with intercepted(asked):
        LedgerFile.open(path, RUN_ID).close()

    copy = f".{path.name}.torn-1"
    assert asked.calls == [
        "create",
        "fsync",
        f"fsync {tmp_path.name}",
        f"create {copy}",
        f"write {copy}",
        f"fsync {copy}",
        f"replace {copy}",
        f"fsync {tmp_path.name}",
        "ftruncate",
        "fsync",
    ]


def test_what_a_failed_sync_left_is_cut_off_for_certain(tmp_path: Path) -> None:
    """Else a power cut could bring back what the writer was told is not there."""
    path = tmp_path / f"{RUN_ID}.ndjson"
    with LedgerFile.open(path, RUN_ID) as ledger:
        ledger.append([(1, FIRST)])
        asked = Asked(refused="fdatasync")
        with intercepted(asked), pytest.raises(StorageError):
            ledger.sync()

    assert asked.calls == ["fdatasync", "ftruncate", "fsync"]


def test_a_file_of_gits_is_whole_before_it_takes_its_place(tmp_path: Path) -> None:
    """The user's exclude file is never seen empty."""
    exclude = tmp_path / "exclude"
    exclude.write_bytes(b"mine\n")
    asked = Asked()

    with intercepted(asked):
        git_repository._replace_keeping_mode(exclude, b"mine\nours\n")

    assert [call.partition(" ")[0] for call in asked.calls] == ["create", "write", "fsync", "replace"]
    assert exclude.read_bytes() == b"mine\nours\n"
