"""The agent actor: owns one process of one role, and is the only one that speaks with it.

It delivers only commands that it hears from the ledger, addressed to the incarnation it runs; it appends what the
process says. When to start a process, and when to give one up, is decided in the core; that a process has died, hung or
fallen silent is seen here. A process is gone with everything it started, and its output read to its end, before
`agent_exited` is appended: so an entry's place in the ledger tells which incarnation it came from. (What had itself
started by somebody else, and is known by its marker alone, is gone before the next process is started.)
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from lorch_actors.actors.agent_keeper import Part, Phase, ProcessKeeper
from lorch_actors.actors.agent_link import AgentLink
from lorch_actors.actors.agent_log import AgentLog
from lorch_actors.actors.agent_output import Listener, ToLedger
from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.messages import LATER, Call
from lorch_actors.actors.ring import LEDGER, Append, Appended, EndAgent, StartAgent, Subscribe, Subscribed
from lorch_actors.errors import FailureCode
from lorch_actors.protocol.framing import Line, LineReader, OversizeLine
from lorch_actors.protocol.messages import AgentRole, Command, Entry, Event, own_event
from lorch_actors.protocol.parse import encode
from lorch_actors.protocol.redaction import Redactor

IN_FLIGHT_MAX: Final = 256
CLOSED_MS: Final = 100
HEARTBEATS_MISSED: Final = 3
ENDING_EVENTS: Final = frozenset({"system.retry_scheduled", "system.command_failed"})
ANSWER: Final = "system.approval_answered"


class AgentActor(ProcessKeeper):
    """See the module."""

    in_reactor = True

    def __init__(self, context: ActorContext, *, part: Part, redactor: Redactor) -> None:
        super().__init__(context, part=part, redactor=redactor)
        self._listener = self._new_listener()
        self._lines = LineReader()
        self._bad_lines = 0
        self._in_flight = 0  # appends of ours that are not durable yet
        self._heard_ms = 0
        self._given: tuple[str, int] | None = None  # the last command: its message id, its bytes

    def _new_listener(self) -> Listener:
        policy = self._part.policy
        return Listener(
            role=self._part.role,
            redactor=self._redactor,
            any_checksum=policy.verify_artifacts != "strict",
            max_events=policy.max_events_per_command,
        )

    def started(self) -> bool:
        """Listen to the ledger before there is anything to deliver to."""
        self._log = AgentLog(self._part.log, self._redactor)
        self.tell(LEDGER, Subscribe(self.name, _wants(self._part.role)))
        return LATER

    def receive(self, message: Any) -> None:
        """Take one turn."""
        match message:
            case Subscribed():
                self._record_loss()
                self.ready()
            case StartAgent() if not self._announced:
                pass  # meant for a predecessor, whose loss is not recorded yet; told again when we are known to be up
            case StartAgent():
                self._start_when_down()
            case EndAgent():
                self._retired = True
                self._end("the run is over")
            case Appended() if not self._announced:
                pass  # meant for a predecessor
            case Appended(new, _, _, own):
                self._in_flight -= own
                for entry in new:
                    self._hear(entry)
                self._regulate()
            case _:
                super().receive(message)

    def on_up(self, process: AgentLink) -> None:
        """Begin with a clean slate for the new incarnation."""
        self._listener = self._new_listener()
        self._lines = LineReader()
        self._bad_lines = 0
        self._given = None
        self._heard_ms = self.now_ms()
        self._expect_heartbeat()

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
            if message.event != ANSWER:
                self._end("it was given up")
            elif self._phase is Phase.UP:
                self._pass_on(process, message)

    def _deliver(self, process: AgentLink, command: Command) -> None:
        self._listener.give(command)
        data = encode(command) + b"\n"
        self._given = (command.message_id, len(data))
        self._write(process, data)

    def _pass_on(self, process: AgentLink, answer: Event) -> None:
        """Give the agent the answer to what it asked: so it has read its command, however much is unread now."""
        if self._given is not None:
            self._given = (self._given[0], sys.maxsize)
        self._write(process, encode(answer) + b"\n")

    def _write(self, process: AgentLink, data: bytes) -> None:
        if not process.write(data):
            self._later("stdin", CLOSED_MS, self._on_stdin_closed)  # most often it is just ending
        elif not process.is_reading:
            self._continue_writing(process)
            self._later("stdin", round(self._part.policy.stdin_timeout_s * 1000), self._on_stdin_stalled)

    def _continue_writing(self, process: AgentLink) -> None:
        agent_id = process.agent_id
        process.on_writable(lambda: self.tell_self(Call(lambda: self._on_room(agent_id))))

    def _on_room(self, agent_id: str) -> None:
        process = self._current(agent_id)
        if process is None:
            return
        if process.flush() and not process.is_reading:
            self._continue_writing(process)
        elif process.is_reading:
            self._cancel("stdin")

    def _on_stdin_closed(self) -> None:
        self._hang(FailureCode.AGENT_STDIN_STALLED, "it has closed its standard input")

    def _on_stdin_stalled(self) -> None:
        limit = self._part.policy.stdin_timeout_s
        self._hang(FailureCode.AGENT_STDIN_STALLED, f"it has not read its command within {limit:g} s")

    # -- what the process says ----------------------------------------------------------------------------------

    def on_piece(self, piece: bytes) -> None:
        """Take the lines that end in this piece of output."""
        if self._take(self._lines.feed(piece) if piece else self._lines.close()):
            self._heard_ms = self.now_ms()
        if not piece and self._phase is Phase.UP:
            self._later("stdout", CLOSED_MS, self._on_stdout_closed)
        self._regulate()

    def on_drained(self) -> None:
        """Take the last line although its end never came."""
        self._take(self._lines.close())

    def begun(self, process: AgentLink) -> str:
        """Tell from what is left in the pipe."""
        message_id, size_bytes = self._given or ("", 0)
        return message_id if process.unread_input_bytes() < size_bytes else ""

    def _on_stdout_closed(self) -> None:
        if self._phase is Phase.UP:
            self._hang(FailureCode.AGENT_CRASHED, "it closed its standard output while it was running")

    def _take(self, lines: Sequence[Line | OversizeLine]) -> bool:
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
                    is_alive |= not heard.bad
                    self._note(heard.note)
                    self._bad_lines += heard.bad
        if self._bad_lines > self._part.policy.max_bad_lines and self._phase is Phase.UP:
            self._hang(FailureCode.AGENT_NOISY, f"it wrote more than {self._part.policy.max_bad_lines} bad lines")
        return is_alive

    def _regulate(self) -> None:
        """Read as fast as entries become durable: the pipe fills, and the agent waits, while too many are under way."""
        if self._pipes is not None:
            self._pipes.regulate(held_back=self._in_flight >= IN_FLIGHT_MAX)

    # -- silence ------------------------------------------------------------------------------------------------

    def _expect_heartbeat(self) -> None:
        """Look again three intervals after the last message; a pipe that we have not read proves nothing."""
        limit_ms = round(self._part.heartbeat_interval_s * 1000 * HEARTBEATS_MISSED)
        process, pipes = self._process, self._pipes
        if process is None or self._phase is not Phase.UP:
            return
        is_behind = self._in_flight >= IN_FLIGHT_MAX or (pipes is not None and pipes.untaken)
        if is_behind or process.unread_bytes():
            self._heard_ms = self.now_ms()
        silent_ms = self.now_ms() - self._heard_ms
        if silent_ms >= limit_ms:
            self._hang(FailureCode.AGENT_HUNG, f"no heartbeat for {silent_ms / 1000:.1f} s")
        else:
            self._later("heartbeat", limit_ms - silent_ms, self._expect_heartbeat)


def _wants(role: AgentRole) -> Callable[[Entry], bool]:
    """Return what an agent actor has to hear of: commands to its role, and what gives incarnations up."""

    def wants(entry: Entry) -> bool:
        message = entry.message
        if isinstance(message, Command):
            return message.to.agent_type == role
        event = own_event(message)
        return event is not None and (event.event in ENDING_EVENTS or event.event == ANSWER)

    return wants
