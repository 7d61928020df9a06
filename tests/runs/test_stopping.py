"""However a run is stopped or killed, nothing of it goes on, nothing is lost, and a resume completes it."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, Bench, Running, gone_within
from cutting import PASSED
from test_resuming import HANGS_ONCE, check_completed, crash, responding

ONE = ["implement", "review", "update_spec"]
STUBBORN_ONCE = {"type": "hang", "times": 1, "stubborn": True}
SLOW = responding(implement={"delay_ms": 400, "events": [PASSED]})
HANGING = responding(implement={"events": [HANGS_ONCE, PASSED]})
STUBBORN = responding(implement=[{"events": [STUBBORN_ONCE, PASSED]}, {"events": [PASSED]}])


def sprawling(tmp_path: Path, builder: dict[str, Any]) -> tuple[Bench, Path]:
    """Return a workspace whose agents leave grandchildren, and the file that names them."""
    there = Bench(tmp_path / "w", {"builder": builder})
    pids = tmp_path / "grandchildren"
    agent = str(Path(__file__).with_name("sprawling_agent.py"))

    def change(document: dict[str, Any]) -> None:
        for role in ROLES:
            cmd = document["agents"][role]["cmd"]
            document["agents"][role]["cmd"] = [sys.executable, agent, str(pids), *cmd[4:]]

    there.configure(change)
    return there, pids


@contextmanager
def watching(pids: list[int]) -> Iterator[list[int]]:
    """Yield handles on these processes."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def alive(handles: list[int], seconds: float = 0.0) -> int:
    """Return how many of these processes are alive when that time has passed, or 0 as soon as all are dead."""
    deadline = time.monotonic() + seconds
    left = list(handles)
    while left:
        rest_s = deadline - time.monotonic()
        ended, _, _ = select.select(left, [], [], max(0.0, rest_s))
        left = [handle for handle in left if handle not in ended]
        if not ended:
            return len(left)
    return 0


def everything_of(running: Running, grandchildren: Path) -> list[int]:
    """Return the pids of all processes of a run but guardian and orchestrator."""
    found = [running.pid_of(name) for name in (*ROLES, "ledger", "run-state", "snapshotter")]
    return found + [pid for pid, _ in grandchildren_in(grandchildren)]


def grandchildren_in(file: Path) -> list[tuple[int, str]]:
    """Return the pids in the file, each with the role of the agent that left it; in any order."""
    return [(int(pid), role) for pid, role in (line.split() for line in file.read_text().splitlines())]


@pytest.mark.parametrize("victim", ["orchestrator", "guardian"])
def test_one_second_after_a_kill_nothing_of_the_run_is_alive(tmp_path: Path, victim: str) -> None:
    """Not even grandchildren in sessions of their own, with or without the environment that marks them."""
    there, grandchildren = sprawling(tmp_path, HANGING)
    running = there.start()
    running.until_begun("implement")
    run_id = there.run_ids[0]

    with watching(everything_of(running, grandchildren)) as handles:
        assert alive(handles) == len(handles) == 12
        running.signal(victim, signal.SIGKILL)

        assert alive(handles, 1.0) == 0

    ended = running.wait()
    if victim == "guardian":
        assert ended.code == -signal.SIGKILL
        resumed = there.run("resume")
        assert resumed.code == 0, resumed
    else:
        assert ended.code == 0, ended
    check_completed(there, run_id, ONE)


@pytest.mark.long
def test_an_agents_tree_is_gone_before_its_command_is_repeated(tmp_path: Path) -> None:
    """Whatever the dead builder had started could still be writing into the workspace of its successor."""
    there, grandchildren = sprawling(tmp_path, HANGING)
    running = there.start()
    running.until_begun("implement")
    tree = [pid for pid, role in grandchildren_in(grandchildren) if role == "builder"]

    with watching(tree) as handles:
        assert alive(handles) == len(handles) == 2
        running.signal("builder", signal.SIGKILL)
        running.until(r"\] implement \(")

        assert alive(handles) == 0

    ended = running.wait()
    assert ended.code == 0, ended
    check_completed(there, there.run_ids[0], ONE)


def test_one_second_after_both_were_killed_nothing_of_the_run_is_alive(tmp_path: Path) -> None:
    """Guardian and orchestrator at once: the ledger's worker is there to see it, and ends the rest before itself."""
    there, grandchildren = sprawling(tmp_path, STUBBORN)
    running = there.start()
    running.until_begun("implement")

    with watching(everything_of(running, grandchildren)) as handles:
        assert alive(handles) == len(handles) == 12
        crash(running)

        assert alive(handles, 1.0) == 0
    assert there.run("resume").code == 0


ORPHANED = """
import subprocess, sys
from lorch_actors import processes
from lorch_actors.actors.ledger_worker import LedgerWorker
from lorch_actors.processes.watermark import set_watermark
set_watermark(sys.argv[1])
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
who = processes.identify(child.pid)
for died in (who.start_ticks - 1, who.start_ticks):
    processes.now_ticks = lambda: died
    LedgerWorker(None).orphaned()
    print(processes.is_alive(who))
"""


def test_who_was_started_after_the_orchestrators_death_is_left_alone() -> None:
    """The run may be resumed already, under the same mark."""
    argv = [sys.executable, "-c", ORPHANED, f"run-{os.getpid()}"]

    assert subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout == "True\nFalse\n"


