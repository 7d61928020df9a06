"""A strike: one process hurt, by its identity, and what is watched from outside until it is over."""

import os
import select
import signal
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from lorch_actors import processes
from lorch_actors.actors import fork_server
from lorch_actors.chaos.settings import (
    AGENT,
    CONDUCTOR,
    FORK_SERVER,
    GUARDIAN,
    LEDGER,
    ORCHESTRATOR,
    WORKERS,
    Card,
    Dealer,
)
from lorch_actors.chaos.tail import Tail
from lorch_actors.processes import ProcessIdentity, proc
from lorch_actors.storage.locks import holder_of
from lorch_actors.storage.workspace import Workspace

WATCHED_S: Final = 30.0
PAUSE_S: Final = 1.0
"""How long the guardian is stopped: nobody stands above it to replace it, so it is woken again."""
_NUMBERS: Final = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}


def wall_ms() -> float:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() / 1e6


class Strike(Struct):
    """One process hurt. All times in milliseconds since the epoch.

    agent_id: of an agent, its incarnation. ended_ms: when the kernel reported its end. grown_ms: when the ledger grew
    again after the end of its writer. orphans_due_ms: when everything below it has to be gone.
    """

    card: Card
    identity: ProcessIdentity
    at_ms: float
    agent_id: str = ""
    name: str = ""
    ended_ms: float | None = None
    grown_ms: float | None = None
    pidfd: int | None = None
    size_bytes: int | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the victim still stands still."""
        return self.card.signal == "STOP" and self.pidfd is not None

    def watch(self, tail: Tail, now_ms: float) -> bool:
        """Take in what has happened since; return whether there is anything left to wait for."""
        if self.pidfd is not None and proc.has_ended(self.pidfd):
            self.ended_ms = now_ms
            self.release()
        if self.card.role == LEDGER and self.ended_ms is not None and self.grown_ms is None:
            if self.size_bytes is None or tail.size_bytes < self.size_bytes:
                self.size_bytes = os.path.getsize(tail.path)
            elif tail.size_bytes > self.size_bytes:
                self.grown_ms = now_ms
        is_over = self.pidfd is None and (self.card.role != LEDGER or self.grown_ms is not None)
        if is_over or now_ms - self.at_ms > WATCHED_S * 1000:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Let go of the process."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class Victims:
    """Who can be hurt at this moment, and the hurting."""

    def __init__(self, workspace: Path, dealer: Dealer) -> None:
        self._lock = Workspace(workspace).lock
        self._dealer = dealer
        self._struck: set[ProcessIdentity] = set()

    def strike(self, card: Card, tail: Tail, guardian: ProcessIdentity) -> Strike | None:
        """Hurt one process; return None if there is none of that role that was not hurt before."""
        name, agent_id, identity = self._find(card.role, tail, guardian)
        if identity is None or (identity in self._struck and card.role != CONDUCTOR):
            return None
        pidfd = None if card.role == CONDUCTOR else proc.open_handle(identity.pid)
        number = signal.SIGUSR1 if card.role == CONDUCTOR else _NUMBERS[card.signal]
        at_ms = wall_ms()
        if not processes.kill(identity, number):
            if pidfd is not None:
                os.close(pidfd)
            return None
        if card != Card(GUARDIAN, "STOP"):
            self._struck.add(identity)
        return Strike(card, identity, at_ms, agent_id, name, pidfd=pidfd)

    def _find(self, role: str, tail: Tail, guardian: ProcessIdentity) -> tuple[str, str, ProcessIdentity | None]:
        if role == GUARDIAN:
            return role, "", guardian
        if role == AGENT:
            up = [name for name, (_, identity) in tail.agents.items() if identity not in self._struck]
            if not up:
                return role, "", None
            name = self._dealer.choose(up)
            return name, *tail.agents[name]
        if role in WORKERS:
            return role, "", tail.workers.get(role)
        orchestrator = self.orchestrator(guardian)
        if role in {ORCHESTRATOR, CONDUCTOR} or orchestrator is None:
            return role, "", orchestrator
        assert role == FORK_SERVER
        return role, "", _fork_server(orchestrator.pid)

    def orchestrator(self, guardian: ProcessIdentity) -> ProcessIdentity | None:
        """Return the orchestrator below this guardian that holds the run lock, None while there is none."""
        pid = (holder_of(self._lock) or {}).get("pid")
        stat = proc.stat(pid) if isinstance(pid, int) else None
        if stat is None or int(stat[proc.PARENT]) != guardian.pid:
            return None
        return processes.identify(int(pid or 0))


def _fork_server(orchestrator_pid: int) -> ProcessIdentity | None:
    for pid in processes.children(orchestrator_pid):
        if proc.read(f"/proc/{pid}/comm") == f"{fork_server.NAME}\n".encode():
            return processes.identify(pid)
    return None


def wait_for_end(pidfd: int, timeout_s: float) -> bool:
    """Wait for a process to end; return whether it did."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
