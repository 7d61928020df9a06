"""The outermost supervisor: starts the orchestrator, ends what it leaves behind, and starts it again to resume.

It is the process that the user started, it uses the standard library alone and has no thread, so that there is little
in it that could fail. As long as it lives, no death and no standstill below it needs anybody's hand. It promises that
nothing of a dead orchestrator runs beside its successor.
"""

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from lorch_actors import processes
from lorch_actors.errors import ExitCode, InterruptedRun, LockedError, LorchError
from lorch_actors.guardian import console
from lorch_actors.guardian.link import GuardianLink, hear
from lorch_actors.guardian.lock import GuardianLock
from lorch_actors.guardian.order import Limits, Orchestrate, Order, read_order
from lorch_actors.guardian.signals import SignalFile

__all__ = ["RUN_ID_VARIABLE", "UNCAUGHT", "GuardianLink", "Limits", "Orchestrate", "guard"]

RUN_ID_VARIABLE: Final = "LORCH_RUN_ID"
"""Marks every process of a run: it stands in the environment that it was started with."""
UNCAUGHT: Final = 70
"""How an orchestrator ends that raised an exception nobody expected (EX_SOFTWARE of sysexits(3))."""

_REMEMBERED: Final = 1000
_PASSED_ON: Final = frozenset(ExitCode)
_RESUMABLE: Final = "`lorch resume` continues the run."


