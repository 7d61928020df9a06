"""Keeping one process of an agent: started when told, watched, and gone with all it started before its end is recorded.

What is said to the process and heard from it is the business of the agent actor, which is built on this.
"""

import errno
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from lorch_actors.actors.agent_link import AgentLink
from lorch_actors.actors.agent_log import AgentLog
from lorch_actors.actors.agent_pipes import Pipes
from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER, Call, Shutdown
from lorch_actors.actors.reactor import Timer
from lorch_actors.actors.ring import LEDGER, Append
from lorch_actors.errors import FailureCode
from lorch_actors.protocol.configuration import Policy
from lorch_actors.protocol.ids import incarnation_id
from lorch_actors.protocol.messages import AgentRole
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.system import AgentExited, AgentHung, AgentLost, AgentStarted, AgentStartFailed

DRAIN_MS: Final = 2000
GRACE_MS: Final = 2000
NO_ROOM: Final = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ETXTBSY}
)
"""What a start may meet that says nothing of the next one."""


class Part(Struct, frozen=True):
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
    CLEARING = "clearing"  # dead; what it started is being ended
    DRAINING = "draining"  # its last words are being read
    SWEEPING = "sweeping"  # its end is recorded; who has left its tree is being ended


class ProcessKeeper(Actor):
    """See the module. Subclasses override ``on_up``, ``on_piece``, ``on_drained`` and ``begun``."""

    def __init__(self, context: ActorContext, *, part: Part, redactor: Redactor) -> None:
        super().__init__(context)
        self._part = part
        self._redactor = redactor
        self._phase = Phase.DOWN
        self._process: AgentLink | None = None
        self._swept: AgentLink | None = None  # whose end is recorded, and whose escaped are being ended
        self._start_due = False  # as soon as that is done
        self._pipes: Pipes | None = None
        self._log: AgentLog | None = None
        self._retired = False  # no further process is started
        self._leaving = False  # the actor ends with its process
        self._why = ""
        self._ours = False  # the process was in order when its actor had to end
        self._timers: dict[str, Timer] = {}
        context.fence.on_cut(self._kill)

    # -- for the subclass ---------------------------------------------------------------------------------------

    def on_up(self, process: AgentLink) -> None:
        """Begin with a new process."""

    def on_piece(self, piece: bytes) -> None:
        """Take a piece of standard output, empty at its end."""

    def on_drained(self) -> None:
        """Take the last line, if the end of the output never came."""

    def begun(self, process: AgentLink) -> str:
        """Return the message id of the command that the process was last given, empty if it has read none of it."""
        return ""

    # -- life of the actor --------------------------------------------------------------------------------------

    def stopping(self) -> bool:
        """End the process, then oneself."""
        self._retired = self._leaving = True
        if self._phase is Phase.DOWN:
            return not LATER
        self._ours = self._phase is Phase.UP
        self._end("its actor is stopped")
        return LATER

    def cleanup(self) -> None:
        """Leave no process behind, whatever ended this actor, and have it recorded."""
        process = self._process
        self._ours |= self._phase is Phase.UP
        try:
            if process is not None:
                process.end_tree()
                self._record_exit(process, "its actor ended")
        finally:  # a full disk does not take the log's last line; what is held is let go nevertheless
            self._release()
            for left in (process, self._swept):
                if left is not None:
                    left.end_escaped()
            if self._log is not None:
                self._log.close()

    def _record_loss(self) -> None:
        """Have it recorded that no process is up: if the ledger failed with its predecessor, nobody else has."""
        if self.context.incarnation > 1:
            self._append_note(AgentLost(self._part.role), self._fresh_id())

    # -- start --------------------------------------------------------------------------------------------------

    def _start_when_down(self) -> None:
        """Start the next process: now, or when nobody is left of the last one."""
        if self._phase is Phase.DOWN and not self._retired:
            self._start()
        self._start_due = self._phase is Phase.SWEEPING and not self._retired

    def _start(self) -> None:
        part = self._part
        agent_id = self._fresh_id()
        try:
            process = self.runtime.agents.start(
                part.cmd, workspace=str(part.workspace), env=part.env, agent_id=agent_id, owner=self.name
            )
        except (OSError, ValueError) as error:
            self._append_note(_unstartable(part, agent_id, error), agent_id)
            return
        self._process = process
        self._phase = Phase.UP
        self._why = ""
        self._ours = False
        ref = ProcessRef(*process.identity) if process.identity is not None else None
        self._append_note(AgentStarted(part.role, agent_id, ref), agent_id)
        self.on_up(process)
        process.watch(lambda: self.tell_self(Call(lambda: self._on_exit(agent_id))))
        self._pipes = Pipes(
            process,
            self.runtime.reactor,
            self.name,
            on_stdout=lambda piece: self.tell_self(Call(lambda: self._on_stdout(agent_id, piece))),
            on_stderr=lambda: self.tell_self(Call(lambda: self._on_stderr(agent_id))),
        )

    def _on_stdout(self, agent_id: str, piece: bytes) -> None:
        if self._current(agent_id) is None or self._pipes is None:
            return
        self._pipes.taken(piece)
        self.on_piece(piece)
        if self._phase is Phase.DRAINING:
            if piece:
                self._drain()
            else:
                self._finish_process()

    def _on_stderr(self, agent_id: str) -> None:
        if self._current(agent_id) is None or self._log is None or self._pipes is None:
            return
        piece = self._pipes.read_stderr()
        if piece is not None:
            self._log.stderr(agent_id, piece, self.runtime.clock.wall_ms(), last=not piece)

    def _take_last_of_stderr(self, agent_id: str) -> None:
        """Log the last words of a dead process: they tell why it died."""
        if self._log is None or self._pipes is None:
            return
        for piece in (*self._pipes.last_of_stderr(), b""):
            self._log.stderr(agent_id, piece, self.runtime.clock.wall_ms(), last=not piece)

    # -- end ----------------------------------------------------------------------------------------------------

    def _hang(self, code: FailureCode, message: str) -> None:
        """Have it recorded that the process is of no use, and end it."""
        process = self._process
        if process is None or self._phase is not Phase.UP:
            return
        told = f"the {self._part.role} is of no use: {message}"
        self._append_note(AgentHung(self._part.role, process.agent_id, code, told), process.agent_id)
        self._end(message)

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
        process = self._process
        if process is not None and self._phase is Phase.ENDING:
            process.terminate()
            # this very process: by the time that a thread gets to it, another one may be up
            self._later("grace", GRACE_MS, lambda: self.apart(process.end_tree, lambda: None))

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.end_tree()

    def _on_exit(self, agent_id: str) -> None:
        process = self._current(agent_id)
        if process is None or self._phase not in (Phase.UP, Phase.ENDING):
            return
        self._cancel_all()
        self._phase = Phase.CLEARING
        process.close_stdin()
        self.apart(process.end_tree, self._on_cleared)

    def _on_cleared(self) -> None:
        self._phase = Phase.DRAINING
        if self._pipes is not None and self._pipes.ended:
            self._finish_process()
        else:
            self._drain()

    def _drain(self) -> None:
        """Read on until the end of the output, or until nothing has come for a while although we were reading."""
        self._later("drain", DRAIN_MS, self._on_drain_overdue)

    def _on_drain_overdue(self) -> None:
        process, pipes = self._process, self._pipes
        if process is not None and pipes is not None and (pipes.untaken or process.unread_bytes()):
            self._drain()  # it is we who have not read
        else:
            self._finish_process()

    def _finish_process(self) -> None:
        process = self._process
        if process is None:
            return
        if self._pipes is None or not self._pipes.ended:
            self.on_drained()
        self._record_exit(process, self._why)
        self._release()
        self._phase = Phase.SWEEPING
        self._swept = process
        self.apart(process.end_escaped, self._on_swept)

    def _on_swept(self) -> None:
        self._swept = None
        self._phase = Phase.DOWN
        if self._leaving:
            self.finish(Shutdown())
        elif self._start_due:
            self._start_when_down()

    def _record_exit(self, process: AgentLink, why: str) -> None:
        code, signal = process.reap()
        process.close_stdin()
        note = AgentExited(self._part.role, process.agent_id, code, signal, why, self.begun(process), self._ours)
        self._append_note(note, process.agent_id)
        self._take_last_of_stderr(process.agent_id)
        self._note({"exit": {"code": code, "signal": signal, "reason": why}})

    def _release(self) -> None:
        self._cancel_all()
        if self._process is not None:
            self._process.release()
        self._process = None
        self._pipes = None
        self._phase = Phase.DOWN

    # -- small things -------------------------------------------------------------------------------------------

    def _fresh_id(self) -> str:
        return incarnation_id(self._part.role, self.runtime.random.randbytes(4))

    def _current(self, agent_id: str) -> AgentLink | None:
        process = self._process
        return process if process is not None and process.agent_id == agent_id else None

    def _append_note(self, note: Payload, agent_id: str) -> None:
        run_id = self._part.run_id
        now_ms = self.runtime.clock.wall_ms()
        event = event_of(note, task_id=run_id, correlation_id=run_id, now_ms=now_ms, cause=(agent_id,))
        self.tell(LEDGER, Append(event))

    def _note(self, note: dict[str, Any]) -> None:
        if self._log is not None and self._process is not None:
            self._log.note(self._process.agent_id, note, self.runtime.clock.wall_ms())

    def _later(self, what: str, delay_ms: int, function: Callable[[], object]) -> None:
        self._cancel(what)
        self._timers[what] = self.tell_later(delay_ms, Call(function))

    def _cancel(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _cancel_all(self) -> None:
        for what in list(self._timers):
            self._cancel(what)


def _unstartable(part: Part, agent_id: str, error: Exception) -> AgentStartFailed:
    name = part.cmd[0] if part.cmd else ""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in NO_ROOM:
        message = f"the machine has no room to start the {part.role}: {reason}"
        return AgentStartFailed(part.role, agent_id, message, transient=True)
    message = (
        f"the command of the {part.role} cannot be executed: {name!r}: {reason}; "
        f"correct agents.{part.role}.cmd in lorch.json, `lorch doctor` checks it"
    )
    return AgentStartFailed(part.role, agent_id, message)
