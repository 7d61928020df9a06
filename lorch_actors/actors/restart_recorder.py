"""Writes into the ledger what supervisors report, so that it can be seen afterwards: restarts, and that one gave up."""

from typing import Any, ClassVar

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.child import MessagePoisoned, RestartLimitExceeded
from lorch_actors.actors.messages import ActorRestarted, Crash, GaveUp
from lorch_actors.actors.ring import LEDGER, RUN_SUPERVISOR, Append
from lorch_actors.workflow import system
from lorch_actors.workflow.payloads import Payload, event_of


class RestartRecorder(Actor):
    """Hears from every supervisor; a child of the topmost one, behind the ledger: so it is stopped before that is."""

    NAME: ClassVar[str] = "restart-recorder"

    def __init__(self, context: ActorContext, *, run_id: str, nth: int) -> None:
        super().__init__(context)
        self._run_id = run_id
        self._nth = nth  # of the resume that this orchestrator stands for
        self._recorded = 0

    def receive(self, message: Any) -> None:
        """Have it appended. Of supervisors that gave up, only the topmost one ends the run."""
        match message:
            case ActorRestarted(name, reason, count):
                self._record(system.ActorRestarted(name, reason, count), name)
            case GaveUp(name, Crash(RestartLimitExceeded() | MessagePoisoned() as error)):
                if name == RUN_SUPERVISOR:
                    self._record(system.RunStopped(self._nth, error.code, error.what), name)
            case GaveUp():
                pass  # what was refused from the start is told where it was asked for
            case _:
                super().receive(message)

    def _record(self, note: Payload, name: str) -> None:
        now_ms = self.runtime.clock.wall_ms()
        self._recorded += 1  # a supervisor that was restarted counts from one again, perhaps within a millisecond
        event = event_of(
            note,
            task_id=self._run_id,
            correlation_id=self._run_id,
            now_ms=now_ms,
            cause=(name, self.context.incarnation, self._recorded, now_ms),
        )
        self.tell(LEDGER, Append(event))
