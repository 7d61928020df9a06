"""When nothing helps, the run stops: soon, in so many words, in the ledger as well, and to be resumed."""

from pathlib import Path
from typing import Any

import pytest
from bench import Bench, gone_within
from hooking import hooked

DIES = """
def capture(self, progress, now_ms):
    os._exit(3)
"""
HANGS = """
def capture(self, progress, now_ms):
    threading.Event().wait()
"""
CAPTURE = "import os, threading\n{0}\nSnapshotWorker._capture = capture\n"


@pytest.mark.parametrize(
    ("fault", "policy"),
    [pytest.param(DIES, {}, marks=pytest.mark.long), (HANGS, {"worker_stall_s": 0.5})],
    ids=["dies", "hangs"],
)
def test_a_message_on_which_workers_end_stops_the_run(tmp_path: Path, fault: str, policy: dict[str, Any]) -> None:
    """Three deaths, and neither a supervisor above nor a restart in between has the message delivered once more."""
    there = Bench(tmp_path / "w", policy=policy)
    env = hooked(tmp_path / "hooks", "lorch_actors.actors.snapshotter", CAPTURE.format(fault))

    ended = there.run(env=env)

    (stopped,) = there.events("system.run_stopped")
    restarted = [event["payload"]["actor"] for event in there.events("system.actor_restarted")]
    assert ended.code == 5, ended
    assert "died 3 times while handling the same message" in ended.err
    assert stopped["payload"]["code"] == "poison_message"
    assert "snapshotter died 3 times" in stopped["payload"]["message"]
    assert restarted == ["snapshotter", "snapshotter"]
    assert gone_within(there, 1.0) == []
    assert there.run("resume").code == 0
    assert there.findings() == []


@pytest.mark.long
def test_a_supervisor_that_gives_up_says_so_in_the_ledger(tmp_path: Path) -> None:
    """Whoever looks in the morning sees why."""
    there = Bench(tmp_path / "w")
    raises = """
def receive(self, message):
    raise RuntimeError("bug")
"""
    code = f"{raises}\nSnapshotter.receive = receive\n"

    ended = there.run(env=hooked(tmp_path / "hooks", "lorch_actors.actors.snapshotter", code))
    status = there.run("status")

    (stopped,) = there.events("system.run_stopped")
    assert ended.code == 5, ended
    assert stopped["payload"]["code"] == "restart_limit"
    assert "RuntimeError: bug" in stopped["payload"]["message"]
    assert "interrupted: run-supervisor gave up on ring-supervisor" in status.out
    assert there.run("resume").code == 0
    assert there.findings() == []
