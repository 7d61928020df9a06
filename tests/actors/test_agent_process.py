"""A process of an agent that cannot be kept is not left behind."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from lorch_actors import processes
from lorch_actors.actors.agent_process import AgentProcess
from lorch_actors.actors.runtime import Runtime


def test_no_descriptor_left_to_watch_it(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails after the process began ends the process: nobody else would."""

    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        AgentProcess(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            workspace=str(tmp_path),
            env=dict(os.environ),
            agent_id="builder-00000000",
            reactor=runtime.reactor,
            owner="builder",
        )
    monkeypatch.undo()

    assert processes.marked("LORCH_AGENT_ID", "builder-00000000") == set()


def test_an_agent_that_has_no_environment_yet_is_not_swept_away(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment after it has begun, nobody sees its marker: who looks for strays of another agent lets it be."""
    before, fresh = (
        AgentProcess(
            ["/bin/sh", "-c", "read line"],
            workspace=str(tmp_path),
            env=dict(os.environ),
            agent_id=agent_id,
            reactor=runtime.reactor,
            owner="builder",
        )
        for agent_id in ("builder-00000002", "reviewer-00000003")
    )
    before.end_tree()
    before.reap()
    monkeypatch.setattr(processes, "environment_marker", lambda _pid, _name: None)
    before.end_escaped()
    monkeypatch.undo()
    was_alive = fresh.identity is not None and processes.is_alive(fresh.identity)
    fresh.end_tree()

    ended = fresh.reap()
    for process in (before, fresh):
        process.release()
    assert was_alive
    assert ended == (None, signal.SIGKILL)


def test_who_is_not_below_us_any_more_is_known_by_the_marker(runtime: Runtime, tmp_path: Path) -> None:
    """An orphan that somebody else has adopted, here whoever stands above this test."""
    process = AgentProcess(
        ["/bin/sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"],
        workspace=str(tmp_path),
        env=dict(os.environ),
        agent_id="builder-00000001",
        reactor=runtime.reactor,
        owner="builder",
    )
    os.set_blocking(process.stdout, True)
    left = processes.identify(int(os.read(process.stdout, 100)))
    assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT) is not None
    assert left is not None
    assert left.pid not in processes.below(os.getpid())

    process.end_tree()
    process.reap()
    process.end_escaped()
    process.release()

    assert not processes.is_alive(left)
