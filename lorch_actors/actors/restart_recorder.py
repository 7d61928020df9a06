"""Writes restarts of actors and workers into the ledger, so that they can be counted and seen afterwards."""

from typing import Any, ClassVar

from lorch_actors.actors.base import Actor, ActorContext
from lorch_actors.actors.messages import ActorRestarted
from lorch_actors.actors.ring import LEDGER, Append
from lorch_actors.workflow import system
from lorch_actors.workflow.payloads import event_of


class RestartRecorder(Actor):
    """Hears of restarts from every supervisor; a child of the topmost one, so that it outlives those it hears of."""

    NAME: ClassVar[str] = "restart-recorder"

    def __init__(self, context: ActorContext, *, run_id: str) -> None:
        super().__init__(context)
        self._run_id = run_id
        self._recorded = 0

    def receive(self, message: Any) -> None:
        """Have a restart appended."""
        match message:
            case ActorRestarted(name, reason, count):
                now_ms = self.runtime.clock.wall_ms()
                self._recorded += (
                    1  # a supervisor that was restarted counts from one again, perhaps within a millisecond
                )
                event = event_of(
                    system.ActorRestarted(name, reason, count),
                    task_id=self._run_id,
                    correlation_id=self._run_id,
                    now_ms=now_ms,
                    cause=(name, self.context.incarnation, self._recorded, now_ms),
                )
                self.tell(LEDGER, Append(event))
            case _:
                super().receive(message)
