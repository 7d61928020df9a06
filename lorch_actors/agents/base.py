"""The base for agents written in Python.

Subclass `Agent`, write `handle`, call `main`:

    class Echo(Agent):
        def handle(self, command: Command, reply: Reply) -> None:
            reply.completed(tests={"status": "pass"})

    if __name__ == "__main__":
        sys.exit(Echo("builder").main())

The base reads commands and hands them over one at a time, sends heartbeats whatever `handle` does, answers a repeated
idempotency key from the journal, turns an exception into an `error` event, and ends in an orderly way at the end of
stdin, on SIGTERM, and when nobody reads its output. What `handle` prints goes to stderr: stdout belongs to the
protocol.
"""

import os
import queue
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.agents.approvals import Approvals
from lorch_actors.agents.journal import Journal
from lorch_actors.agents.reply import Reply, Voice, now_ms
from lorch_actors.agents.wire import Intake, Outlet, OutputLost, read_stdin
from lorch_actors.errors import LorchError, StorageError, UsageError
from lorch_actors.protocol.messages import ROLE_OF_ACTION, ROLES, AgentRole, Command, HeartbeatStatus, LogLevel
from lorch_actors.protocol.times import to_timestamp

__all__ = ["Agent", "Command", "Reply", "Stopped"]

_QUEUED_COMMANDS: Final = 16
"""Commands read ahead; the orchestrator sends one at a time."""


class Stopped(BaseException):
    """Raised inside `handle` when the agent has to end: clean up in `finally`, do not catch."""


