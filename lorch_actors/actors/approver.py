"""The approver: brings what people say to requests for leave into the ledger.

They say it from any terminal, through a file in state/approvals, or at the terminal of the run, through the same file.
It is told by `decide` what is open, again after every crash, and watches state/approvals as long as something is. An
answer is appended under an id that follows from the request, as is the refusal when the time is up: the first of them
that is in the ledger counts, the other is dropped. A file goes when its answer is durable.
"""

from typing import Any, Final, Literal

from msgspec import Struct

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import LATER
from lorch_actors.actors.ring import (
    LEDGER,
    MAIN,
    TRANSCRIPT,
    Append,
    Appended,
    Broken,
    FlushAll,
    Projected,
    Subscribe,
    Subscribed,
)
from lorch_actors.actors.terminal import Terminal, verdict_of
from lorch_actors.errors import FailureCode, StorageError
from lorch_actors.protocol.ids import shown_approval_id
from lorch_actors.protocol.messages import Entry, Event, own_event
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.storage import approvals, disk
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.orders import AskOperator
from lorch_actors.workflow.payloads import event_of, payload_of
from lorch_actors.workflow.system import ApprovalAnswered, RunFinished

ANSWERED: Final = f"system.{ApprovalAnswered.name}"
FINISHED: Final = f"system.{RunFinished.name}"
SHOWN_MAX_MS: Final = 2000
"""How long a question waits at most for the lines that tell what it is about."""


class _Arrived(Struct, frozen=True):
    """To self: something has appeared in state/approvals."""


class _ShownOverdue(Struct, frozen=True):
    """To self: what a request is about should have been shown by now."""


class _Typed(Struct, frozen=True):
    """To self: somebody has typed a line at the terminal of the run."""


class Approver(Actor):
    """See the module."""

    def __init__(
        self,
        context: ActorContext,
        *,
        run_id: str,
        workspace: Workspace,
        redactor: Redactor,
        terminal: Terminal | None = None,
    ) -> None:
        super().__init__(context)
        self._run_id = run_id
        self._terminal = terminal
        self._asked_for = ""  # what the terminal was asked about last
        self._workspace = workspace
        self._redactor = redactor
        self._open: dict[str, AskOperator] = {}
        self._arrivals: approvals.Arrivals | None = None

    def started(self) -> bool:
        """Hear what is answered, by whomever."""
        self.tell(LEDGER, Subscribe(self.name, _wanted))
        return LATER

    def receive(self, message: Any) -> None:
        """Take one turn."""
        match message:
            case Subscribed():
                self.ready()
            case Appended() if not self._announced:
                pass  # meant for a predecessor
            case Appended(new):
                for entry in new:
                    self._settle(entry)
                self._prompt()
            case AskOperator():
                self._open[message.approval_id] = message
                self._watch()
                self._look(message)
                if self._terminal is not None:
                    self.tell(LEDGER, FlushAll(TRANSCRIPT, self.name))
                    self.tell_later(SHOWN_MAX_MS, _ShownOverdue())
            case Projected() | _ShownOverdue():
                self._prompt()
            case _Arrived():
                for order in tuple(self._open.values()):
                    self._look(order)
            case _Typed():
                self._take_typed()
            case _:
                super().receive(message)

    def cleanup(self) -> None:
        """Let go of what is watched."""
        self._leave_terminal()
        if self._arrivals is not None:
            self.runtime.reactor.unwatch(self._arrivals.fd)
            self._arrivals.close()
            self._arrivals = None

    def _watch(self) -> None:
        """Watch before looking: what comes in between is seen twice, not never."""
        if self._arrivals is None:
            try:
                self._arrivals = approvals.Arrivals(self._workspace.approvals)
            except StorageError as error:
                self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{error.where}: {error.what}", error.remedy))
                return
            self.runtime.reactor.watch_read(self._arrivals.fd, self._on_arrival, self.name)

    def _on_arrival(self) -> None:
        """Run in the reactor's thread: only this actor closes the descriptor, and not while this runs."""
        if self._arrivals is not None:
            self._arrivals.drain()
        self.tell_self(_Arrived())

    # -- the terminal -------------------------------------------------------------------------------------------

    def _prompt(self) -> None:
        """Ask at the terminal for the request that has waited longest, one at a time."""
        order = next(iter(self._open.values()), None)
        if self._terminal is None or order is None or order.approval_id == self._asked_for:
            return
        self._leave_terminal()
        if self._terminal.ask(f"[lorch] {shown_approval_id(order.approval_id)}: allow it? y or n, and Enter"):
            self._asked_for = order.approval_id
            self.runtime.reactor.watch_read(self._terminal.fd, self._on_typed, self.name)

    def _on_typed(self) -> None:
        """Run in the reactor's thread: the line is read by this actor, once."""
        if self._terminal is not None:
            self.runtime.reactor.pause_read(self._terminal.fd)
        self.tell_self(_Typed())

    def _take_typed(self) -> None:
        if self._terminal is None or not self._asked_for:
            return
        line = self._terminal.read()
        if line is None:
            self.runtime.reactor.unwatch(self._terminal.fd)
            return
        said = verdict_of(line)
        if said is not None:
            at = to_timestamp(self.runtime.clock.wall_ms())
            decision: Literal["allow", "deny"] = "allow" if said[0] else "deny"
            answer = approvals.Answer(self._run_id, self._asked_for, decision, said[1], at)
            # The file wakes this actor, as one from any other terminal does.
            approvals.give(self._workspace.approval(self._asked_for), answer)
            self.runtime.reactor.unwatch(self._terminal.fd)
        else:
            self.runtime.reactor.resume_read(self._terminal.fd)

    def _leave_terminal(self) -> None:
        if self._terminal is not None:
            self.runtime.reactor.unwatch(self._terminal.fd)
        self._asked_for = ""

    # -- the files ----------------------------------------------------------------------------------------------

    def _look(self, order: AskOperator) -> None:
        answer = approvals.read(self._workspace.approval(order.approval_id))
        if answer is None or answer.approval_id != order.approval_id:
            return
        note = ApprovalAnswered(
            approval_id=order.approval_id,
            agent_type=order.role,
            agent_id=order.agent_id,
            request_id=order.request_id,
            decision=answer.decision,
            by="operator",
            reason=self._redactor.text(answer.reason),
        )
        event = event_of(
            note,
            task_id=order.task_id,
            correlation_id=order.correlation_id,
            now_ms=self.runtime.clock.wall_ms(),
            cause=(order.approval_id, order.agent_id),
        )
        self.tell(LEDGER, Append(event))

    def _settle(self, entry: Entry) -> None:
        """Forget a request that is answered, and the file that was about it; at the run's end, all that is left."""
        assert isinstance(entry.message, Event)
        if entry.message.event == FINISHED:
            approvals.remove_all(self._workspace.approvals, entry.message.task_id)
            return
        note = payload_of(entry.message, ApprovalAnswered)
        if note is None:
            return
        order = self._open.get(note.approval_id)
        if order is not None and order.agent_id == note.agent_id:
            del self._open[note.approval_id]
        if note.by == "operator":  # one that came too late counts when the same is asked again
            disk.unlink(self._workspace.approval(note.approval_id))
        if not self._open:
            self.cleanup()


def _wanted(entry: Entry) -> bool:
    event = own_event(entry.message)
    return event is not None and event.event in (ANSWERED, FINISHED)
