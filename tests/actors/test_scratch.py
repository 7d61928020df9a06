"""The directory of a run below the system's temporary one."""

import os
import stat
import tempfile
from multiprocessing import util
from pathlib import Path

import pytest

from lorch_actors.actors.scratch import SOCKET_PATH_MAX, scratch
from lorch_actors.errors import StorageError

RUN_ID = "run-20261121-000000-0123abcd"


@pytest.fixture(autouse=True)
def temporary(monkeypatch):
    """Give a temporary directory of the test's own, with a path as short as the real one's."""
    with tempfile.TemporaryDirectory(prefix="l-", dir="/tmp") as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def test_multiprocessing_keeps_its_files_in_it_and_it_is_removed(temporary):
    """What is in it goes with it, and it is for its owner only."""
    with scratch(RUN_ID) as path:
        assert path == util.get_temp_dir()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        open(os.path.join(path, "socket"), "w").close()

    assert list(temporary.iterdir()) == []


def test_what_a_killed_orchestrator_left_is_used_again(temporary):
    """The same run finds its directory and removes it in the end."""
    left = temporary / f"lorch-{RUN_ID}"
    left.mkdir(mode=0o700)
    (left / "listener-old").touch()

    with scratch(RUN_ID) as path:
        assert str(left) == path

    assert list(temporary.iterdir()) == []


def test_a_directory_that_others_may_use_is_refused(temporary):
    """Whoever may write there could answer in the fork server's place."""
    (temporary / f"lorch-{RUN_ID}").mkdir(mode=0o777)
    (temporary / f"lorch-{RUN_ID}").chmod(0o777)

    with pytest.raises(StorageError, match="not a directory of ours alone"), scratch(RUN_ID):
        pass


def test_a_long_temporary_directory_is_left_out(temporary, monkeypatch):
    """A socket's path has a limit."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / ("d" * 100)))

    with scratch(RUN_ID) as path:
        assert len(path) < SOCKET_PATH_MAX - len("/listener-12345678")
