"""Leave is asked for, and answered from a second terminal: while the run goes on, and while nobody runs at all."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import DEADLINE_S, Bench, gone_within

ASK = {"type": "ask", "tool": "Bash", "input": {"command": "make install"}}
BUILDER = {"responses": {"implement": {"events": [ASK]}}}
ASKING = {"builder": {"permissions": "ask"}}
APPROVE = r"`lorch approve ap-[0-9a-f]{8}`"


AT_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes standard input the terminal of a session, as a login does, and goes on as the program that is named."""


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


def test_a_run_that_is_stopped_while_somebody_is_asked_was_not_told_no(tmp_path: Path):
    """Also for an agent that would go on without leave: the request stays open, and its answer counts."""
    events = [{**ASK, "denied": "go_on"}]
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": events}}}}, agents=ASKING)
    running = there.start()
    running.until(APPROVE)
    running.process.terminate()
    stopped = running.wait()
    (name,) = open_requests(there)
    said = there.run("approve", name)
    resumed = there.run("resume")

    assert (stopped.code, said.code, resumed.code) == (5, 0, 0)
    answers = [line["payload"]["decision"] for line in there.events("system.approval_answered")]
    assert answers == ["allow"]
    assert [command["action"] for command in there.commands()][:2] == ["implement", "implement"]
    assert there.findings() == []


class Screen:
    """What a terminal shows, read on from where the last thing was found."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._unread = b""

    def until(self, text: bytes) -> None:
        """Read on until this is shown."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self._unread:
            left_s = max(0.0, deadline - time.monotonic())
            assert select.select([self._master], [], [], left_s)[0], self._unread
            self._unread += os.read(self._master, 65536)
        self._unread = self._unread.partition(text)[2]


def test_the_terminal_of_the_run_asks_and_takes_the_answer(tmp_path: Path):
    """One question at a time; what is no answer is passed over, and what was typed before the question as well."""
    events = [ASK, {**ASK, "input": {"command": "rm"}, "denied": "go_on"}]
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": events}}}}, agents=ASKING)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, sys.executable, "-m", "lorch_actors", "run", "--all"],
        cwd=there.root,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    screen = Screen(master)
    try:
        os.write(master, b"y\n")
        screen.until(b"`lorch approve ")
        screen.until(b"allow it?")
        os.write(master, b"perhaps\nY go on\n")
        screen.until(b"allowed by operator: go on")
        screen.until(b"`lorch approve ")
        screen.until(b"allow it?")
        os.write(master, b"n not that\n")
        screen.until(b"denied by operator: not that")
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)

    said = [(line["payload"]["decision"], line["payload"]["by"]) for line in there.events("system.approval_answered")]
    assert said == [("allow", "operator"), ("deny", "operator")]