def guard(
    argv: Sequence[str],
    orchestrate: Orchestrate,
    *,
    show: Callable[[LorchError], None] = lambda error: console.notice(str(error)),
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> int:
    """Carry out a `run` or `resume` under guard; return the exit code.

    argv: the command line without the program's name. `--demo [DIR]` reaches the orchestrator as `--demo=DIR`.
    show: prints an error of ours when nothing runs any more.
    """
    console.fill_standard_descriptors()
    try:
        order = read_order(argv, orchestrate, limits)
        lock = GuardianLock(order.workspace, command=" ".join(["lorch", *argv]), run_id=order.run_id)
        try:
            return _Guardian(order, lock).run()
        finally:
            lock.release()
            order.tidy()
    except LorchError as error:
        # Asked by cron whether something is unfinished: what another run works on is no news.
        if not (isinstance(error, LockedError) and "--if-unfinished" in argv):
            show(error)
        return error.exit_code


class _Orchestrator(NamedTuple):
    """A running orchestrator: its pid, a handle on it, and the pipe its beats come through."""

    pid: int
    pidfd: int
    beats: int


class _Guardian:
    def __init__(self, order: Order, lock: GuardianLock) -> None:
        self._order = order
        self._limits = order.limits
        self._lock = lock
        self._starts = 0
        self._started: deque[processes.ProcessIdentity] = deque(maxlen=_REMEMBERED)
        self._restarts: deque[float] = deque()
        self._stop_asked = False
        self._stalled = False
        self._tracebacks = console.Tracebacks()
        # A shell that replaced itself by us may have left children that are no business of ours.
        self._not_ours = frozenset(processes.descendants(os.getpid()))

    def run(self) -> int:
        processes.set_child_subreaper()
        processes.set_name("lorch-guardian")
        if self._order.run_id is not None:
            os.environ[RUN_ID_VARIABLE] = self._order.run_id
        held_back = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            held_back.remove(signal.SIGINT)  # a shell starts background jobs so: Ctrl-C is not for them
        self._signals = SignalFile(held_back)
        try:
            while True:
                outcome = self._run_once()
                if isinstance(outcome, int):
                    return outcome
                self._allow_restart(outcome)
        finally:
            self._signals.release()

    def _run_once(self) -> int | str:
        """Start an orchestrator, wait for its end and end what it left; return its exit code, or how it died."""
        try:
            orchestrator = self._start()
        except OSError as error:
            raise InterruptedRun(f"the orchestrator cannot be started: {error.strerror}", remedy=_RESUMABLE) from error
        try:
            self._watch(orchestrator)
            return self._outcome(orchestrator)
        finally:
            os.close(orchestrator.pidfd)
            os.close(orchestrator.beats)
            self._end_leftovers()

    def _start(self) -> _Orchestrator:
        """Start an orchestrator, and tell it of the signals that came before it was there.

        It lets none through until then: so one that the terminal sent to both of us meanwhile, and is passed on as
        well, is still pending there and stays one.
        """
        beats, beat_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        waiting, gate = os.pipe2(os.O_CLOEXEC)
        guardian_pid = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                os.close(beats)
                os.close(gate)
                self._become_orchestrator(guardian_pid, beat_fd, waiting)
            self._lock.tell(orchestrator_pid=pid, start=self._starts)
            self._starts += 1
            identity = processes.identify(pid)
            if identity is not None:
                self._started.append(identity)
            orchestrator = _Orchestrator(pid, os.pidfd_open(pid), beats)
            self._pass_signals_on(orchestrator, heard_already=False)
        except OSError:
            os.close(beats)
            raise
        finally:
            for fd in (beat_fd, waiting, gate):
                os.close(fd)
        return orchestrator

    def _become_orchestrator(self, guardian_pid: int, beat_fd: int, waiting: int) -> NoReturn:
        code = UNCAUGHT
        try:
            os.read(waiting, 1)  # nothing will come but its end, also when the guardian dies
            os.close(waiting)
            self._lock.close_copy()  # it must not outlive the guardian
            # A handler, not SIG_IGN: that would be passed on to every program started below.
            signal.signal(signal.SIGHUP, lambda *_: None)
            self._signals.release()
            pidfd = os.pidfd_open(guardian_pid)
            if os.getppid() != guardian_pid:
                os._exit(ExitCode.INTERRUPTED)
            processes.set_name("lorch")
            link = GuardianLink(
                run_id=self._order.run_id,
                start=self._starts,
                predecessors=tuple(self._started),
                workspace=self._order.workspace,
                guardian_pid=guardian_pid,
                pidfd=pidfd,
                beat_fd=beat_fd,
            )
            code = self._order.orchestrate(self._order.argv, link)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
            console.notice("stopped by Ctrl-C; `lorch resume` goes on with a run that has begun")
        except BaseException:  # noqa: BLE001 - shown whole, and the guardian starts anew
            self._tracebacks.show()
        finally:
            console.flush()
            os._exit(code)

    def _watch(self, orchestrator: _Orchestrator) -> None:
        """Return when the orchestrator has ended; end it when its beats stay away."""
        poll = select.poll()
        for source in (orchestrator.pidfd, orchestrator.beats, self._signals.fileno()):
            poll.register(source, select.POLLIN)
        self._stalled = False
        deadline = time.monotonic() + self._limits.beat_s
        while True:
            ready = {source for source, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1)}
            now = time.monotonic()
            if orchestrator.beats in ready:
                if self._hear(orchestrator):
                    poll.unregister(orchestrator.beats)
                elif not self._stalled:
                    deadline = now + self._limits.beat_s
            if self._signals.fileno() in ready:
                self._pass_signals_on(orchestrator, heard_already=True)
            if orchestrator.pidfd in ready:
                return
            if now >= deadline:
                deadline = self._miss_beats(orchestrator, now - deadline)

    def _miss_beats(self, orchestrator: _Orchestrator, late_s: float) -> float:
        """Kill an orchestrator that stands still; return until when to wait for what follows."""
        now = time.monotonic()
        if self._stalled:
            raise InterruptedRun(
                f"the orchestrator (process {orchestrator.pid}) stands still and cannot be ended",
                remedy="Its disk may hang. When the process is gone, `lorch resume` continues the run.",
            )
        if late_s > self._limits.own_stall_s:
            # We stood still ourselves (Ctrl-Z, a debugger), and it was stopped with us.
            return now + self._limits.beat_s
        self._stalled = True
        signal.pidfd_send_signal(orchestrator.pidfd, signal.SIGKILL)
        return now + self._limits.ending_s

    def _hear(self, orchestrator: _Orchestrator) -> bool:
        """Take in what the orchestrator said; return whether it will say no more."""
        heard = hear(orchestrator.beats)
        if heard.has_settled:
            self._restarts.clear()
        return heard.is_over

    def _pass_signals_on(self, orchestrator: _Orchestrator, *, heard_already: bool) -> None:
        """Pass requests to stop on; not a Ctrl-C that the terminal has sent to the orchestrator as well."""
        for received in self._signals.read():
            if received.number == signal.SIGHUP:
                continue
            self._stop_asked = True
            if heard_already and received.number == signal.SIGINT and received.is_from_kernel:
                continue
            signal.pidfd_send_signal(orchestrator.pidfd, received.number)

    def _outcome(self, orchestrator: _Orchestrator) -> int | str:
        self._hear(orchestrator)
        _, status = os.waitpid(orchestrator.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code in _PASSED_ON:
            return code
        if code > 0:
            return f"the orchestrator ended with exit code {code}"
        if self._stalled:
            return f"the orchestrator gave no sign of life for {self._limits.beat_s:g} s and was killed"
        return f"the orchestrator was killed ({signal.Signals(-code).name})"

    def _end_leftovers(self) -> None:
        me = os.getpid()
        left = processes.end_all(
            lambda: processes.descendants(me), deadline_s=self._limits.ending_s, keep=self._not_ours
        )
        if left:
            console.notice(f"these processes of the run could not be ended: {', '.join(map(str, left))}")

    def _allow_restart(self, cause: str) -> None:
        """Say what happens next; raise InterruptedRun when the orchestrator is not to be started again."""
        if self._stop_asked or any(received.number != signal.SIGHUP for received in self._signals.read()):
            raise InterruptedRun(f"{cause} while it was stopping", remedy=_RESUMABLE)
        if not self._order.keep_alive:
            raise InterruptedRun(cause, remedy=_RESUMABLE)
        now = time.monotonic()
        while self._restarts and self._restarts[0] <= now - self._limits.window_s:
            self._restarts.popleft()
        if len(self._restarts) >= self._limits.restarts:
            raise InterruptedRun(
                f"{cause}; giving up after {self._limits.restarts} restarts without a settled step", remedy=_RESUMABLE
            )
        self._restarts.append(now)
        what = self._order.run_id or "the run"
        console.notice(f"{cause}; resuming {what} (restart {len(self._restarts)} of {self._limits.restarts})")
