"""Bugs to be planted in whatever the in-memory harnesses do not run: processes, locks, supervision, the core.

Each is planted in a copy of the tree, and the tests of the program that are there for it are run in that copy: in
every process that they start, the bug is there.
"""

import inspect
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import cache_from_source
from pathlib import Path

from planted import Bug, changed_source, function_of
from planted_waits import WAITS

from lorch_actors import processes

ROOT = Path(__file__).parent.parent.parent
TESTS_S = 240
ENDING_S = 5.0
MARKER = "LORCH_PLANTED"

GUARDIAN = "tests/guardian/test_guardian.py::"
KILLS = "tests/runs/test_stopping.py::test_one_second_after_a_kill_nothing_of_the_run_is_alive"
LOCKS = "tests/runs/test_locks_held.py::test_every_lock_is_held_while_a_run_works"
FRONT = "tests/actors/test_process_actor.py::"
WORKER = "tests/actors/test_worker_process.py::"
LOSSES = "tests/workflow/test_losses.py::"
TAIL = "tests/storage/test_ledger.py::"
ORDER = "tests/crash/test_sync_order.py::"

IN_STORAGE = (
    Bug(
        "a receipt that was refused is forgotten",
        "tests/records/test_rebuild.py::test_a_receipt_that_was_refused_is_written_later",
        "lorch_actors.records.projector:Projector.settle",
        "write_all(self._due)",
        "due, self._due = self._due, {}; write_all(due)",
    ),
    Bug(
        "a failed sync is not undone",
        f"{TAIL}test_nothing_is_trusted_after_a_failed_sync",
        "lorch_actors.storage.ledger:LedgerFile.sync",
        "self._undo()",
    ),
    Bug(
        "what was cut back is not synced",
        f"{ORDER}test_what_a_failed_sync_left_is_cut_off_for_certain",
        "lorch_actors.storage.ledger:LedgerFile._cut_back",
        "disk.sync_file(self._fd)",
    ),
    Bug(
        "a repair is not synced",
        f"{TAIL}test_a_repair_is_synced",
        "lorch_actors.storage.ledger:_finish_tail",
        "disk.sync_file(append_fd)",
    ),
    Bug(
        "a torn tail is cut before its copy is synced",
        f"{ORDER}test_a_torn_tail_is_kept_for_certain_before_it_is_cut",
        "lorch_actors.storage.ledger_repair:_copy",
        "disk.sync_file(copy)",
    ),
    Bug(
        "the copy's name is not synced",
        f"{ORDER}test_a_torn_tail_is_kept_for_certain_before_it_is_cut",
        "lorch_actors.storage.ledger_repair:copy_aside",
        "disk.sync_directory(path.parent)",
    ),
    Bug(
        "git's exclude file is renamed unsynced",
        f"{ORDER}test_a_file_of_gits_is_whole_before_it_takes_its_place",
        "lorch_actors.storage.git_repository:_replace_keeping_mode",
        "disk.sync_file(fd)",
    ),
    Bug(
        "a second writer goes unnoticed",
        f"{TAIL}test_a_second_writer_is_noticed",
        "lorch_actors.storage.ledger:LedgerFile.append",
        "self._require_alone()",
    ),
)
LOCKS_GONE = (
    Bug(
        "the ledger is written without its lock",
        LOCKS,
        "lorch_actors.actors.ledger_worker:LedgerWorker.open",
        "hold(place.lock, this_process(place.run_id, place.started_at), wait_s=LOCK_WAIT_S)",
        "None",
    ),
    Bug(
        "run.json is written without its lock",
        LOCKS,
        "lorch_actors.actors.run_state_keeper:RunStateWorker.open",
        "hold(workspace.run_state_lock, holder, wait_s=LOCK_WAIT_S)",
        "None",
    ),
    Bug(
        "the run takes no lock",
        LOCKS,
        "lorch_actors.actors.orchestrator:run_orchestrator",
        "with locks.hold(workspace.lock, me):",
        "if True:",
    ),
    Bug(
        "the guardian takes no lock",
        LOCKS,
        "lorch_actors.guardian.lock:GuardianLock._take",
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    ),
    Bug(
        "rebuild takes no lock",
        "tests/runs/test_locks_held.py::test_nobody_rebuilds_beside_a_run",
        "lorch_actors.cli.files:rebuild_command.callback",
        'with locks.hold(workspace.lock, locks.this_process("", to_timestamp(time.time_ns() // 1_000_000))):',
        "if True:",
    ),
    Bug(
        "the orchestrator keeps the guardian's lock",
        "tests/guardian/test_guardian_lock.py::test_an_orchestrator_does_not_hold_the_lock_of_a_dead_guardian",
        "lorch_actors.guardian.supervising:_Guardian._become_orchestrator",
        "self._lock.close_copy()",
    ),
)
PROCESSES = (
    Bug(
        "the guardian adopts no orphans",
        f"{GUARDIAN}test_a_killed_orchestrator_is_replaced_and_all_it_left_is_ended",
        "lorch_actors.guardian.supervising:_Guardian.run",
        "processes.set_child_subreaper()",
    ),
    Bug(
        "the orchestrator adopts no orphans",
        KILLS,
        "lorch_actors.actors.orchestrator:run_orchestrator",
        "processes.set_child_subreaper()",
    ),
    Bug(
        "an exec agent adopts no orphans",
        "tests/agents/test_exec_agent.py::test_nothing_that_a_command_started_outlives_it",
        "lorch_actors.agents.exec:ExecAgent.prepare",
        "processes.set_child_subreaper()",
    ),
    Bug(
        "the guardian ends no leftovers",
        f"{GUARDIAN}test_a_killed_orchestrator_is_replaced_and_all_it_left_is_ended",
        "lorch_actors.guardian.supervising:_Guardian._run_once",
        "self._end_leftovers()",
    ),
    Bug(
        "a resume ends no leftovers",
        "tests/runs/test_stopping.py::test_what_outlived_guardian_and_orchestrator_is_ended_by_who_comes_next",
        "lorch_actors.actors.resuming:end_leftovers",
        "processes.end_all(find, deadline_s=5.0)",
    ),
    Bug(
        "nobody watches the guardian",
        KILLS,
        "lorch_actors.actors.orchestrator:Orchestrator.play",
        "runtime.reactor.watch_process(link.pidfd, lambda: self._inbox.tell(GuardianLost()), ring.MAIN)",
    ),
    Bug(
        "a worker does not watch the orchestrator",
        f"{WORKER}test_workers_are_gone_within_a_second_of_their_orchestrator",
        "lorch_actors.actors.worker_process:_OrphanWatch._watch",
        "os._exit(0)",
    ),
    Bug(
        "a worker keeps what it inherits",
        f"{WORKER}test_a_worker_holds_nothing_that_is_not_its_own",
        "lorch_actors.actors.worker_process:work",
        "close_all_but(socket_fd, orchestrator_pidfd)",
    ),
    Bug(
        "a worker that stands still is not killed",
        f"{FRONT}test_a_worker_that_stands_still_is_replaced",
        "lorch_actors.actors.process_actor:ProcessActor._on_stall",
        "link.kill()",
    ),
    Bug(
        "a front that hangs keeps its worker",
        f"{WORKER}test_a_front_that_hangs_is_cut_off_together_with_its_worker",
        "lorch_actors.actors.process_actor:ProcessActor._kill",
        "link.kill()",
    ),
    Bug(
        "a front that ends leaves its worker",
        f"{WORKER}test_a_front_that_crashes_leaves_no_worker_that_stands_still",
        "lorch_actors.actors.process_host:ProcessLink.release",
        "self.kill()",
    ),
    Bug(
        "an agent is found by descent alone",
        "tests/actors/test_agent_process.py::test_who_is_not_below_us_any_more_is_known_by_the_marker",
        "lorch_actors.actors.agent_process:AgentProcess._escaped",
        "processes.marked(AGENT_ID_VARIABLE, self.agent_id)",
        "set()",
    ),
    Bug(
        "a pid is taken for a process",
        "tests/test_processes.py::test_a_reused_pid_is_neither_the_old_process_nor_killed",
        "lorch_actors.processes:kill",
        "identify(identity.pid) != identity or ",
        "",
    ),
    Bug(
        "processes are killed one by one while they fork",
        "tests/test_processes.py",
        "lorch_actors.processes.hunt:_Hunt._kill_groups",
        "os.killpg(group, signal.SIGKILL)",
    ),
    Bug(
        "the last words of an agent are not read",
        "tests/runs/test_faults_agents.py::test_last_words_of_an_agent_that_is_gone",
        "lorch_actors.actors.agent_keeper:ProcessKeeper._on_cleared",
        "self._drain()",
        "self._finish_process()",
    ),
)
SUPERVISION = (
    Bug(
        "the restart intensity has no end",
        "tests/actors/test_supervisor.py::test_a_supervisor_that_restarts_without_end",
        "lorch_actors.actors.supervisor:Supervisor._admit",
        "self._window.admit(self.now_ms())",
        "True",
    ),
    Bug(
        "the guardian restarts without end",
        f"{GUARDIAN}test_the_sixth_death_within_the_window_ends_the_run_resumably",
        "lorch_actors.guardian.supervising:_Guardian._allow_restart",
        "len(self._restarts) >= self._limits.restarts",
        "False",
    ),
    Bug(
        "missed beats are forgiven",
        f"{GUARDIAN}test_an_orchestrator_that_stands_still_is_killed_and_replaced",
        "lorch_actors.guardian.supervising:_Guardian._miss_beats",
        "signal.pidfd_send_signal(orchestrator.pidfd, signal.SIGKILL)",
    ),
    Bug(
        "what a dead worker had in hand is forgotten",
        f"{FRONT}test_a_worker_that_fails_is_reported_and_its_messages_come_again",
        "lorch_actors.actors.process_actor:ProcessActor._launch",
        "self._sent = 0",
    ),
    Bug(
        "a poisoned message comes for ever",
        f"{FRONT}test_three_deaths_on_one_message_name_it",
        "lorch_actors.actors.process_actor:ProcessActor._on_death",
        "self._deaths >= self._deaths_max",
        "False",
    ),
    Bug(
        "a start that hangs is waited for",
        "tests/actors/test_supervisor.py::test_a_start_that_hangs_is_a_failed_start",
        "lorch_actors.actors.supervisor:Supervisor._on_overdue",
        "self._abandon(one)",
        "return",
    ),
    Bug(
        "children are stopped in the order of their start",
        "tests/actors/test_supervision.py::test_children_start_in_order_and_stop_in_reverse",
        "lorch_actors.actors.supervisor:Supervisor._advance",
        "self._stop_child(doomed[-1])",
        "self._stop_child(doomed[0])",
    ),
    Bug(
        "silence is no sign",
        "tests/runs/test_wire.py::test_missing_heartbeats",
        "lorch_actors.actors.agent:AgentActor._expect_heartbeat",
        "silent_ms >= limit_ms",
        "False",
    ),
    Bug(
        "a flood is read as fast as it comes",
        "tests/actors/test_agent_pipes.py",
        "lorch_actors.actors.agent_pipes:Pipes.regulate",
        "self._reactor.pause_read(self._stdout)",
    ),
    Bug(
        "what a restarted actor was asked for is forgotten",
        "tests/runs/test_raise_everywhere.py::test_raised_while_the_builder_works",
        "lorch_actors.actors.conductor:Conductor._fold",
        "self._given.clear()",
    ),
)
CORE = (
    Bug(
        "the backoff has no cap",
        f"{LOSSES}test_the_first_restart_is_at_once_and_later_ones_back_off",
        "lorch_actors.workflow.losses:backoff_ms",
        "min(float(backoff.max_ms), backoff.initial_ms * backoff.multiplier**exponent)",
        "backoff.initial_ms * backoff.multiplier**exponent",
    ),
    Bug(
        "the first restart waits",
        f"{LOSSES}test_the_first_restart_is_at_once_and_later_ones_back_off",
        "lorch_actors.workflow.losses:backoff_ms",
        "return 0",
        "restarts = 1",
    ),
    Bug(
        "attempts are not used up",
        f"{LOSSES}test_attempts_are_used_up",
        "lorch_actors.workflow.losses:_verdict",
        "attempt >= pending.command.retry.max_attempts",
        "False",
    ),
    Bug(
        "restarts without a settled step have no limit",
        f"{LOSSES}test_restarts_without_a_settled_step_have_a_limit",
        "lorch_actors.workflow.losses:_verdict",
        "run.agent(role).restarts >= run.policy.max_agent_restarts",
        "False",
    ),
    Bug(
        "waits have no bound",
        "tests/runs/test_wire.py::test_wait_past_the_limit",
        "lorch_actors.workflow.losses:_verdict",
        "pending.waited_ms + wished_ms <= max_wait_s * 1000",
        "True",
    ),
    Bug(
        "a crash costs no attempt",
        f"{LOSSES}test_attempts_are_used_up",
        "lorch_actors.workflow.fold_agents:_agent_exited",
        "loss=crash if lost else pending.loss",
        "loss=pending.loss",
    ),
    Bug(
        "a journal answers no repeat",
        "tests/agents/test_agent_base.py::test_a_repeat_is_answered_without_doing_the_work",
        "lorch_actors.agents.journal:Journal.answer",
        "if offset is None:",
        "if True:",
    ),
    Bug(
        "an answer counts although its files are gone",
        "tests/agents/test_agent_journal.py::test_an_answer_whose_files_are_no_longer_as_claimed_is_none",
        "lorch_actors.agents.journal:Journal.answer",
        "all(files.holds(workspace, claim) for claim in outcome.artifacts or ())",
        "True",
    ),
    Bug(
        "what may still be lost is acted on",
        "tests/actors/test_subscribers.py::test_conductor_does_nothing_but_append_until_it_is_durable",
        "lorch_actors.actors.conductor:Conductor._when_durable",
        "self._position.seq <= self._durable_seq",
        "True",
    ),
    Bug(
        "a fresh agent is swept away as a stray",
        "tests/actors/test_agent_process.py::test_an_agent_that_has_no_environment_yet_is_not_swept_away",
        "lorch_actors.actors.agent_process:AgentProcess._escaped",
        " - _OWNED",
        "",
    ),
    Bug(
        "a signal wakes nobody",
        "tests/actors/test_inbox.py::test_a_signal_that_another_thread_gets_wakes_it",
        "lorch_actors.actors.inbox:Inbox.hearing",
        "signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)",
        "-1",
    ),
)
IN_THE_TREE = (*IN_STORAGE, *LOCKS_GONE, *PROCESSES, *SUPERVISION, *CORE, *WAITS)


