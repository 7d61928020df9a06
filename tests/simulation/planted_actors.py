"""Bugs to be planted in the actor system, one at a time: each takes one safeguard away; some seed has to find it."""

from planted import Bug

from lorch_actors.actors import ledger_writer
from lorch_actors.actors.agent import AgentActor
from lorch_actors.actors.agent_keeper import ProcessKeeper
from lorch_actors.actors.base import Actor
from lorch_actors.actors.child import RestartWindow
from lorch_actors.actors.conductor import Conductor
from lorch_actors.actors.ledger_writer import LedgerWriter
from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.records.projector import Projector
from lorch_actors.storage.ledger import LedgerFile
from lorch_actors.workflow import losses

SEEDS_MAX = 4000
"""Within so many seeds each has to be found."""

ACTOR_BUGS = (
    Bug("repeats are not dropped", "seeds", LedgerWriter._is_repeat, "message.message_id in self._seen:", "False:"),
    Bug("entries are told before they are synced", "seeds", ledger_writer._end_of, "file.synced", "file._last"),
    Bug("an end is not told", "seeds", Actor.end, "self.runtime.directory.tell(self.context.supervisor, down)"),
    Bug(
        "an exit costs no attempt",
        "seeds",
        losses.after_loss,
        "pending.attempt + (1 if loss.counted else 0)",
        "pending.attempt",
    ),
    Bug("the restart window is not looked at", "seeds", RestartWindow.admit, "return ", "return True or "),
    Bug(
        "any incarnation takes a command",
        "seeds",
        AgentActor._hear,
        "message.to.agent_id == process.agent_id and ",
        "",
    ),
    Bug("a new worker is not given what the old one had", "seeds", ProcessActor._launch, "self._sent = 0"),
    Bug(
        "acknowledged messages are sent again", "seeds", ProcessActor._on_ack, "self._unacknowledged.popleft()", "break"
    ),
    Bug("the writer takes entries twice", "seeds", LedgerFile.append, "if number <= seq:", "if False:"),
    Bug("a restarted conductor reads nothing", "seeds", Conductor.receive, "self._catch_up(position.seq)"),
    Bug("what a restarted actor was asked is not asked again", "seeds", Conductor._fold, "self._given.clear()"),
    Bug(
        "a position beyond a receipt that failed",
        "seeds",
        Projector.apply,
        "disk.make_directory(path.parent)",
        "self.position = position; disk.make_directory(path.parent)",
    ),
    Bug("descriptors stay with a dead actor", "seeds", ProcessKeeper.cleanup, "self._release()"),
    Bug("a lost agent is not told", "seeds", ProcessKeeper._record_loss, "self.context.incarnation > 1", "False"),
)
