"""Bugs to be planted in the actor system, one at a time: each takes one safeguard away; some seed has to find it."""

from planted import Bug

SEEDS_MAX = 4000
"""Within so many seeds each has to be found."""

ACTORS = "lorch_actors.actors."
SEEDS = "tests/simulation/test_simulation.py"

ACTOR_BUGS = tuple(
    Bug(name, SEEDS, function, piece, *instead)
    for name, function, piece, *instead in (
        (
            "repeats are not dropped",
            f"{ACTORS}ledger_writer:LedgerWriter._is_repeat",
            "known in self._seen:",
            "False:",
        ),
        ("entries are told before they are synced", f"{ACTORS}ledger_worker:_end_of", "file.synced", "file._last"),
        (
            "an end is not told",
            f"{ACTORS}base:Actor.end",
            "self.runtime.directory.tell(self.context.supervisor, down)",
        ),
        (
            "an exit costs no attempt",
            "lorch_actors.workflow.losses:after_loss",
            "pending.attempt + (1 if loss.counted else 0)",
            "pending.attempt",
        ),
        ("the restart window is not looked at", f"{ACTORS}child:RestartWindow.admit", "return ", "return True or "),
        (
            "a new worker is not given what the old one had",
            f"{ACTORS}process_actor:ProcessActor._launch",
            "self._sent = 0",
        ),
        (
            "acknowledged messages are sent again",
            f"{ACTORS}process_actor:ProcessActor._on_ack",
            "self._unacknowledged.popleft()",
            "break",
        ),
        (
            "the writer takes entries twice",
            "lorch_actors.storage.ledger:LedgerFile.append",
            "if number <= seq:",
            "if False:",
        ),
        (
            "a restarted conductor reads nothing",
            f"{ACTORS}conductor:Conductor.receive",
            "self._catch_up(position.seq)",
        ),
        (
            "an agent's tree is not ended before its exit is recorded",
            f"{ACTORS}agent_keeper:ProcessKeeper._on_exit",
            "self.apart(process.end_tree, self._on_cleared)",
            "self._on_cleared()",
        ),
        (
            "an agent is started before those that left the last one are gone",
            f"{ACTORS}agent_keeper:ProcessKeeper._finish_process",
            "self.apart(process.end_escaped, self._on_swept)",
            "self._on_swept()",
        ),
        (
            "descriptors stay with a dead actor",
            f"{ACTORS}agent_keeper:ProcessKeeper.cleanup",
            "self._release()",
        ),
        (
            "a lost agent is not told",
            f"{ACTORS}agent_keeper:ProcessKeeper._record_loss",
            "self.context.incarnation > 1",
            "False",
        ),
    )
)