def copied_tree(root: Path) -> Path:
    """Copy package and tests below ``root``, compiled modules included, and return where."""
    for name in ("lorch_actors", "tests", "fixtures", "docs"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("pyproject.toml", "README.md", "supervisor.py"):
        shutil.copy2(ROOT / name, root / name)
    return root


@contextmanager
def planted_in(root: Path, bug: Bug) -> Iterator[None]:
    """Have a bug in a copy of the tree."""
    function = function_of(bug)
    path = root / Path(function.__code__.co_filename).relative_to(ROOT)
    source = inspect.getsource(function)
    content = path.read_text()
    assert content.count(source) == 1, f"{bug.name}: the function does not stand there once"
    _put(path, content.replace(source, changed_source(bug, source)))
    yield
    _put(path, content)


def _put(path: Path, content: str) -> None:
    path.write_text(content)
    Path(cache_from_source(path)).unlink(missing_ok=True)  # it is told to be older by its second only


def told_by_tests(root: Path, *selected: str) -> list[str]:
    """Run tests in a copy of the tree; return those that fail. Raises AssertionError when none of them ran.

    What a planted bug leaves behind is ended.
    """
    mark = uuid.uuid4().hex
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
        *selected,
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), MARKER: mark}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TESTS_S,
        )
    finally:
        processes.end_all(lambda: processes.marked(MARKER, mark), deadline_s=ENDING_S)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
