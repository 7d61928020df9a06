"""The agent actor: owns one process of one role, and is the only one that speaks with it.

It delivers only commands that it hears from the ledger, addressed to the incarnation it runs; it appends what the
process says. When to start a process, and when to give one up, is decided in the core; that a process has died, hung or
fallen silent is seen here. A process is gone with everything it started, and its output read to its end, before
`agent_exited` is appended: so an entry's place in the ledger tells which incarnation it came from.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from lorch_actors.actors.agent_log import AgentLog
from lorch_actors.actors.agent_output import Listener, ToLedger
from lorch_actors.actors.agent_process import PIECE_BYTES, AgentProcess
from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER, Call, Shutdown
from lorch_actors.actors.ring import LEDGER, Append, Appended, EndAgent, StartAgent, Subscribe, Subscribed
from lorch_actors.actors.runtime import Timer
from lorch_actors.errors import FailureCode
from lorch_actors.protocol.configuration import Policy
from lorch_actors.protocol.framing import LineReader
from lorch_actors.protocol.ids import incarnation_id
from lorch_actors.protocol.messages import AgentRole, AgentType, Command, Entry, Event
from lorch_actors.protocol.parse import encode
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.workflow.system import (
    AgentExited,
    AgentHung,
    AgentStarted,
    AgentStartFailed,
    Payload,
    ProcessRef,
    event_of,
)

IN_FLIGHT_MAX: Final = 256
PIECES_MAX: Final = 4
DRAIN_MS: Final = 2000
GRACE_MS: Final = 2000
HEARTBEATS_MISSED: Final = 3
ENDING_EVENTS: Final = frozenset({"system.retry_scheduled", "system.command_failed"})


@dataclass(frozen=True)
class Part:
    """What one agent is started with. env: the whole environment of its process."""

    role: AgentRole
    run_id: str
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    heartbeat_interval_s: float
    workspace: Path
    log: Path
    policy: Policy


class Phase(Enum):
    """Where the process stands."""

    DOWN = "down"
    UP = "up"
    ENDING = "ending"  # asked to go: end of input, then SIGTERM, then SIGKILL
    DRAINING = "draining"  # dead; its last words are being read


class AgentActor(Actor):
    """See the module."""

    def __init__(self, context: ActorContext, *, part: Part, redactor: Redactor) -> None:
        super().__init__(context)
        self._part = part
        self._redactor = redactor
        self._phase = Phase.DOWN
        self._process: AgentProcess | None = None
        self._log: AgentLog | None = None
        self._retired = False  # no further process is started
        self._leaving = False  # the actor ends with its process
        self._forget()
        context.fence.on_cut(self._kill_process)

    def _forget(self) -> None:
        """Begin with a clean slate for the next incarnation."""
        part = self._part
        self._listener = Listener(
            role=part.role,
            redactor=self._redactor,
            any_checksum=part.policy.verify_artifacts != "strict",
            max_events=part.policy.max_events_per_command,
        )
        self._lines = LineReader()
        self._bad_lines = 0
        self._in_flight = 0
        self._read = 0  # pieces of output; counted by the reactor's thread only
        self._taken = 0  # of these; counted by this one only
        self._output_ended = False
        self._heard_ms = 0
        self._why = ""
        self._timers: dict[str, Timer] = {}

    # -- life of the actor --------------------------------------------------------------------------------------

    def started(self) -> bool:
        """Listen to the ledger before there is anything to deliver to."""
        self._log = AgentLog(self._part.log, self._redactor)
        self.tell(LEDGER, Subscribe(self.name, _wants(self._part.role)))
        return LATER

    def stopping(self) -> bool:
        """End the process, then oneself."""
        self._retired = self._leaving = True
        if self._phase is Phase.DOWN:
            return not LATER
        self._end("the run stops")
        return LATER

    def cleanup(self) -> None:
        """Leave no process behind, whatever ended this actor, and have it recorded."""
        process = self._process
        if process is not None:
            process.end_tree()
            code, signal = process.reap()
            self._record_exit(process, code, signal, "its actor ended")
            self._release()
        if self._log is not None:
            self._log.close()

    def receive(self, message: Any) -> None:
        """Take one turn."""
        match message:
            case Subscribed():
                self.ready()
            case StartAgent():
                if self._phase is Phase.DOWN and not self._retired:
                    self._start()
            case EndAgent():
                self._retired = True
                self._end("the run is over")
            case Appended(new, _, _, own):
                self._in_flight -= own
                for entry in new:
                    self._hear(entry)
                self._regulate()
            case _:
                super().receive(message)

    # -- start --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        part = self._part
        agent_id = incarnation_id(part.role, secrets.token_bytes(4))
        self._forget()
        try:
            process = AgentProcess(
                part.cmd,
                workspace=str(part.workspace),
                env=part.env,
                agent_id=agent_id,
                reactor=self.runtime.reactor,
                owner=self.name,
            )
        except (OSError, ValueError) as error:
            self._append_note(AgentStartFailed(part.role, agent_id, _unstartable(part, error)), agent_id)
            return
        self._process = process
        self._phase = Phase.UP
        self._heard_ms = self.now_ms()
        ref = ProcessRef(*process.identity) if process.identity is not None else None
        self._append_note(AgentStarted(part.role, agent_id, ref), agent_id)
        process.watch(lambda: self.tell_self(Call(lambda: self._on_exit(agent_id))))
        self._watch_output(process)
        self._expect_heartbeat()

    def _watch_output(self, process: AgentProcess) -> None:
        reactor, name = self.runtime.reactor, self.name

        def read_stdout() -> None:
            piece = _read(process.stdout)
            if piece is None:
                return
            self._read += 1
            if not piece or self._untaken >= PIECES_MAX:
                reactor.pause_read(process.stdout)
            self.tell_self(Call(lambda: self._on_output(process.agent_id, piece)))

        def read_stderr() -> None:
            piece = _read(process.stderr)
            if piece is None:
                return
            reactor.pause_read(process.stderr)  # until it is in the log
            self.tell_self(Call(lambda: self._on_stderr(process.agent_id, piece)))

        reactor.watch_read(process.stdout, read_stdout, name)
        reactor.watch_read(process.stderr, read_stderr, name)

    # -- what the ledger says -----------------------------------------------------------------------------------

    def _hear(self, entry: Entry) -> None:
        process = self._process
        message = entry.message
        if process is None:
            return
        if isinstance(message, Command):
            if message.to.agent_id == process.agent_id and self._phase is Phase.UP:
                self._deliver(process, message)
        elif isinstance(message, Event) and (message.payload or {}).get("agent_id") == process.agent_id:
            self._end("it was given up")

    def _deliver(self, process: AgentProcess, command: Command) -> None:
        self._listener.give(command)
        if not process.write(encode(command) + b"\n"):
            self._hang(FailureCode.AGENT_STDIN_STALLED, "it has closed its standard input")
        elif not process.is_reading:
            self._continue_writing(process)
            self._later("stdin", round(self._part.policy.stdin_timeout_s * 1000), self._on_stdin_stalled)

    def _continue_writing(self, process: AgentProcess) -> None:
        def room() -> None:
            self.tell_self(Call(lambda: self._on_room(process.agent_id)))

        process.on_writable(room)

    def _on_room(self, agent_id: str) -> None:
        process = self._current(agent_id)
        if process is None:
            return
        if process.flush() and not process.is_reading:
            self._continue_writing(process)
        elif process.is_reading:
            self._cancel("stdin")

    def _on_stdin_stalled(self) -> None:
        limit = self._part.policy.stdin_timeout_s
        self._hang(FailureCode.AGENT_STDIN_STALLED, f"it has not read its command within {limit:g} s")

    # -- what the process says ----------------------------------------------------------------------------------

    def _on_output(self, agent_id: str, piece: bytes) -> None:
        process = self._current(agent_id)
        if process is None:
            return
        self._taken += 1
        if piece:
            self._heard_ms = self.now_ms() if self._take(self._lines.feed(piece)) else self._heard_ms
            if self._phase is Phase.DRAINING:
                self._drain()
        else:
            self._output_ended = True
            self._take(self._lines.close())
            self.runtime.reactor.unwatch(process.stdout)
            if self._phase is Phase.DRAINING:
                self._finish_process()
            elif self._phase is Phase.UP:
                self._later("stdout", 100, self._on_stdout_closed)
        self._regulate()

    def _on_stdout_closed(self) -> None:
        if self._phase is Phase.UP:
            self._hang(FailureCode.AGENT_CRASHED, "it closed its standard output while it was running")

    def _take(self, lines: list[Any]) -> bool:
        """Append and log what these lines are; tell whether any of them was a message."""
        now_ms = self.runtime.clock.wall_ms()
        is_alive = False
        for line in lines:
            for heard in self._listener.hear(line, now_ms):
                if isinstance(heard, ToLedger):
                    is_alive = True
                    self._in_flight += 1
                    self.tell(LEDGER, Append(heard.message, heard.compact, self.name, heard.urgent))
                else:
                    self._note(heard.note)
                    self._bad_lines += heard.bad
        if self._bad_lines > self._part.policy.max_bad_lines and self._phase is Phase.UP:
            self._hang(FailureCode.AGENT_NOISY, f"it wrote more than {self._part.policy.max_bad_lines} bad lines")
        return is_alive

    @property
    def _untaken(self) -> int:
        """How many pieces of output have been read and not looked at yet."""
        return self._read - self._taken

    def _regulate(self) -> None:
        """Read as fast as entries become durable: the pipe fills, and the agent waits, while too many are under way."""
        process = self._process
        if process is None or self._output_ended:
            return
        if self._in_flight >= IN_FLIGHT_MAX or self._untaken >= PIECES_MAX:
            self.runtime.reactor.pause_read(process.stdout)
        else:
            self.runtime.reactor.resume_read(process.stdout)

    def _on_stderr(self, agent_id: str, piece: bytes) -> None:
        process = self._current(agent_id)
        if process is None or self._log is None:
            return
        self._log.stderr(agent_id, piece, self.runtime.clock.wall_ms(), last=not piece)
        if piece:
            self.runtime.reactor.resume_read(process.stderr)
        else:
            self.runtime.reactor.unwatch(process.stderr)

    # -- silence ------------------------------------------------------------------------------------------------

    def _expect_heartbeat(self) -> None:
        """Look again three intervals after the last message; a pipe that we have not read proves nothing."""
        limit_ms = round(self._part.heartbeat_interval_s * 1000 * HEARTBEATS_MISSED)
        process = self._process
        if process is None or self._phase is not Phase.UP:
            return
        if self._untaken or self._in_flight >= IN_FLIGHT_MAX or process.unread_bytes():
            self._heard_ms = self.now_ms()
        silent_ms = self.now_ms() - self._heard_ms
        if silent_ms >= limit_ms:
            self._hang(FailureCode.AGENT_HUNG, f"no heartbeat for {silent_ms / 1000:.1f} s")
        else:
            self._later("heartbeat", limit_ms - silent_ms, self._expect_heartbeat)

    def _hang(self, code: FailureCode, message: str) -> None:
        """Have it recorded that the process is of no use, and end it."""
        process = self._process
        if process is None or self._phase is not Phase.UP:
            return
        told = f"the {self._part.role} is of no use: {message}"
        self._append_note(AgentHung(self._part.role, process.agent_id, code, told), process.agent_id)
        self._end(message)

    # -- end ----------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        """Ask the process to go: end of input, then SIGTERM, then SIGKILL to all of it."""
        process = self._process
        if process is None or self._phase is not Phase.UP:
            return
        self._phase = Phase.ENDING
        self._why = why
        process.close_stdin()
        self._later("grace", GRACE_MS, self._terminate)

    def _terminate(self) -> None:
        if self._process is not None and self._phase is Phase.ENDING:
            self._process.terminate()
            self._later("grace", GRACE_MS, self._kill_process)

    def _kill_process(self) -> None:
        if self._process is not None:
            self._process.end_tree()

    def _on_exit(self, agent_id: str) -> None:
        process = self._current(agent_id)
        if process is None or self._phase in (Phase.DRAINING, Phase.DOWN):
            return
        self._cancel_all()
        self._phase = Phase.DRAINING
        process.close_stdin()
        process.end_tree()
        if self._output_ended:
            self._finish_process()
        else:
            self._drain()

    def _drain(self) -> None:
        """Read on until the end of the output, or until nothing has come for a while although we were reading."""
        self._later("drain", DRAIN_MS, self._on_drained)

    def _on_drained(self) -> None:
        process = self._process
        if process is not None and (self._untaken or process.unread_bytes()):
            self._drain()  # it is we who have not read
        else:
            self._finish_process()

    def _finish_process(self) -> None:
        process = self._process
        if process is None:
            return
        if not self._output_ended:
            self._take(self._lines.close())
        code, signal = process.reap()
        self._record_exit(process, code, signal, self._why)
        self._release()
        if self._leaving:
            self.finish(Shutdown())

    def _record_exit(self, process: AgentProcess, code: int | None, signal: int | None, why: str) -> None:
        note = AgentExited(self._part.role, process.agent_id, code, signal, why)
        self._append_note(note, process.agent_id)
        self._note({"exit": {"code": code, "signal": signal, "reason": why}, "overflow": self._listener.overflow})

    def _release(self) -> None:
        self._cancel_all()
        if self._process is not None:
            self._process.release()
        self._process = None
        self._phase = Phase.DOWN

    # -- small things -------------------------------------------------------------------------------------------

    def _current(self, agent_id: str) -> AgentProcess | None:
        process = self._process
        return process if process is not None and process.agent_id == agent_id else None

    def _append_note(self, note: Payload, agent_id: str) -> None:
        run_id = self._part.run_id
        now_ms = self.runtime.clock.wall_ms()
        cause = (agent_id,)
        event = event_of(note, task_id=run_id, correlation_id=run_id, now_ms=now_ms, cause=cause)
        self.tell(LEDGER, Append(event))

    def _note(self, note: dict[str, Any]) -> None:
        if self._log is not None and self._process is not None:
            self._log.note(self._process.agent_id, note, self.runtime.clock.wall_ms())

    def _later(self, what: str, delay_ms: int, function: Any) -> None:
        self._cancel(what)
        self._timers[what] = self.tell_later(delay_ms, Call(function))

    def _cancel(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _cancel_all(self) -> None:
        for what in list(self._timers):
            self._cancel(what)


def _wants(role: AgentRole) -> Any:
    def wants(entry: Entry) -> bool:
        message = entry.message
        if isinstance(message, Command):
            return message.to.agent_type == role
        return (
            isinstance(message, Event)
            and message.sender.agent_type is AgentType.SYSTEM
            and message.event in ENDING_EVENTS
        )

    return wants


def _read(fd: int) -> bytes | None:
    """Return what is there, nothing at the end, None if there is nothing yet."""
    try:
        return os.read(fd, PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _unstartable(part: Part, error: Exception) -> str:
    name = part.cmd[0] if part.cmd else ""
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"the command of the {part.role} cannot be executed: {name!r}: {reason}; "
        f"correct agents.{part.role}.cmd in lorch.json, `python -m lorch_actors doctor` checks it"
    )
