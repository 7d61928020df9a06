"""The orchestrator process: builds the tree, waits for its end, and answers signals in between.

The main thread is no actor. It has one inbox, and everything that concerns the whole run arrives there: the end of the
run, a stop that was asked for, a disk that refuses, a supervisor that gave up, a guardian that died.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from lorch_actors import processes
from lorch_actors.actors import agent_process, ring
from lorch_actors.actors.child import ChildSpec
from lorch_actors.actors.conductor import BEAT_MS
from lorch_actors.actors.inbox import Inbox
from lorch_actors.actors.last_words import speak
from lorch_actors.actors.messages import Crash
from lorch_actors.actors.opening import Opening, Settled, this_process
from lorch_actors.actors.request import RunRequest
from lorch_actors.actors.resuming import choose_run, end_leftovers, nothing_there, open_run
from lorch_actors.actors.run_tree import RunTree
from lorch_actors.actors.runtime import Runtime, start_runtime
from lorch_actors.actors.transcript import console_for
from lorch_actors.actors.tree import Tree, start_tree
from lorch_actors.errors import ExitCode, FailureCode, InterruptedRun, LorchError
from lorch_actors.guardian import console
from lorch_actors.guardian.link import GuardianLink
from lorch_actors.processes.watermark import set_watermark
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.records.history import load_run
from lorch_actors.records.rebuild import complete, complete_finished
from lorch_actors.storage import locks
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.state import Run

PRELOAD: Final = (
    "lorch_actors.actors.ledger_writer",
    "lorch_actors.actors.run_state_keeper",
    "lorch_actors.actors.snapshotter",
    "filelock",
)
"""What worker processes need."""

HALT_MS: Final = 15_000
STOP_MS: Final = 10_000
SWEEP_S: Final = 0.8
CONSOLE_S: Final = 1.0
RESUME: Final = "`lorch resume` goes on with it."
AT_ONCE_MS: Final = 300
REASON_MS: Final = 1_000
"""How long the root may take to say why it ended, once nobody bears its name."""


class SignalCame(Struct, frozen=True):
    """To the main thread: a signal asks for the end."""

    number: int


class GuardianLost(Struct, frozen=True):
    """To the main thread: the guardian has died."""


class TreeEnded(Struct, frozen=True):
    """To the main thread: the root supervisor is gone."""


class Overdue(Struct, frozen=True):
    """To the main thread: the stop has taken too long."""


class ChildEnded(Struct, frozen=True):
    """To the main thread: some child process ended, perhaps one that was adopted."""


SIGNALS: Final[Mapping[int, SignalCame | ChildEnded | None]] = {
    signal.SIGINT: SignalCame(signal.SIGINT),
    signal.SIGTERM: SignalCame(signal.SIGTERM),
    signal.SIGCHLD: ChildEnded(),
    signal.SIGHUP: None,
}


class Ending(Struct, frozen=True):
    """How a run ended: the exit code, what is to be said of it, and whether there is no time left to stop in order."""

    code: ExitCode
    error: LorchError | None = None
    at_once: bool = False


def _interrupted(message: str, remedy: str = "", *, at_once: bool = False) -> Ending:
    return Ending(ExitCode.INTERRUPTED, InterruptedRun(message, remedy=remedy or RESUME), at_once)


def run_orchestrator(request: RunRequest, link: GuardianLink) -> ExitCode:
    """Carry out a run or its resumption to the end; return the exit code. Raises LorchError for what is refused."""
    processes.set_name("lorch-orchestra")
    processes.set_child_subreaper()
    workspace = Workspace(request.workspace)
    process = this_process()
    if request.resume and workspace.is_untouched:
        return _say_settled(request, link, nothing_there(request, workspace))  # and nothing is made there
    workspace.prepare()
    holder = locks.holder_of(workspace.lock) or {}
    held_before = holder.get("run_id") if isinstance(holder.get("run_id"), str) else None
    run_id = choose_run(request, link, workspace, held_before if holder.get("guardian") == link.guardian_pid else None)
    link.beat()
    os.environ[agent_process.RUN_ID_VARIABLE] = run_id or ""
    set_watermark(run_id or "")
    os.chdir("/")  # what runs here must find no modules in the workspace, which agents write to
    started_at = to_timestamp(_wall_ms())
    me = locks.this_process(run_id or "", started_at) | {"guardian": link.guardian_pid}
    runtime = start_runtime(preload=PRELOAD)  # before there is a lock or a thread: workers are forked from here
    try:
        with locks.hold(workspace.lock, me):
            workspace.remove_leftovers()
            opening = open_run(request, link, workspace, run_id, process)
            link.beat()
            if request.resume or link.start or held_before:  # else the run is new, and nobody was here before it
                end_leftovers(Run(run_id or "") if isinstance(opening, Settled) else opening.loaded.run, held_before)
            if isinstance(opening, Settled) or not opening.loaded.run.started:
                complete_finished(workspace)
            if isinstance(opening, Settled):
                return _say_settled(request, link, opening)
            return Orchestrator(request, link, workspace, opening, process, started_at, runtime).play()
    finally:
        runtime.close()


def _say_settled(request: RunRequest, link: GuardianLink, settled: Settled) -> ExitCode:
    run = settled.run
    if run is not None and link.start > 0:
        # It ended under an orchestrator that did not come to say so.
        speak(lambda: request.closing(run, settled.code), link.beat)
    elif settled.message and not request.quiet:
        console.notice(settled.message)
    return settled.code


class Orchestrator:
    """One run on its tree of actors."""

    def __init__(
        self,
        request: RunRequest,
        link: GuardianLink,
        workspace: Workspace,
        opening: Opening,
        process: ProcessRef,
        started_at: str,
        runtime: Runtime,
    ) -> None:
        self._request = request
        self._link = link
        self._workspace = workspace
        self._opening = opening
        self._process = process
        self._started_at = started_at
        self._inbox = Inbox()
        self._runtime = runtime
        self._console = console_for(quiet=request.quiet, json=request.json)
        self._run = opening.loaded.run
        self._stop_asked_ms: int | None = None

    def play(self) -> ExitCode:
        """Run to the end, whichever it is."""
        runtime, link = self._runtime, self._link
        runtime.directory.register(ring.MAIN, self._inbox)
        with contextlib.closing(self._inbox), self._inbox.hearing(SIGNALS):
            runtime.reactor.watch_process(link.pidfd, lambda: self._inbox.tell(GuardianLost()), ring.MAIN)
            tree = start_tree(runtime, self._tree())
            if runtime.directory.when_free(ring.RUN_SUPERVISOR, lambda: self._inbox.tell(TreeEnded())):
                self._inbox.tell(TreeEnded())
            ending = self._wait(tree)
            self._stop(tree, at_once=ending.at_once)
            if ending.error is None:
                complete(self._workspace, self._opening.run_id)
        self._say_end(ending)
        return ending.code

    def _tree(self) -> ChildSpec:
        plan = RunTree(self._workspace, self._opening, self._process, self._started_at, self._link, self._console)
        return plan.root()

    # -- until the end ------------------------------------------------------------------------------------------

    def _wait(self, tree: Tree) -> Ending:
        """Return how the run ended."""
        while True:
            match self._inbox.wait():
                case ring.Finished(run):
                    self._run = run
                    done = run.status is RunStatus.COMPLETED
                    return Ending(ExitCode.DONE if done else ExitCode.FAILED)
                case ring.Halted(run):
                    self._run = run
                    return Ending(ExitCode.INTERRUPTED)
                case ring.Broken(_, message, remedy):
                    self._runtime.tell(ring.CONDUCTOR, ring.Halt(FailureCode.STORAGE_FAILED, message))
                    return _interrupted(message, remedy)
                case SignalCame(number):
                    if self._stop_asked_ms is None:
                        self._halt(signal.Signals(number).name)
                    elif self._runtime.clock.steady_ms() - self._stop_asked_ms > AT_ONCE_MS:
                        return _interrupted("stopped at once", at_once=True)
                case GuardianLost():
                    return _interrupted("the guardian was killed", at_once=True)
                case TreeEnded():
                    return Ending(ExitCode.INTERRUPTED, _why(tree))
                case Overdue():
                    return _interrupted("the stop took too long", at_once=True)
                case ChildEnded():
                    agent_process.reap_strays()

    def _halt(self, why: str) -> None:
        """Finish writing and stop resumably; a second signal does not wait for that.

        One that was sent to the whole group arrives twice within a moment, once by way of the guardian.
        """
        self._stop_asked_ms = self._runtime.clock.steady_ms()
        if not self._request.quiet:
            console.notice("stopping; once more stops at once")
        self._runtime.tell(ring.CONDUCTOR, ring.Halt(FailureCode.SIGNAL, f"stopped by {why}"))
        deadline = self._runtime.clock.steady_ms() + HALT_MS
        self._runtime.reactor.call_at(deadline, lambda: self._inbox.tell(Overdue()))

    def _stop(self, tree: Tree, *, at_once: bool) -> None:
        """Stop the tree in reverse order; then, or at once, whatever is left goes without being asked."""
        if at_once:
            self._end_everything()
        else:
            tree.stop()
        for _ in range(0 if at_once else STOP_MS // BEAT_MS):
            self._link.beat()
            if tree.wait(BEAT_MS) is not None:
                break
        else:
            tree.abandon()
        self._runtime.close()
        self._end_everything()
        self._link.beat()

    def _end_everything(self) -> None:
        own = os.getpid()
        processes.end_all(lambda: processes.descendants(own), deadline_s=SWEEP_S)

    def _say_end(self, ending: Ending) -> None:
        if self._console is not None:
            self._console.close(CONSOLE_S)
        if ending.error is not None:
            self._run = self._recorded()

        def words() -> None:
            if ending.error is not None:
                print(f"lorch: {ending.error}", file=sys.stderr)
            self._request.closing(self._run, ending.code)

        speak(words, self._link.beat)

    def _recorded(self) -> Run:
        """Return the run as the ledger has it: the conductor had no chance to tell."""
        with contextlib.suppress(LorchError):
            return load_run(self._workspace, self._run.run_id).run
        return self._run


def _why(tree: Tree) -> LorchError:
    reason = tree.wait(REASON_MS)
    if isinstance(reason, Crash) and isinstance(reason.exception, LorchError):
        error = reason.exception
        return InterruptedRun(error.what, where=error.where, remedy=error.remedy or RESUME)
    return InterruptedRun(f"the tree of actors ended: {reason}", remedy=RESUME)


def _wall_ms() -> int:
    import time

    return time.time_ns() // 1_000_000
