"""Recording worker processes in the ledger, so that they can be found again for certain after everything else died."""

from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.ring import LEDGER, Append
from lorch_actors.processes import ProcessIdentity
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.system import WorkerStarted


def worker_started(actor: ProcessActor, run_id: str, identity: ProcessIdentity) -> None:
    """Have it recorded which process does the actor's work from now on."""
    event = event_of(
        WorkerStarted(actor.name, ProcessRef(*identity)),
        task_id=run_id,
        correlation_id=run_id,
        now_ms=actor.runtime.clock.wall_ms(),
        cause=(actor.name, identity.boot_id, identity.pid, identity.start_ticks),
    )
    actor.tell(LEDGER, Append(event, urgent=False))
