"""Locks that the kernel takes back."""

import errno
import json
import os
import select
import signal
import stat
import subprocess
import sys
import threading

import pytest

from lorch_actors.errors import ExitCode, LockedError, StorageError
from lorch_actors.storage import disk
from lorch_actors.storage.locks import hold, holder_of, is_held, this_process

HOLD = """
import subprocess, sys
from pathlib import Path
from lorch_actors.storage.locks import hold, this_process
lock = hold(Path(sys.argv[1]), this_process("run-1", "2026-01-01T00:00:00.000Z"))
if len(sys.argv) > 2:
    child = subprocess.Popen(["cat"], stdout=subprocess.DEVNULL, close_fds=False)
    print(child.pid, flush=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lorch.lock"


@pytest.fixture
def start(path):
    """Return a function that starts a process which holds the lock; it is ended with the test."""
    started = []

    def starting(*args):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield starting
    for process in started:
        process.kill()
        process.communicate()


def test_one_holds_and_the_next_is_turned_away(path):
    """A held lock is refused at once, and free again after its release."""
    with hold(path) as lock:
        assert is_held(path)
        with pytest.raises(LockedError) as caught:
            hold(path)
        assert caught.value.where == str(path)
        assert caught.value.exit_code == ExitCode.LOCKED
    lock.release()

    assert not is_held(path)
    hold(path).release()


def test_the_holder_is_named(path, start):
    """Whoever is turned away is told pid, host, time, run and command of the holder."""
    process = start()
    assert process.stdout.readline() == "held\n"

    with pytest.raises(LockedError) as caught:
        hold(path)

    message = str(caught.value)
    for part in (f"process {process.pid}", os.uname().nodename, "2026-01-01T00:00:00.000Z", "run-1", sys.executable):
        assert part in message
    assert holder_of(path)["pid"] == process.pid


def test_the_kernel_lets_go_when_the_holder_is_killed(path, start):
    """After SIGKILL of the holder the lock can be taken, stale content or not."""
    process = start()
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()

    with hold(path, {"pid": 1}):
        assert holder_of(path) == {"pid": 1}


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(path, start):
    """A grandchild that was given all inheritable descriptors lives on; the lock is free all the same."""
    process = start("with-child")
    grandchild = int(process.stdout.readline())
    assert process.stdout.readline() == "held\n"
    pidfd = os.pidfd_open(grandchild)
    try:
        process.kill()
        process.wait()

        hold(path).release()
        assert select.select([pidfd], [], [], 0) == ([], [], []), "the grandchild is still alive"
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def test_waiting_for_a_holder_that_is_about_to_go(path):
    """With a waiting time, the lock is taken as soon as it is free."""
    first = hold(path)
    waiting = threading.Timer(0.3, first.release)
    waiting.start()

    second = hold(path, wait_s=10)

    waiting.join()
    assert is_held(path)
    second.release()


def test_waiting_has_an_end(path):
    """A holder that does not go is named when the waiting time is over."""
    with hold(path, {"pid": 4711}), pytest.raises(LockedError, match="4711"):
        hold(path, wait_s=0.15)


@pytest.mark.parametrize(
    "content", [b"", b"\0\xff", b"[1]", b'"x"', b"{", b'{"pid":', b"x" * 100_000, b"{}", b'{"pid":null}']
)
def test_whatever_the_file_holds_is_no_obstacle(path, content):
    """Absent and garbled descriptions neither keep the lock from being taken nor from being refused."""
    path.write_bytes(content)
    with hold(path, {"pid": 1}):
        path.write_bytes(content)
        with pytest.raises(LockedError, match=r"held by another process|another process holds the lock"):
            hold(path)


def test_a_description_cannot_control_the_terminal(path):
    """What a file says of its holder is shown as text only."""
    with hold(path, {"pid": "\x1b[2J", "command": "a\nb"}), pytest.raises(LockedError) as caught:
        hold(path)

    assert "\x1b" not in str(caught.value)
    assert "as a?b" in caught.value.what


def test_a_new_holder_replaces_the_description_of_the_last(path):
    """A longer old description leaves no rest behind a shorter new one, and none is kept for a holder without."""
    hold(path, {"command": "x" * 1000}).release()
    hold(path, {"pid": 1}).release()
    assert json.loads(path.read_bytes()) == {"pid": 1}

    hold(path).release()
    assert path.read_bytes() == b""
    assert holder_of(path) is None


def test_the_lock_file_stays_and_is_private(path):
    """The file is not removed on release, which would split the lock in two, and is for its owner only."""
    hold(path, {"pid": 1}).release()
    inode = path.stat().st_ino
    hold(path, {"pid": 2}).release()

    assert path.stat().st_ino == inode
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_asking_who_holds_what_is_absent(path):
    """A lock nobody ever took is not held, and asking does not make its file."""
    assert not is_held(path)
    assert holder_of(path) is None
    assert not path.exists()


def test_a_lock_whose_directory_is_absent_makes_it_private(path):
    """A missing directory is made for its owner only, like all of ours."""
    hold(path.parent / "state" / "lorch.lock").release()

    assert stat.S_IMODE((path.parent / "state").stat().st_mode) == 0o700


def test_a_lock_that_cannot_be_made_is_a_storage_error(path):
    """Something else in the place of the lock file or its directory is told as such."""
    path.mkdir()
    (path.parent / "file").write_bytes(b"")

    with pytest.raises(StorageError, match="cannot lock: it is a directory"):
        hold(path)
    with pytest.raises(StorageError, match="cannot make the directory"):
        hold(path.parent / "file" / "lorch.lock")


def test_a_link_in_the_place_of_a_lock_is_not_followed(path):
    """A link would lock, and overwrite, a file somewhere else."""
    (path.parent / "precious").write_bytes(b"precious")
    path.symlink_to("precious")

    with pytest.raises(StorageError, match="symbolic link"):
        hold(path)

    assert (path.parent / "precious").read_bytes() == b"precious"


def test_a_full_disk_does_not_leave_the_lock_taken(path, monkeypatch):
    """When the holder cannot introduce itself, the lock is let go again."""
    with monkeypatch.context() as patched:
        patched.setattr(disk, "write", _full)
        with pytest.raises(StorageError, match="the disk is full"):
            hold(path, {"pid": 1})

    assert not is_held(path)


def test_a_process_describes_itself():
    """The description holds pid, start, run, host and command."""
    described = this_process("run-1", "2026-01-01T00:00:00.000Z")

    assert described["pid"] == os.getpid()
    assert (described["run_id"], described["started_at"]) == ("run-1", "2026-01-01T00:00:00.000Z")
    assert described["host"] == os.uname().nodename
    assert sys.orig_argv[0] in described["command"]


def _full(*_):
    raise disk.storage_error("write", "there", OSError(errno.ENOSPC, ""))
