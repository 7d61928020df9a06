"""Who is still alive that should be gone: found by a marker that every process of the run has in its environment."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from lorch_actors import processes
from lorch_actors.chaos.promises import Accounts
from lorch_actors.chaos.settings import GUARDIAN, ORCHESTRATOR
from lorch_actors.chaos.strikes import Strike, wall_ms
from lorch_actors.processes import ProcessIdentity, proc

MARKER: Final = "LORCH_CHAOS"
GONE_WITHIN_S: Final = 1.0
BOTH_WITHIN_MS: Final = 3000.0
"""Orchestrator and guardian killed so close together count as both at once, for which there is no such promise."""
_LOOK_S: Final = 0.002


def alive(token: str, *, before_ticks: int | None = None) -> dict[ProcessIdentity, str]:
    """Return the processes that carry the token, each with its command line; only those started before, if said."""
    found = {}
    for pid in processes.marked(MARKER, token):
        identity = processes.identify(pid)
        if identity is None or not processes.is_alive(identity):
            continue
        if before_ticks is None or identity.start_ticks < before_ticks:
            words = (proc.read(f"/proc/{pid}/cmdline") or b"").split(b"\0")
            found[identity] = b" ".join(words).decode("utf-8", "replace").strip()
    return found


def left_over(
    token: str, within_s: float, *, meanwhile: Callable[[], None] = lambda: None
) -> dict[ProcessIdentity, str]:
    """Wait until nobody carries the token any more; return who still does after that time."""
    deadline = time.monotonic() + within_s
    while (left := alive(token)) and time.monotonic() < deadline:
        meanwhile()
        time.sleep(_LOOK_S)
    return left


class OrphanWatch:
    """Looks for who should be gone ``within_s`` seconds, and notes it in the accounts; each of them once."""

    def __init__(self, accounts: Accounts, *, within_s: float = GONE_WITHIN_S) -> None:
        self.token = secrets.token_hex(8)
        self.found: set[ProcessIdentity] = set()
        self._accounts = accounts
        self._within_s = within_s

    def look_after_orchestrator(self, strike: Strike, ticks: int, strikes: Sequence[Strike]) -> None:
        """Look a second after its death, unless the guardian was hurt meanwhile. ticks: when it was killed."""
        if any(other.card.role == GUARDIAN and other.at_ms > strike.at_ms for other in strikes):
            return
        left = alive(self.token, before_ticks=ticks)
        older = {identity: words for identity, words in left.items() if not _is_guardian(identity)}
        self._note(older, f"a second after the orchestrator {strike.identity.pid} was killed")

    def look_after_guardian(self, strikes: Sequence[Strike], *, meanwhile: Callable[[], None]) -> None:
        """Wait a second at most for the end of everybody, unless the orchestrator had died just before."""
        left = left_over(self.token, self._within_s, meanwhile=meanwhile)
        last = [strike for strike in strikes if strike.card.role == ORCHESTRATOR]
        if not last or wall_ms() - last[-1].at_ms >= BOTH_WITHIN_MS:
            self._note(left, "a second after the guardian was killed")

    def look_at_the_end(self) -> None:
        """Look when all runs are over, and end whoever is left: it is noted, and of no more use."""
        left = left_over(self.token, self._within_s)
        self._note(left, "at the end")
        for identity in left:
            processes.kill(identity, signal.SIGKILL)

    def _note(self, left: dict[ProcessIdentity, str], when: str) -> None:
        for identity, words in left.items():
            if identity not in self.found:
                self.found.add(identity)
                self._accounts.breach("no-orphans", identity.pid, f"alive {when}: {words}")


def _is_guardian(identity: ProcessIdentity) -> bool:
    """Tell whether it is the process that we have started."""
    stat = proc.stat(identity.pid)
    return stat is not None and int(stat[proc.PARENT]) == os.getpid()
