"""Leave is asked for, and answered from a second terminal: while the run goes on, and while nobody runs at all."""

import json
import os
import signal
from pathlib import Path

from bench import Bench, gone_within

ASK = {"type": "ask", "tool": "Bash", "input": {"command": "make install"}}
BUILDER = {"responses": {"implement": {"events": [ASK]}}}
ASKING = {"builder": {"permissions": "ask"}}
APPROVE = r"`lorch approve ap-[0-9a-f]{8}`"


def open_requests(there: Bench) -> list[str]:
    """Return the ids that `status` shows."""
    document = json.loads(there.run("status", "--json").out)
    return [line["approval_id"] for line in document["approvals"]]


def test_an_answer_from_another_terminal_reaches_the_agent(tmp_path: Path):
    """The run holds the lock and is woken by the answer; a second one is refused; nothing is left of it on disk."""
    there = Bench(tmp_path / "w", {"builder": BUILDER}, agents=ASKING)
    running = there.start()
    running.until(APPROVE)
    (name,) = open_requests(there)
    said = there.run("approve", name, "--reason", "go on")
    ended = running.wait()
    late = there.run("deny", name)

    assert (said.code, ended.code, late.code) == (0, 0, 2)
    assert '"command": "make install"' in said.out
    assert [line["payload"]["by"] for line in there.events("system.approval_answered")] == ["operator"]
    assert os.listdir(there.root / "state" / "approvals") == []
    assert there.findings() == []


def test_an_answer_given_while_nobody_runs_counts_when_the_run_goes_on(tmp_path: Path):
    """Guardian and orchestrator are killed while somebody is asked; after the resume nobody is asked again."""
    there = Bench(tmp_path / "w", {"builder": BUILDER}, agents=ASKING)
    running = there.start()
    running.until(APPROVE)
    (name,) = open_requests(there)
    running.signal("orchestrator", signal.SIGSTOP)
    running.signal("guardian", signal.SIGKILL)
    running.signal("orchestrator", signal.SIGKILL)
    running.wait()
    said = there.run("deny", name, "--reason", "not on this machine")
    resumed = there.run("resume")

    assert "The run is interrupted" in said.out
    assert (said.code, resumed.code) == (0, 1)
    (failure,) = [line["payload"]["failure"] for line in there.events("system.task_finished")]
    assert failure["code"] == "permission_denied"
    assert failure["message"] == "Bash was denied: not on this machine"
    assert gone_within(there, 5) == []
