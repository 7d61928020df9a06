"""The guardian keeps a run alive, and leaves nothing of a dead orchestrator behind."""

import os
import re
import signal
import time

import pytest

from lorch_actors import processes

PROMISED_S = 1.0
"""How soon everything of a dead orchestrator is gone (SPEC §6.2)."""


def running(pids):
    return [pid for pid in pids if (who := processes.identify(pid)) and processes.is_alive(who)]


@pytest.mark.parametrize("code", range(6))
def test_exit_codes_of_ours_are_passed_on(under_guard, code):
    """An orchestrator that ends with one of our exit codes is not started again."""
    guarded = under_guard("run", "--all")
    guarded.report()
    guarded.order(f"exit {code}")

    assert guarded.end() == (code, "")


def test_the_orchestrator_learns_what_it_needs(under_guard, tmp_path):
    """The first orchestrator of a run gets command line, run id, workspace and marker."""
    guarded = under_guard("--task", "T-1", "--workspace", ".")
    first = guarded.report()
    guarded.order("exit 0")
    guarded.end()

    assert re.fullmatch(r"run-\d{8}-\d{6}-[0-9a-f]{8}", first["run_id"])
    assert first == {
        "argv": ["--task", "T-1", "--workspace", "."],
        "pid": first["pid"],
        "guardian": guarded.pid,
        "run_id": first["run_id"],
        "start": 0,
        "workspace": str(tmp_path),
        "marker": first["run_id"],
    }


def test_resume_leaves_the_choice_of_the_run_to_the_orchestrator(under_guard):
    """Which run is resumed stands in the workspace, which the guardian does not read."""
    guarded = under_guard("resume")
    first = guarded.report()
    guarded.order("exit 0")
    guarded.end()

    assert (first["run_id"], first["marker"]) == (None, None)


def test_a_killed_orchestrator_is_replaced_and_all_it_left_is_ended(under_guard):
    """Sessions of their own, deaf and stopped processes: nothing lives on a second after the kill."""
    guarded = under_guard("run")
    first = guarded.report()
    tree = guarded.ask("tree")["tree"]
    killed_at = time.monotonic()
    os.kill(first["pid"], signal.SIGKILL)
    second = guarded.report()
    took_s = time.monotonic() - killed_at
    left = running([first["pid"], *tree])
    guarded.order("exit 0")
    code, errors = guarded.end()

    assert (left, took_s < PROMISED_S) == ([], True)
    assert (second["start"], second["run_id"]) == (1, first["run_id"])
    assert code == 0
    assert errors == (f"lorch: the orchestrator was killed (SIGKILL); resuming {first['run_id']} (restart 1 of 5)\n")


def test_what_a_finished_orchestrator_left_is_ended(under_guard):
    """An exit code of ours is no reason to leave processes behind."""
    guarded = under_guard("run")
    guarded.report()
    tree = guarded.ask("tree")["tree"]
    guarded.order("exit 1")

    assert (guarded.end()[0], running(tree)) == (1, [])


def test_an_uncaught_exception_is_shown_and_the_run_resumed(under_guard):
    """A bug in the orchestrator is printed whole, and costs a restart."""
    guarded = under_guard("run")
    guarded.report()
    second = guarded.ask("raise")
    guarded.order("exit 0")
    code, errors = guarded.end()

    assert (second["start"], code) == (1, 0)
    assert "RuntimeError: a bug" in errors
    assert "lorch: the orchestrator ended with exit code 70; resuming" in errors


def test_the_same_exception_is_shown_whole_only_once(under_guard):
    """However often the orchestrator is started again; another one is news, and shown whole."""
    guarded = under_guard("run")
    for order in ("raise", "raise", "stumble", "exit 0"):
        guarded.report()
        guarded.order(order)
    code, errors = guarded.end()

    assert (code, errors.count("Traceback"), errors.count("RuntimeError: a bug")) == (0, 2, 2)
    assert "lorch: the same exception as before: RuntimeError: a bug\n" in errors
    assert "LookupError: another bug" in errors


def test_a_ctrl_c_in_the_first_moment_is_told(under_guard):
    """An orchestrator that has no handler for it yet ends the run resumably, and says so."""
    guarded = under_guard("run")
    guarded.report()
    guarded.order("interrupt")

    assert guarded.end() == (5, "lorch: stopped by Ctrl-C; `lorch resume` goes on with a run that has begun\n")


def test_an_orchestrator_that_stands_still_is_killed_and_replaced(under_guard):
    """SIGSTOP makes no exit to notice: the missing beats tell."""
    guarded = under_guard("run", limits={"beat_s": 0.5})
    first = guarded.report()
    os.kill(first["pid"], signal.SIGSTOP)
    second = guarded.report()
    left = running([first["pid"]])
    guarded.order("exit 0")
    code, errors = guarded.end()

    assert (second["start"], left, code) == (1, [], 0)
    assert errors.startswith("lorch: the orchestrator gave no sign of life for 0.5 s and was killed; resuming")


def test_beats_keep_an_orchestrator_alive(under_guard):
    """One that beats may work for longer than it may be silent."""
    guarded = under_guard("run", limits={"beat_s": 0.4})
    guarded.report()
    guarded.ask("beat 1")
    guarded.order("exit 0")

    assert guarded.end() == (0, "")


