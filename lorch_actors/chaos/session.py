"""A chaos run from its first task to its report: runs batches of tasks, hurts what carries them out, resumes, counts.

One thread, one loop: it reads the ledger as it grows, watches the victims' ends by pidfd, and strikes when it is time.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lorch_actors import processes
from lorch_actors.chaos import orphans, strikes
from lorch_actors.chaos.promises import Accounts, audit
from lorch_actors.chaos.resources import Resources
from lorch_actors.chaos.settings import GUARDIAN, ORCHESTRATOR, Dealer, Settings
from lorch_actors.chaos.strikes import Strike, Victims, wall_ms
from lorch_actors.chaos.tail import Note, Tail
from lorch_actors.chaos.workload import SOAK_STEP_MS, STEP_MS, Workload
from lorch_actors.errors import ExitCode
from lorch_actors.processes import ProcessIdentity
from lorch_actors.storage.workspace import Workspace

LOOK_MS: Final = 2
SAMPLE_MS: Final = 1000.0
NOBODY_THERE_S: Final = 0.3
"""After so long without a victim of the role that is due, another one is drawn."""
STANDS_STILL_S: Final = 120.0
"""No command and no answer for so long: the run hangs."""
RESUMES_MAX: Final = 5
"""So many resumptions by hand without a single answer in between: it does not go on."""
STOP_S: Final = 30.0
REST_S: Final = 5.0
"""Longest time without a strike, for the sake of measuring how the run comes back."""
TASK_S: Final = 0.9
SOAK_TASK_S: Final = 1.3
"""About how long a task takes; only the size of the batches depends on it."""
BATCH_MAX: Final = 12
ANSWERS: Final = frozenset({"builder.completed", "review.completed", "spec.updated"})


class Session:
    """One chaos run. say: takes a remark about how it goes, a line at a time; detail: one about each strike."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        say: Callable[[str], None] = lambda _: None,
        detail: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.root = root
        self.settings = settings
        self.is_soak = settings.kills is None
        self.workload = Workload(root, step_ms=SOAK_STEP_MS if self.is_soak else STEP_MS)
        self.strikes: list[Strike] = []
        self.tails: dict[str, Tail] = {}
        self.resources = Resources()
        self.found = Accounts()
        self.orphans = orphans.OrphanWatch(self.found)
        self.by_hand = 0
        self.interrupted = False
        self.duration_s = 0.0
        self._say = say
        self._detail = detail
        self._workspace = Workspace(root)
        self._dealer = Dealer(settings)
        self._victims = Victims(root, self._dealer)
        self._began = time.monotonic()
        self._watched: list[Strike] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._strike_at = 0.0
        self._nobody_since: float | None = None
        self._sample_at = 0.0
        self._progress = (0, 0.0)  # answers and commands so far, and since when
        self._paused_until = 0.0
        self._rest_until, self._rest_from = 0.0, 0
        self._given_up = False
        self._card = self._dealer.card()

    # -- runs ---------------------------------------------------------------------------------------------------

    def play(self) -> Accounts:
        """Run to the end and audit; return the accounts. A Ctrl-C ends it early, in good order."""
        try:
            while self._more() and not self._given_up:
                self._run_batch()
        except KeyboardInterrupt:
            self.interrupted = True
        for strike in self._watched:
            strike.release()
        self.orphans.look_at_the_end()
        self.duration_s = time.monotonic() - self._began
        seen = {run_id: tail.acknowledged for run_id, tail in self.tails.items()}
        tasks = self.workload.tasks
        found = audit(self.root, seen, tasks=tasks, whole=not self.interrupted and not self._given_up)
        found.broken[:0] = self.found.broken
        for identity, who in self.resources.zombies.items():
            found.breach("no-zombies", identity.pid, f"it had ended, and nobody reaped it: {who}")
        if leaked := self.resources.leaked():
            found.breach("no-leaks", self.root, f"a process gained {leaked} descriptors")
        return found

    @property
    def notes(self) -> list[Note]:
        """What all ledgers said, in order."""
        return [note for tail in self.tails.values() for note in tail.notes]

    def _more(self) -> bool:
        if self.settings.kills is not None:
            return len(self.strikes) < self.settings.kills
        return time.monotonic() - self._began < self.settings.duration_s

    def _batch_size(self) -> int:
        if self.settings.kills is None:
            left_s = self.settings.duration_s - (time.monotonic() - self._began)
            return max(4, round(left_s / SOAK_TASK_S))
        left_s = (self.settings.kills - len(self.strikes)) * sum(self.settings.pace_s) / 2
        return min(BATCH_MAX, max(3, round(left_s / TASK_S)))

    def _run_batch(self) -> None:
        """Run the next tasks to their end, resuming by hand whenever nobody else is left to do it."""
        before = set(self._workspace.run_ids())
        size = self._batch_size()
        tasks = str(self.workload.batch(size))
        self._say(f"{len(self.strikes)} strikes so far; the next run has {size} tasks")
        anew = ["run", "--from", tasks, "--on-failure", "continue"]
        arguments, fruitless, answers = anew, 0, self._answers()
        while True:
            code = self._run(arguments, before)
            if self._given_up or code in (ExitCode.DONE, ExitCode.FAILED):
                return
            fruitless = 0 if self._answers() > answers else fruitless + 1
            answers = self._answers()
            if (code != ExitCode.INTERRUPTED and code >= 0) or fruitless > RESUMES_MAX:
                self._give_up("goes-on", f"`{' '.join(arguments)}` ended with exit code {code}")
                return
            self.by_hand += 1
            run_id = self._run_id(before)
            is_started = run_id is not None and self.tails[run_id].started
            arguments = ["resume", "--run", str(run_id)] if is_started else [*anew, "--new"]

    def _give_up(self, promise: str, what: str) -> None:
        self._given_up = True
        self.found.breach(promise, self.root, what)

    def _answers(self) -> int:
        return sum(note.name in ANSWERS for note in self.notes)

    def _run_id(self, before: set[str]) -> str | None:
        """Return the run of this batch, which was not there before, and have a tail on each that may be it.

        A guardian that was killed early leaves an empty ledger, perhaps a moment after the next run began; there is
        never more than one that began.
        """
        new = set(self._workspace.run_ids()) - before
        for run_id in sorted(new - self.tails.keys()):
            self.tails[run_id] = Tail(self._workspace.ledger(run_id))
        seen = [run_id for run_id in self.tails if run_id in new]
        for run_id in seen:
            if not self.tails[run_id].started:
                self.tails[run_id].look(wall_ms())
        return next((run_id for run_id in seen if self.tails[run_id].started), seen[-1] if seen else None)

    def _run(self, arguments: Sequence[str], before: set[str]) -> int:
        """Start a command and hurt it until it ends; return its exit code (negative: the signal it died of)."""
        with open(self.workload.notes / "console.txt", "ab") as console:
            process = subprocess.Popen(
                [sys.executable, "-m", "lorch_actors.chaos.subject", *arguments],
                cwd=self.root,
                env={**os.environ, orphans.MARKER: self.orphans.token},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        guardian = processes.identify(process.pid)
        assert guardian is not None, "a child that nobody has waited for"
        self._progress = (0, time.monotonic())
        pidfd = os.pidfd_open(process.pid)
        try:
            self._turn_until_end(guardian, pidfd, before)
        except KeyboardInterrupt:
            self._stop(process, pidfd)
            raise
        finally:
            os.close(pidfd)
        code = process.wait()
        if code < 0:
            self.orphans.look_after_guardian(self.strikes, meanwhile=self._watch_on)
        return code

    def _stop(self, process: "subprocess.Popen[bytes]", pidfd: int) -> None:
        """Ask the run to stop; end it if it does not."""
        self._say("stopping the run")
        process.send_signal(signal.SIGCONT)
        process.terminate()
        if not strikes.wait_for_end(pidfd, STOP_S):
            self.found.breach("stops", process.pid, f"it did not stop within {STOP_S:g} s")
            process.kill()
        process.wait()

    # -- one turn of the loop -----------------------------------------------------------------------------------

    def _turn_until_end(self, guardian: ProcessIdentity, pidfd: int, before: set[str]) -> None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        run_id = None
        self._strike_at = time.monotonic() + self._dealer.gap_s()
        while not poll.poll(LOOK_MS):
            if run_id is None or not self.tails[run_id].started:
                run_id = self._run_id(before)
            if run_id is None:
                continue
            tail = self.tails[run_id]
            self._look(tail, guardian)
            if self._more() and time.monotonic() >= self._strike_at:
                self._strike(tail, guardian)
            if self._stands_still(tail):
                self._give_up("no-hang", f"nothing was asked or answered for {STANDS_STILL_S:g} s")
                processes.kill(guardian, signal.SIGKILL)
        if run_id is not None:
            self._look(self.tails[run_id], guardian)

    def _look(self, tail: Tail, guardian: ProcessIdentity) -> None:
        now_ms = wall_ms()
        tail.look(now_ms)
        self._watch_on()
        for entry in [entry for entry in self._due if entry[0] <= now_ms]:
            self._due.remove(entry)
            entry[1]()
        if now_ms >= self._sample_at:
            self._sample_at = now_ms + SAMPLE_MS
            self.resources.sample(guardian, self._victims.orchestrator(guardian), now_ms)

    def _watch_on(self) -> None:
        """See what became of the victims; the last of all ledgers is the one that grows."""
        tail = next(reversed(self.tails.values()), None)
        if tail is not None:
            self._watched = [strike for strike in self._watched if strike.watch(tail, wall_ms())]

    def _stands_still(self, tail: Tail) -> bool:
        count = len(tail.notes)
        if count != self._progress[0]:
            self._progress = (count, time.monotonic())
        return time.monotonic() - self._progress[1] > STANDS_STILL_S

    def _strike(self, tail: Tail, guardian: ProcessIdentity) -> None:
        now = time.monotonic()
        # What stands still at the top goes on, or is replaced, before the next strike: both at once is no promise.
        if now < self._paused_until or any(s.is_stopped and s.card.role == ORCHESTRATOR for s in self._watched):
            return
        if now < self._rest_until and not any(note.name == "command" for note in tail.notes[self._rest_from :]):
            return
        ticks = processes.now_ticks()
        orchestrator = self._victims.orchestrator(guardian) if self._card.role == GUARDIAN else None
        strike = self._victims.strike(self._card, tail, guardian)
        if strike is None:
            self._nobody_since = self._nobody_since or now
            if now - self._nobody_since > NOBODY_THERE_S:
                self._dealer.put_under(self._card)
                self._card, self._nobody_since = self._dealer.card(), None
            return
        self._nobody_since = None
        self.strikes.append(strike)
        self._detail(f"{self._card.signal} {strike.name} (process {strike.identity.pid})")
        self._follow_up(strike, ticks, orchestrator)
        self._card = self._dealer.card()
        self._strike_at = now + self._dealer.gap_s()
        if strike.card in {(ORCHESTRATOR, "KILL"), (GUARDIAN, "KILL")}:
            self._rest(strike, tail)

    def _rest(self, strike: Strike, tail: Tail) -> None:
        """Let every second fall of the whole tree be recovered from in peace, which measures it; hurt the other one."""
        if sum(other.card == strike.card for other in self.strikes) % 2 == 1:
            self._rest_until, self._rest_from = time.monotonic() + REST_S, len(tail.notes)

    def _follow_up(self, strike: Strike, ticks: int, orchestrator: ProcessIdentity | None) -> None:
        """Watch what comes of it, and plan what has to be looked at later."""
        card = strike.card
        if card == (GUARDIAN, "STOP"):
            strike.release()
            self._paused_until = time.monotonic() + strikes.PAUSE_S
            self._due.append((strike.at_ms + strikes.PAUSE_S * 1000, lambda: _wake(strike)))
        elif card == (GUARDIAN, "KILL"):
            strike.release()  # what is watched is how long the one below it lives on
            strike.pidfd = processes.proc.open_handle(orchestrator.pid) if orchestrator is not None else None
        elif card == (ORCHESTRATOR, "KILL"):
            when = strike.at_ms + orphans.GONE_WITHIN_S * 1000
            self._due.append((when, lambda: self.orphans.look_after_orchestrator(strike, ticks, self.strikes)))
        self._watched.append(strike)


def _wake(strike: Strike) -> None:
    processes.kill(strike.identity, signal.SIGCONT)