@pytest.mark.parametrize("words", [["resume"], pytest.param(["run", "--all", "--new"], marks=pytest.mark.long)])
def test_what_outlived_guardian_and_orchestrator_is_ended_by_who_comes_next(tmp_path: Path, words: list[str]) -> None:
    """Before anything is begun, whatever it has shed: its parent, its session, its whole environment."""
    there, grandchildren = sprawling(tmp_path, STUBBORN)
    running = there.start()
    running.until_begun("implement")
    left = [pid for pid, _ in grandchildren_in(grandchildren)]

    with watching([running.pid_of("builder"), *left]) as handles:
        crash(running, "ledger")  # whose worker would end them
        assert alive(handles) == len(handles) == 7

        ended = there.run(*words)

        assert alive(handles) == 0
    assert ended.code == 0, ended
    check_completed(there, there.run_ids[-1], ONE)


def interrupt_group(running: Running) -> None:
    os.killpg(running.process.pid, signal.SIGINT)


def terminate_guardian(running: Running) -> None:
    running.process.terminate()


@pytest.mark.parametrize("ask", [interrupt_group, pytest.param(terminate_guardian, marks=pytest.mark.long)])
def test_asked_once_it_finishes_writing_and_stops_resumably(tmp_path: Path, ask: Any) -> None:
    """Exit code 5, no agent left, the stop on record; the resume repeats no step."""
    there = Bench(tmp_path / "w", {"builder": SLOW})
    running = there.start()
    running.until_begun("implement")
    ask(running)

    ended = running.wait()

    assert ended.code == 5, ended
    assert gone_within(there, 1.0) == []
    run_id = there.run_ids[0]
    assert f"resume --run {run_id}" in ended.out
    (stopped,) = there.events("system.run_stopped")
    assert stopped["payload"]["code"] == "signal"
    assert there.state()["status"] == "running"
    assert there.findings() == []
    resumed = there.run("resume")
    assert resumed.code == 0, resumed
    check_completed(there, run_id, ONE)


def test_asked_twice_it_stops_at_once(tmp_path: Path) -> None:
    """Without waiting for an agent that does not want to end."""
    there = Bench(tmp_path / "w", {"builder": STUBBORN})
    running = there.start()
    running.until_begun("implement")
    run_id = there.run_ids[0]
    interrupt_group(running)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.5)
    asked = time.monotonic()
    interrupt_group(running)

    ended = running.wait()

    assert ended.code == 5, ended
    assert time.monotonic() - asked < 2.0  # asked once, it takes 4 s to end such an agent
    assert "stopped at once" in ended.err
    assert gone_within(there, 1.0) == []
    assert there.run("resume").code == 0
    check_completed(there, run_id, ONE)


def test_ctrl_c_on_the_terminal_counts_once(tmp_path: Path) -> None:
    """Guardian and orchestrator both hear it; it is one request all the same, and no agent hears it."""
    there = Bench(tmp_path / "w", {"builder": SLOW})
    ours, theirs = os.openpty()
    take_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    take_terminal += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-m", "lorch_actors", "run", "--all", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", take_terminal, *command],
        cwd=there.root,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        there.wait_begun("implement")
        os.write(ours, b"\x03")
        code = process.wait(15)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

    assert code == 5
    assert len(there.events("system.run_stopped")) == 1
    assert there.run("resume").code == 0
    check_completed(there, there.run_ids[0], ONE)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGHUP, marks=pytest.mark.long), None])
def test_a_lost_console_never_ends_a_run(tmp_path: Path, number: signal.Signals | None) -> None:
    """Neither a hang-up nor a reader that is gone."""
    there = Bench(tmp_path / "w", {"builder": SLOW})
    running = there.start()
    running.until_begun("implement")
    assert running.process.stdout is not None
    if number is not None:
        os.killpg(running.process.pid, number)
    else:
        running.process.stdout.close()

    code = running.process.wait(15)

    running.close()
    assert code == 0
    check_completed(there, there.run_ids[0], ONE)


@pytest.mark.long
def test_without_keep_alive_a_dead_orchestrator_ends_the_run_resumably(tmp_path: Path) -> None:
    """Exit code 5, everything ended; whoever called it resumes."""
    there = Bench(tmp_path / "w", {"builder": HANGING})
    running = there.start("run", "--all", "--no-keep-alive")
    running.until_begun("implement")
    running.signal("orchestrator", signal.SIGKILL)

    ended = running.wait()

    assert ended.code == 5, ended
    assert gone_within(there, 1.0) == []
    assert there.run("resume", "--if-unfinished").code == 0
    check_completed(there, there.run_ids[0], ONE)


@pytest.mark.long
def test_the_run_state_moves_through_the_stages_while_the_run_goes(tmp_path: Path) -> None:
    """Whoever looks into run.json sees what is being done."""
    slow = {"delay_ms": 350}
    scripts = {
        "builder": responding(implement={**slow, "events": [PASSED]}),
        "reviewer": responding(review={**slow, "events": [{"type": "review.completed", "status": "approved"}]}),
        "spec_maintainer": responding(update_spec={**slow, "events": [{"type": "spec.updated", "payload": {}}]}),
    }
    there = Bench(tmp_path / "w", scripts)
    running = there.start()
    seen: list[str | None] = []
    while running.process.poll() is None:
        threading.Event().wait(0.01)
        if (there.root / "state" / "run.json").exists() and (stage := there.state()["current_stage"]) not in seen:
            seen.append(stage)

    assert running.wait().code == 0
    assert [stage for stage in seen if stage] == ["implement", "review", "spec_maintain", "complete"]