class Agent(ABC):
    """A program that speaks the wire protocol on stdin and stdout.

    role: given, or from LORCH_AGENT_TYPE. agent_id: given, or made from role and pid. workspace: given, or from
    LORCH_WORKSPACE, or the working directory. heartbeat_interval_s: given, or from LORCH_HEARTBEAT_INTERVAL_S, or 10;
    0 sends none. journal: where executed keys are kept; by default below ``state/agents``.
    """

    finish_on_eof = True
    """Whether commands already read are still carried out when stdin ends. When the parent is gone, never."""

    def __init__(
        self,
        role: str | None = None,
        *,
        agent_id: str | None = None,
        workspace: Path | None = None,
        heartbeat_interval_s: float | None = None,
        journal: Path | None = None,
    ) -> None:
        self.role = _role(role)
        self.agent_id = agent_id or f"{self.role}-{os.getpid()}"
        self.workspace = workspace or Path(os.environ.get("LORCH_WORKSPACE") or os.getcwd())
        self._interval_s = _interval_s(heartbeat_interval_s)
        self._journal_file = journal or self.workspace / "state" / "agents" / f"{self.role}.journal.ndjson"
        self._inbox: queue.Queue[Command | None] = queue.Queue(_QUEUED_COMMANDS)
        self._began_s = time.monotonic()
        self._cpu_before_s = time.process_time()
        self._last_activity_ms = now_ms()
        self._heartbeats = 0
        self._heartbeat_lock = threading.Lock()
        self._approvals = Approvals(self.stop)
        self._status = HeartbeatStatus.STARTING
        self._task_id: str | None = None
        self._is_stopping = False
        self._is_unheard = False
        self.silenced = threading.Event()
        """When set, heartbeats cease."""
        self.may_read = threading.Event()
        """When clear, stdin is left alone."""
        self.may_read.set()

    def prepare(self) -> None:
        """Get ready; runs once, before the first command. Heartbeats say `starting` meanwhile."""

    @abstractmethod
    def handle(self, command: Command, reply: Reply) -> None:
        """Do what the command asks and say the outcome through `reply`."""

    def close(self) -> None:
        """Let go of everything; runs once at the end, however it came. Has about two seconds."""

    def main(self) -> int:
        """Run until the end of stdin; return the exit code: 0, or 1 when nobody read the output any more."""
        self._parent = _open_parent()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self.outlet = _take_stdout()
        self.voice = Voice(self.role, self.agent_id, self.workspace, self._send)
        self.journal = Journal(self._journal_file, now_ms)
        try:
            self.heartbeat()
            self._start_thread(self._beat)
            self._start_thread(self._read)
            self.prepare()
            self._work()
        except Stopped:
            pass
        finally:
            self._is_stopping = True
            self.close()
            self._say_goodbye()
            self.journal.close()
        return 1 if self._is_unheard else 0

    def stop(self) -> None:
        """End the agent from any thread: raises `Stopped` in the main thread, which ends whatever it waits for."""
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGTERM)

    def _work(self) -> None:
        self._status = HeartbeatStatus.READY
        self.heartbeat()
        while (command := self._inbox.get()) is not None:
            self._touch(HeartbeatStatus.BUSY, command.task_id)
            self._carry_out(command)
            self._touch(HeartbeatStatus.READY, None)

    def active(self) -> None:
        """Say that something just happened: heartbeats tell when that was last so."""
        self._last_activity_ms = now_ms()

    def _touch(self, status: HeartbeatStatus, task_id: str | None) -> None:
        self._status, self._task_id, self._last_activity_ms = status, task_id, now_ms()

    def _carry_out(self, command: Command) -> None:
        reply = Reply(self.voice, command, self.journal, self._approvals)
        if ROLE_OF_ACTION[command.action] != self.role:
            reply.error("wrong_role", f"this agent is a {self.role}; {command.action} is not for it")
            return
        earlier = self.journal.answer(command.idempotency_key, self.workspace)
        if earlier is not None:
            reply.log("answered from the journal", idempotency_key=command.idempotency_key)
            reply.again(earlier)
            return
        self.journal.started(command)
        try:
            self.handle(command, reply)
        except StorageError:  # this process ends, which is noticed at once, and the command is given to another one
            raise
        except LorchError as error:
            self._apologise(reply, "agent_error", str(error))
        except Exception as error:  # noqa: BLE001 - whatever an agent's author forgot becomes an event, not silence
            import traceback

            traceback.print_exc()
            self._apologise(reply, "agent_exception", f"{type(error).__name__}: {error}")
        else:
            self.check_settled(reply)

    def check_settled(self, reply: Reply) -> None:
        """See to it that a handled command has an outcome."""
        if not reply.is_settled:
            reply.error("no_outcome", "the agent ended its work without saying what came of it")

    def _apologise(self, reply: Reply, code: str, message: str) -> None:
        if reply.is_settled:
            self.voice.log(LogLevel.ERROR, f"after the outcome was sent: {message}")
        else:
            reply.error(code, message[:8192])

    def _send(self, message: msgspec.Struct | Mapping[str, Any]) -> bytes:
        try:
            return self.outlet.send(message)
        except OutputLost:
            self._is_unheard = True
            if threading.current_thread() is threading.main_thread():
                raise Stopped from None
            self.stop()
            raise

    def _on_signal(self, _number: int, _frame: object) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            raise Stopped

    def _start_thread(self, target: Callable[[], None]) -> None:
        # Daemons: both may be blocked in a pipe for ever, and nothing they hold outlives the process.
        threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def _read(self) -> None:
        read_stdin(0, Intake(self._inbox.put, self._approvals.take, self._complain, self.may_read.wait))
        self._approvals.close()
        if not self.finish_on_eof:
            self.stop()
            return
        self._inbox.put(None)
        if self._parent is not None:
            import select

            select.select([self._parent], [], [])
            self.stop()

    def _complain(self, text: str) -> None:
        try:
            self.voice.log(LogLevel.WARN, text)
        except OutputLost:  # `_send` has seen to the end
            return

    def _beat(self) -> None:
        try:
            while self._interval_s > 0 and not self.silenced.wait(self._interval_s):
                self.heartbeat()
        except OutputLost:  # `_send` has seen to the end
            return

    def heartbeat(self) -> None:
        """Send a sign of life now, unless heartbeats are off."""
        if self._interval_s <= 0 or self.silenced.is_set():
            return
        with self._heartbeat_lock:  # numbered in the order they are sent
            self._send(self._vital_signs())

    def _say_goodbye(self) -> None:
        self._status = HeartbeatStatus.STOPPING
        if not self._is_unheard and self.outlet.is_writable():
            try:
                self.heartbeat()
            except (Stopped, OutputLost):
                self._is_unheard = True

    def _vital_signs(self) -> dict[str, Any]:
        uptime_s = time.monotonic() - self._began_s
        self._heartbeats += 1
        signs: dict[str, Any] = {
            "kind": "heartbeat",
            "agent": {"agent_type": self.role, "agent_id": self.agent_id},
            "seq": self._heartbeats - 1,
            "status": self._status.value,
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "uptime_s": round(uptime_s, 3),
            "last_activity_at": to_timestamp(self._last_activity_ms),
            "stats": {
                "cpu_pct": round(100 * (time.process_time() - self._cpu_before_s) / max(uptime_s, 0.001), 1),
                "rss_bytes": _resident_bytes(),
            },
        }
        return signs if self._task_id is None else signs | {"task_id": self._task_id}


def _take_stdout() -> Outlet:
    """Keep the pipe for the protocol alone: what anybody prints, here or in a child, goes to stderr from now on."""
    sys.stdout.flush()
    outlet = Outlet(os.dup(1))
    os.dup2(2, 1)
    return outlet


def _open_parent() -> int | None:
    try:
        return os.pidfd_open(os.getppid())
    except OSError:  # gone already, or out of sight in a container: then the end of stdin has to do
        return None


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _role(given: str | None) -> AgentRole:
    role = given or os.environ.get("LORCH_AGENT_TYPE") or os.environ.get("AGENT_TYPE") or ""
    if role not in ROLES:
        raise UsageError(f"{role!r} is no agent role", remedy="Name one with --type: " + ", ".join(ROLES) + ".")
    return role


def _interval_s(given: float | None) -> float:
    if given is not None:
        return given
    text = os.environ.get("LORCH_HEARTBEAT_INTERVAL_S", "10")
    try:
        return max(0.0, float(text))
    except ValueError:
        raise UsageError(
            f"LORCH_HEARTBEAT_INTERVAL_S is {text!r}, which is no number", remedy="Give seconds, as in 10."
        ) from None
