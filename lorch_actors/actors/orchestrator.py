"""The orchestrator process: builds the tree, waits for its end, and answers signals in between.

The main thread is no actor. It has one inbox, and everything that concerns the whole run arrives there: the end of the
run, a stop that was asked for, a disk that refuses, a supervisor that gave up, a guardian that died.
"""

import contextlib
import os
import queue
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from lorch_actors import processes
from lorch_actors.actors import agent_process, ring
from lorch_actors.actors.agent import AgentActor, Part
from lorch_actors.actors.child import ChildSpec, Restart, Strategy, child
from lorch_actors.actors.conductor import BEAT_MS, Conductor, Score
from lorch_actors.actors.ledger_writer import LedgerPlace, LedgerWriter
from lorch_actors.actors.messages import Crash
from lorch_actors.actors.opening import (
    Opening,
    Settled,
    choose_run,
    end_leftovers,
    open_run,
    planned_tasks,
    this_process,
)
from lorch_actors.actors.restart_recorder import RestartRecorder
from lorch_actors.actors.run_state_keeper import KeeperPlace, RunStateKeeper
from lorch_actors.actors.runtime import Runtime, start_runtime
from lorch_actors.actors.snapshotter import Snapshotter, TreePlace
from lorch_actors.actors.supervisor import Supervisor
from lorch_actors.actors.transcript import Console, Transcript, console_for
from lorch_actors.actors.tree import Tree, start_tree
from lorch_actors.errors import ExitCode, FailureCode, InterruptedRun, LorchError
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.records.history import vouched
from lorch_actors.storage import locks
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.state import LOOP_ROLES, Run
from lorch_actors.workflow.system import ProcessRef

if TYPE_CHECKING:
    from lorch_actors.cli.request import RunRequest
    from lorch_actors.guardian.link import GuardianLink

PRELOAD: Final = (
    "lorch_actors.actors.ledger_writer",
    "lorch_actors.actors.run_state_keeper",
    "lorch_actors.actors.snapshotter",
)
HALT_MS: Final = 15_000
STOP_MS: Final = 10_000
SWEEP_S: Final = 0.8
CONSOLE_S: Final = 1.0
AT_ONCE_MS: Final = 300


@dataclass(frozen=True, slots=True)
class SignalCame:
    """To the main thread: a signal asks for the end."""

    number: int


@dataclass(frozen=True, slots=True)
class GuardianLost:
    """To the main thread: the guardian has died."""


@dataclass(frozen=True, slots=True)
class TreeEnded:
    """To the main thread: the root supervisor is gone."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """To the main thread: the stop has taken too long."""


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """To the main thread: some child process ended, perhaps one that was adopted."""


class Inbox:
    """What the main thread is told. Unbounded, but everybody tells it once or twice in a run."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def tell(self, message: Any) -> None:
        """Take a message, from any thread or signal handler."""
        self._messages.put(message)

    def wait(self) -> Any:
        """Wait for the next one."""
        return self._messages.get()


def run_orchestrator(request: "RunRequest", link: "GuardianLink") -> ExitCode:
    """Carry out a run or its resumption to the end; return the exit code. Raises LorchError for what is refused."""
    processes.set_name("lorch-orchestra")
    processes.set_child_subreaper()
    workspace = Workspace(request.workspace)
    workspace.prepare()
    process = this_process()
    holder = locks.holder_of(workspace.lock) or {}
    held_before = holder.get("run_id") if isinstance(holder.get("run_id"), str) else None
    run_id = choose_run(request, link, workspace, held_before)
    link.beat()
    os.environ[agent_process.RUN_ID_VARIABLE] = run_id or ""
    os.chdir("/")  # what runs here must find no modules in the workspace, which agents write to
    started_at = to_timestamp(_wall_ms())
    with locks.hold(workspace.lock, locks.this_process(run_id or "", started_at)):
        workspace.remove_leftovers()
        opening = open_run(request, link, workspace, run_id, process)
        link.beat()
        if isinstance(opening, Settled):
            return _say_settled(request, opening)
        end_leftovers(opening.loaded.run, held_before)
        return Orchestrator(request, link, workspace, opening, process, started_at).play()


def _say_settled(request: "RunRequest", settled: Settled) -> ExitCode:
    if settled.run is not None:
        request.closing(settled.run, settled.code)
    elif settled.message and not request.quiet:
        print(f"lorch: {settled.message}", file=sys.stderr)
    return settled.code


