"""One run a workspace, for as long as its guardian lives and no longer."""

import errno
import fcntl
import json
import os
import signal

import pytest

from lorch_actors import processes
from lorch_actors.errors import InterruptedRun
from lorch_actors.guardian import lock as guardian_lock
from lorch_actors.guardian.lock import GuardianLock


def test_a_second_run_is_refused_and_told_who_holds_the_workspace(under_guard, tmp_path):
    """The message names process, run and command line of the holder."""
    first = under_guard("run", "--all")
    report = first.report()
    second = under_guard("resume")
    code, errors = second.end()
    first.order("exit 0")
    first.end()

    assert code == 3
    assert errors.startswith(f"lorch: {tmp_path}/state/guardian.lock: another run holds this workspace: ")
    assert f"process {first.pid} on {os.uname().nodename}, since " in errors
    assert f": lorch run --all ({report['run_id']})\n" in errors


def test_cron_hears_nothing_of_a_run_that_is_under_way(under_guard):
    """`--if-unfinished` is asked every few minutes: what somebody works on is not left unfinished."""
    first = under_guard("run")
    first.report()
    second = under_guard("resume", "--if-unfinished")
    outcome = second.end()
    first.order("exit 0")
    first.end()

    assert outcome == (3, "")


def test_the_lock_file_names_the_orchestrator_of_the_moment(under_guard, tmp_path):
    """A tool finds the process that works, also after a restart."""
    guarded = under_guard("run")
    first = guarded.report()
    guarded.order("exit 9")
    second = guarded.report()
    holder = json.loads((tmp_path / "state" / "guardian.lock").read_bytes())
    guarded.order("exit 0")
    guarded.end()

    assert holder == {
        "pid": guarded.pid,
        "started_at": holder["started_at"],
        "host": os.uname().nodename,
        "command": "lorch run",
        "run_id": first["run_id"],
        "orchestrator_pid": second["pid"],
        "start": 1,
    }


def test_no_descendant_holds_the_lock_of_a_dead_guardian(under_guard, tmp_path, mark):
    """Guardian and orchestrator are dead, a process that they started lives: the workspace is free."""
    guarded = under_guard("run")
    guarded.report()
    tree = guarded.ask("tree")["tree"]
    guarded.process.kill()
    guarded.report()
    guarded.process.wait()
    with open(tmp_path / "state" / "guardian.lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    still_there = set(tree) <= processes.marked("LORCH_TEST", mark)
    processes.end_all(lambda: processes.marked("LORCH_TEST", mark), deadline_s=5)

    assert still_there


def test_an_orchestrator_does_not_hold_the_lock_of_a_dead_guardian(under_guard, tmp_path, mark):
    """Not even one that stands still, and whatever it has forked."""
    guarded = under_guard("run")
    first = guarded.report()
    os.kill(first["pid"], signal.SIGSTOP)
    guarded.process.kill()
    guarded.process.wait()
    with open(tmp_path / "state" / "guardian.lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert processes.end_all(lambda: processes.marked("LORCH_TEST", mark), deadline_s=5) == []


def test_a_lock_file_that_nobody_holds_is_no_obstacle(under_guard, tmp_path):
    """What a killed guardian left is taken over, whatever stands in it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "guardian.lock").write_bytes(b'{"pid": 1, ' * 100)
    guarded = under_guard("run")
    guarded.report()
    pid = json.loads((tmp_path / "state" / "guardian.lock").read_bytes())["pid"]
    guarded.order("exit 0")

    assert (pid, guarded.end()[0]) == (guarded.pid, 0)


def test_a_lock_that_no_run_came_of_is_taken_away(under_guard, tmp_path):
    """With its directory, if there was none before: a command that was refused leaves nothing."""
    guarded = under_guard("run")
    guarded.report()
    guarded.order("exit 2")
    guarded.end()

    assert list(tmp_path.iterdir()) == []


def test_a_lock_stays_where_a_run_was(under_guard, tmp_path):
    """An orchestrator has left its own lock there."""
    guarded = under_guard("run")
    guarded.report()
    (tmp_path / "state" / "lorch.lock").touch()
    guarded.order("exit 2")
    guarded.end()

    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["guardian.lock", "lorch.lock"]


def test_a_lock_file_that_was_taken_away_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Who opened it before that takes the lock on the file that has the name now."""
    first = GuardianLock(str(tmp_path), command="lorch run", run_id=None)
    flock, calls = fcntl.flock, []

    def flock_late(fd, operation):
        if not calls:
            first.release()
        calls.append(fd)
        flock(fd, operation)

    monkeypatch.setattr(guardian_lock.fcntl, "flock", flock_late)
    second = GuardianLock(str(tmp_path), command="lorch run", run_id=None)
    try:
        with pytest.raises(guardian_lock.LockedError):
            GuardianLock(str(tmp_path), command="lorch run", run_id=None)
    finally:
        second.release()


def test_what_is_created_is_for_the_user_alone(under_guard, tmp_path):
    """Directory 0700, file 0600."""
    guarded = under_guard("run")
    guarded.report()
    modes = [os.stat(path).st_mode & 0o777 for path in (tmp_path / "state", tmp_path / "state" / "guardian.lock")]
    guarded.order("exit 0")
    guarded.end()

    assert modes == [0o700, 0o600]


def test_a_workspace_that_is_not_there_is_a_usage_error(under_guard):
    """Where, why, and what to do, without a traceback."""
    code, errors = under_guard("run", "--workspace", "/nowhere/at/all").end()

    assert code == 2
    assert errors == (
        "lorch: /nowhere/at/all: the workspace cannot be used: No such file or directory\n"
        "  Name a directory that exists and that you may write to with `--workspace DIR`.\n"
    )


def test_a_full_disk_is_an_interruption(tmp_path, monkeypatch):
    """The run can be resumed when there is room again."""

    def refuse(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(guardian_lock.os, "mkdir", refuse)

    with pytest.raises(InterruptedRun, match="there is no room"):
        GuardianLock(str(tmp_path), command="lorch run", run_id=None)


def test_a_holder_that_has_not_signed_yet_is_refused_as_well(tmp_path):
    """Between taking the lock and writing into it, the workspace is held all the same."""
    lock = GuardianLock(str(tmp_path), command="lorch run", run_id=None)
    try:
        with pytest.raises(guardian_lock.LockedError, match="has not said yet who it is"):
            GuardianLock(str(tmp_path), command="lorch run", run_id=None)
    finally:
        lock.release()