def test_a_guardian_that_stood_still_itself_blames_nobody(under_guard):
    """Ctrl-Z stops both; when they go on, the orchestrator is given time to beat again."""
    guarded = under_guard("run", limits={"beat_s": 0.5, "own_stall_s": 0.1})
    first = guarded.report()
    os.kill(guarded.pid, signal.SIGSTOP)
    os.kill(first["pid"], signal.SIGSTOP)
    time.sleep(0.8)  # the standstill itself, not a wait for something
    os.kill(guarded.pid, signal.SIGCONT)
    os.kill(first["pid"], signal.SIGCONT)
    guarded.ask("print")
    guarded.order("exit 0")

    assert guarded.end() == (0, "")


def test_the_sixth_death_within_the_window_ends_the_run_resumably(under_guard):
    """An orchestrator that dies again and again is not restarted without end."""
    guarded = under_guard("run")
    starts = []
    for _ in range(6):
        starts.append(guarded.report()["start"])
        guarded.order("exit 9")
    code, errors = guarded.end()

    assert (starts, code) == ([0, 1, 2, 3, 4, 5], 5)
    assert errors.splitlines()[-2:] == [
        "lorch: the orchestrator ended with exit code 9; giving up after 5 restarts without a settled step",
        "  `lorch resume` continues the run.",
    ]


def test_a_settled_step_makes_earlier_deaths_forgotten(under_guard):
    """Only restarts that lead nowhere count."""
    guarded = under_guard("run", limits={"restarts": 1})
    guarded.report()
    guarded.order("exit 9")
    guarded.report()
    guarded.ask("settled")
    guarded.order("exit 9")
    third = guarded.report()
    guarded.order("exit 9")

    assert (third["start"], guarded.end()[0]) == (2, 5)


def test_deaths_before_the_window_do_not_count(under_guard):
    """A run of many hours may lose its orchestrator now and then."""
    guarded = under_guard("run", limits={"restarts": 1, "window_s": 0.0})
    for _ in range(3):
        guarded.report()
        guarded.order("exit 9")
    fourth = guarded.report()
    guarded.order("exit 0")

    assert (fourth["start"], guarded.end()[0]) == (3, 0)


def test_without_keep_alive_the_first_death_ends_everything(under_guard):
    """`--no-keep-alive` ends what is left and the run, resumably."""
    guarded = under_guard("run", "--no-keep-alive")
    first = guarded.report()
    tree = guarded.ask("tree")["tree"]
    os.kill(first["pid"], signal.SIGKILL)
    code, errors = guarded.end()

    assert (code, running(tree)) == (5, [])
    assert errors == "lorch: the orchestrator was killed (SIGKILL)\n  `lorch resume` continues the run.\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_sent_to_the_guardian_is_passed_on(under_guard, name):
    """Who wants to stop the run may send a signal to the process that they started."""
    guarded = under_guard("run")
    guarded.report()
    os.kill(guarded.pid, signal.Signals[name])
    heard = guarded.report()
    guarded.order("exit 5")

    assert (heard, guarded.end()) == ({"signal": name}, (5, ""))


def test_an_orchestrator_killed_while_it_stops_is_not_started_again(under_guard):
    """A run that was asked to stop stays stopped."""
    guarded = under_guard("run")
    first = guarded.report()
    os.kill(guarded.pid, signal.SIGTERM)
    guarded.report()
    os.kill(first["pid"], signal.SIGKILL)
    code, errors = guarded.end()

    assert code == 5
    assert errors.startswith("lorch: the orchestrator was killed (SIGKILL) while it was stopping\n")


def test_a_request_to_stop_that_crosses_a_death_is_heard(under_guard):
    """Whoever asks at the very moment of a restart gets no new orchestrator."""
    guarded = under_guard("run")
    first = guarded.report()
    os.kill(guarded.pid, signal.SIGSTOP)
    os.kill(first["pid"], signal.SIGKILL)
    os.kill(guarded.pid, signal.SIGTERM)
    os.kill(guarded.pid, signal.SIGCONT)

    assert guarded.end()[0] == 5


def test_a_hang_up_ends_nothing(under_guard):
    """The terminal may go: guardian and orchestrator stay."""
    guarded = under_guard("run")
    first = guarded.report()
    os.kill(first["pid"], signal.SIGHUP)
    os.kill(guarded.pid, signal.SIGHUP)
    guarded.ask("print")
    os.kill(first["pid"], signal.SIGKILL)
    second = guarded.report()
    os.kill(second["pid"], signal.SIGHUP)
    guarded.order("exit 0")

    assert (second["start"], guarded.end()[0]) == (1, 0)


def test_the_orchestrator_sees_the_death_of_the_guardian(under_guard, mark):
    """The link's pidfd becomes readable when the guardian is killed."""
    guarded = under_guard("run")
    guarded.report()
    guarded.process.kill()

    assert guarded.report() == {"guardian": "gone"}
    processes.end_all(lambda: processes.marked("LORCH_TEST", mark), deadline_s=PROMISED_S)


def test_children_that_were_there_before_are_left_alone(under_guard, mark):
    """A shell that replaces itself by the guardian may leave it children, which belong to the user."""
    shell = ["sh", "-c", 'sleep 600 2>&- & echo $!; exec "$@"', "sh"]
    guarded = under_guard("run", prefix=shell, stdout=-1)
    theirs = int(guarded.process.stdout.readline())
    first = guarded.report()
    os.kill(first["pid"], signal.SIGKILL)
    guarded.report()
    guarded.order("exit 0")
    guarded.process.wait()

    assert running([theirs]) == [theirs]
    processes.end_all(lambda: processes.marked("LORCH_TEST", mark), deadline_s=PROMISED_S)