class Orchestrator:
    """One run on its tree of actors."""

    def __init__(
        self,
        request: "RunRequest",
        link: "GuardianLink",
        workspace: Workspace,
        opening: Opening,
        process: ProcessRef,
        started_at: str,
    ) -> None:
        self._request = request
        self._link = link
        self._workspace = workspace
        self._opening = opening
        self._process = process
        self._started_at = started_at
        self._inbox = Inbox()
        self._runtime = start_runtime(preload=PRELOAD)
        self._console = console_for(quiet=request.quiet, json=request.json)
        self._run = opening.loaded.run
        self._stop_asked_ms: int | None = None

    def play(self) -> ExitCode:
        """Run to the end, whichever it is."""
        runtime, link = self._runtime, self._link
        runtime.directory.register(ring.MAIN, self._inbox)
        with _signals(self._inbox):
            runtime.reactor.watch_process(link.pidfd, lambda: self._inbox.tell(GuardianLost()), ring.MAIN)
            tree = start_tree(runtime, self._root())
            if runtime.directory.when_free(ring.RUN_SUPERVISOR, lambda: self._inbox.tell(TreeEnded())):
                self._inbox.tell(TreeEnded())
            code, error = self._wait(tree)
            self._stop(tree)
        self._say_end(code, error)
        return code

    # -- the tree -----------------------------------------------------------------------------------------------

    def _root(self) -> ChildSpec:
        """Return the spec of the run supervisor: the ledger first, and with it, when its front fails, the ring."""
        opening, policy = self._opening, self._opening.policy
        limits: dict[str, Any] = {
            "intensity": policy.supervisor.restarts,
            "period_ms": round(policy.supervisor.period_s * 1000),
            "report_to": RestartRecorder.NAME,
        }
        agents = child(Supervisor, ring.AGENT_SUPERVISOR, children=[self._agent(role) for role in LOOP_ROLES], **limits)
        around = child(
            Supervisor, ring.RING_SUPERVISOR, children=[*self._projections(), agents, *self._core()], **limits
        )
        run_id = opening.run_id
        place = LedgerPlace(
            path=self._workspace.ledger(run_id),
            lock=self._workspace.ledger_lock(run_id),
            run_id=run_id,
            started_at=self._started_at,
            vouched=vouched(self._workspace, run_id),
        )
        stall_ms = round(policy.worker_stall_s * 1000)
        recorder = child(RestartRecorder, RestartRecorder.NAME, run_id=run_id)
        ledger = child(LedgerWriter, ring.LEDGER, place=place, seen=opening.loaded.recent_ids, stall_ms=stall_ms)
        return child(
            Supervisor,
            ring.RUN_SUPERVISOR,
            children=[recorder, ledger, replace_timeouts(around)],
            strategy=Strategy.REST_FOR_ONE,
            shutdown_ms=STOP_MS,
            start_timeout_ms=60_000,
            **limits,
        )

    def _projections(self) -> list[ChildSpec]:
        opening, workspace, run_id = self._opening, self._workspace, self._opening.run_id
        policy = opening.policy
        stall_ms = round(policy.worker_stall_s * 1000)
        tree = TreePlace(
            root=workspace.root,
            run_id=run_id,
            include=opening.include,
            exclude=opening.exclude,
            verify=policy.verify_artifacts,
            artifact_max_bytes=policy.artifact_max_bytes,
        )
        keeper = KeeperPlace(workspace.root, run_id, self._started_at)
        return [
            child(RunStateKeeper, ring.RUN_STATE, place=keeper, stall_ms=stall_ms),
            child(Snapshotter, ring.SNAPSHOTTER, place=tree, stall_ms=stall_ms),
            child(
                Transcript,
                ring.TRANSCRIPT,
                ledger=workspace.ledger(run_id),
                run_id=run_id,
                path=workspace.transcript(run_id),
                console=self._console,
            ),
        ]

    def _core(self) -> list[ChildSpec]:
        opening = self._opening
        run = opening.loaded.run
        if run.started and len(run.tasks) < run.task_count:
            run = replace(run, planned=planned_tasks(self._workspace, run))
        score = Score(
            root=self._workspace.root,
            ledger=self._workspace.ledger(opening.run_id),
            loaded=type(opening.loaded)(run, opening.loaded.position),
            opening=opening.event,
            process=self._process,
            link=self._link,
        )
        return [child(Conductor, ring.CONDUCTOR, score=score, start_timeout_ms=60_000)]

    def _agent(self, role: Any) -> ChildSpec:
        opening = self._opening
        settings = opening.agents[role]
        own = {
            "LORCH_AGENT_TYPE": role,
            "AGENT_TYPE": role,
            "LORCH_RUN_ID": opening.run_id,
            "LORCH_WORKSPACE": str(self._workspace.root),
            "LORCH_HEARTBEAT_INTERVAL_S": f"{settings.heartbeat_interval_s:g}",
        }
        part = Part(
            role=role,
            run_id=opening.run_id,
            cmd=tuple(settings.cmd),
            env={**os.environ, **settings.env, **own},
            heartbeat_interval_s=settings.heartbeat_interval_s,
            workspace=self._workspace.root,
            log=self._workspace.log(role, opening.run_id),
            policy=opening.policy,
        )
        return child(AgentActor, role, part=part, redactor=opening.redactor, shutdown_ms=STOP_MS)

    # -- until the end ------------------------------------------------------------------------------------------

    def _wait(self, tree: Tree) -> tuple[ExitCode, LorchError | None]:
        """Return how the run ended, and what is to be said about it."""
        while True:
            match self._inbox.wait():
                case ring.Finished(run):
                    self._run = run
                    done = run.status is RunStatus.COMPLETED
                    return (ExitCode.DONE if done else ExitCode.FAILED), None
                case ring.Halted(run):
                    self._run = run
                    return ExitCode.INTERRUPTED, None
                case ring.Broken(_, message, remedy):
                    self._runtime.tell(ring.CONDUCTOR, ring.Halt(FailureCode.STORAGE_FAILED, message))
                    return ExitCode.INTERRUPTED, InterruptedRun(message, remedy=remedy or RESUME)
                case SignalCame(number):
                    if self._stop_asked_ms is None:
                        self._halt(signal.Signals(number).name)
                    elif self._runtime.clock.steady_ms() - self._stop_asked_ms > AT_ONCE_MS:
                        return ExitCode.INTERRUPTED, InterruptedRun("stopped at once", remedy=RESUME)
                case GuardianLost():
                    self._end_everything()
                    return ExitCode.INTERRUPTED, InterruptedRun("the guardian was killed", remedy=RESUME)
                case TreeEnded():
                    return ExitCode.INTERRUPTED, _why(tree)
                case Overdue():
                    return ExitCode.INTERRUPTED, InterruptedRun("the stop took too long", remedy=RESUME)
                case ChildEnded():
                    agent_process.reap_strays()

    def _halt(self, why: str) -> None:
        """Finish writing and stop resumably; a second signal does not wait for that.

        One that was sent to the whole group arrives twice within a moment, once by way of the guardian.
        """
        self._stop_asked_ms = self._runtime.clock.steady_ms()
        if not self._request.quiet:
            print("lorch: stopping; once more stops at once", file=sys.stderr)
        self._runtime.tell(ring.CONDUCTOR, ring.Halt(FailureCode.SIGNAL, f"stopped by {why}"))
        deadline = self._runtime.clock.steady_ms() + HALT_MS
        self._runtime.reactor.call_at(deadline, lambda: self._inbox.tell(Overdue()))

    def _stop(self, tree: Tree) -> None:
        """Stop the tree in reverse order; then whatever is left goes without being asked."""
        tree.stop()
        for _ in range(STOP_MS // BEAT_MS):
            self._link.beat()
            if tree.wait(BEAT_MS) is not None:
                break
        else:
            tree.abandon()
        self._end_everything()
        self._runtime.close()

    def _end_everything(self) -> None:
        own = os.getpid()
        processes.end_all(lambda: processes.descendants(own), deadline_s=SWEEP_S)

    def _say_end(self, code: ExitCode, error: LorchError | None) -> None:
        if self._console is not None:
            self._console.close(CONSOLE_S)
        with contextlib.suppress(BrokenPipeError):
            if error is not None:
                print(f"lorch: {error}", file=sys.stderr)
            self._request.closing(self._run, code)


RESUME: Final = "`python -m lorch_actors resume` goes on with it."


def replace_timeouts(spec: ChildSpec) -> ChildSpec:
    """Return the spec with time for a long ledger to be folded before it counts as hanging."""
    return ChildSpec(spec.name, spec.start, Restart.PERMANENT, STOP_MS, 60_000)


def _why(tree: Tree) -> LorchError:
    reason = tree.wait(0)
    if isinstance(reason, Crash) and isinstance(reason.exception, LorchError):
        error = reason.exception
        return InterruptedRun(error.what, where=error.where, remedy=error.remedy or RESUME)
    return InterruptedRun(f"the tree of actors ended: {reason}", remedy=RESUME)


@contextlib.contextmanager
def _signals(inbox: Inbox) -> Iterator[None]:
    """Turn signals into messages as long as the run lasts."""
    before = {number: signal.signal(number, partial(_on_signal, inbox)) for number in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: inbox.tell(ChildEnded()))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(inbox: Inbox, number: int, _frame: object) -> None:
    inbox.tell(SignalCame(number))


def _wall_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


__all__ = ["Console", "Orchestrator", "Run", "Runtime", "run_orchestrator"]
