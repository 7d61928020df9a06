"""One simulated run: orchestrators one after the other over one disk, until the run is over.

What is production's own: the tree of actors from `RunTree`, the supervisors, all that the actors call, the workers, the
opening and resuming of a run. What is played: threads, time, processes, the disk, agents, the user's tree, and the main
thread, which does here what `orchestrator` does with messages.
"""

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from oracle import Oracle, Violation
from scheduler import Scheduler, Stuck
from simulated_agent import Journal, SimulatedAgents, agreed
from simulated_disk import SimulatedDisk, simulated
from simulated_worker import SimulatedHost, SimulatedLink
from striking import HARMLESS_MAX, POISON, Faults, Injected, Plan, Unheard, draw_plan

from lorch_actors.actors import ring, snapshotter
from lorch_actors.actors.messages import Shutdown
from lorch_actors.actors.opening import Opening, Settled
from lorch_actors.actors.orchestrator import HALT_MS, STOP_MS
from lorch_actors.actors.request import RunRequest
from lorch_actors.actors.resuming import open_run
from lorch_actors.actors.run_tree import RunTree
from lorch_actors.actors.tree import Tree, start_tree
from lorch_actors.errors import StorageError
from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.configuration import parse_configuration
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.records.rebuild import complete, complete_finished, transcript_of
from lorch_actors.storage.artifacts import Verdict
from lorch_actors.storage.ledger import read_lines
from lorch_actors.storage.manifests import Found, Snapshot
from lorch_actors.storage.workspace import OWN_DIRECTORIES, Workspace
from lorch_actors.workflow.system import ProcessRef

ROOT = Path("/simulated")
WORKSPACE = Workspace(ROOT)
RUN_ID = "run-20260101-000000-0000abcd"
TASKS = ("T-1",)
START_MS = 1_767_225_600_000
ORCHESTRATORS_MAX = 25
RUN_MAX_MS = 4 * 3_600_000
QUIET_MAX_MS = 15 * 60_000
"""A run that is not over has news within that time: deadlines, backoffs and waits of these runs are all shorter."""

SCRIPTS: tuple[dict[str, str], ...] = (
    {},
    {},
    {},
    {"review 1": "changes"},
    {"update_spec 1": "spec changes"},
    {"implement 1": "tests fail"},
)
DIRECTORIES = (str(ROOT), *(str(ROOT / name) for name in OWN_DIRECTORIES), str(ROOT / "state" / "requests"))


SUPERVISORS = {ring.RUN_SUPERVISOR, ring.RING_SUPERVISOR, ring.AGENT_SUPERVISOR}
"""When one of them crashes, what is below it ends by itself, a while later."""


class Died(BaseException):
    """The orchestrator is dead at this very moment."""


@cache
def configuration() -> Any:
    """Return the configuration of the simulated runs: short deadlines, no git."""
    seconds = {"implement": 60, "implement_changes": 60, "review": 60, "update_spec": 60}
    roles = ("builder", "reviewer", "spec_maintainer")
    agents = {role: {"cmd": ["simulated"], "timeouts_s": seconds} for role in roles}
    policy = {"git": "off", "redact_secrets_in_logs": False}
    declared = [{"id": task_id, "goal": f"do {task_id}"} for task_id in TASKS]
    document = {"version": "1.0", "policy": policy, "agents": agents, "tasks": declared}
    return parse_configuration(msgspec.json.encode(document), "lorch.json")[0]


def _request() -> RunRequest:
    chosen = configuration()
    return RunRequest(ROOT, ROOT / "lorch.json", chosen, tasks=chosen.tasks, run_id=RUN_ID, quiet=True)


BOOT = "simulated-boot"


class _Link:
    """Stands in for the pipe to a guardian."""

    pidfd = -1
    guardian_pid = 1
    run_id = RUN_ID
    workspace = str(ROOT)

    def __init__(self, start: int) -> None:
        self.start = start
        self.predecessors = tuple(ProcessIdentity(BOOT, nth + 1, nth + 1) for nth in range(start))

    def beat(self) -> None:
        pass

    def settled(self) -> None:
        pass


def _opening(start: int, process: ProcessRef, now_ms: int) -> Opening | Settled:
    """Open the run as `run_orchestrator` does, without what differs from one machine to the next."""
    opening = open_run(_request(), _Link(start), WORKSPACE, RUN_ID, process)  # type: ignore[arg-type]
    if isinstance(opening, Settled):
        return opening
    said = {key: value for key, value in (opening.event.payload or {}).items() if key not in ("host", "command")}
    payload = said | {"host": "simulated", "command": ["lorch"]} if "host" in (opening.event.payload or {}) else said
    event = msgspec.structs.replace(opening.event, occurred_at=to_timestamp(now_ms), payload=payload)
    return msgspec.structs.replace(opening, event=event)


@cache
def _first_opening() -> Opening:
    with simulated(SimulatedDisk(DIRECTORIES)):
        opening = _opening(0, ProcessRef(BOOT, 1, 1), START_MS)
    assert isinstance(opening, Opening)
    return opening


class _World(Scheduler):
    """The scheduler of one orchestrator, whose actors fail when they are armed.

    above: which incarnation of its supervisor has started an actor.
    """

    world: "World"

    def __init__(self, seed: object, start_ms: int, trace: Callable[[str], None] | None) -> None:
        super().__init__(seed, start_ms, trace)
        self.above: dict[Any, int] = {}

    def on_start(self, actor: Any) -> None:
        context = actor.context
        above = self.actors.get(context.supervisor or "")
        if above is not None:
            incarnation = self.above[actor] = above.context.incarnation
            self.world.watch(
                lambda: self.world.oracle.started(context.name, context.supervisor, incarnation, self.now_ms)
            )

    def fail(self, actor: Any, envelope: Any) -> None:
        when, count = self.world.faults.armed.pop(actor.name)
        if when == "before":
            self.step(actor, _in_its_place(envelope))
        elif when == "after":
            self.step(actor, envelope)
            if not actor.ended:
                self.step(actor, _in_its_place(envelope))
        else:
            with _raising(actor, count):
                self.step(actor, envelope)

    def disturb(self) -> None:
        self.world.faults.strike()
        self.world.expect_the_next_strike()

    def pass_time(self) -> None:
        super().pass_time()
        self.world.look_at_the_time()


def _in_its_place(envelope: Any) -> Any:
    return type(envelope)(Unheard(), reply_to=envelope.reply_to)


@contextmanager
def _raising(actor: Any, count: int) -> Iterator[None]:
    """Have the actor raise when it tells somebody something for the nth time in this step."""
    left = count
    directory = actor.runtime.directory
    tell = directory.tell

    def fail(name: str, message: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            directory.tell = tell
            raise Injected("amid a step")
        told: bool = tell(name, message)
        return told

    directory.tell = fail
    try:
        yield
    finally:
        directory.tell = tell


class _Workers(SimulatedHost):
    """Workers whose calls to the disk are theirs."""

    world: "World"
    scheduler: _World

    def on_start(self, link: SimulatedLink) -> None:
        front = self.scheduler.actors.get(link.name)
        if front is not None and front._announced:
            supervisor, now_ms = front.context.supervisor, self.scheduler.now_ms
            incarnation = self.scheduler.above.get(front)  # whose order it is, even if that one has failed since
            if incarnation is not None:
                self.world.watch(lambda: self.world.oracle.restarted(link.name, supervisor, incarnation, now_ms))

    def at_work(self, link: SimulatedLink, deed: Callable[[], object]) -> None:
        disk = self.world.disk
        disk.owner = link.owner
        try:
            super().at_work(link, deed)
        finally:
            disk.owner = ""

    def buried(self, link: SimulatedLink) -> None:
        super().buried(link)
        self.world.disk.let_go(link.owner)


class Begun(NamedTuple):
    """Where a simulated run begins. left: about which part of it is still to come."""

    ledger: bytes
    journal: Journal
    oracle: Oracle
    left: float


class World:
    """A run from a seed. ``play`` plays it and raises Violation or Stuck if a promise is broken."""

    def __init__(
        self,
        seed: object,
        *,
        plan: Plan | None = None,
        script: int | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._chance = random.Random(f"world {seed}")
        self._seed = seed
        self._trace = trace
        self.script = self._chance.randrange(len(SCRIPTS)) if script is None else script
        begun = Begun(b"", Journal(), Oracle(), 1.0) if plan is not None else self._draw_beginning()
        self.faults = Faults(self, self._chance, draw_plan(self._chance, begun.left) if plan is None else plan)
        self.oracle = begun.oracle
        self.journal = begun.journal
        self.disk = SimulatedDisk(DIRECTORIES)
        self.begun: list[bytes] = []  # where others may begin: pickled moments of this run
        self.disk.on_call = self.faults.on_call
        self.disk.on_synced = self._on_synced
        self._ledger = str(WORKSPACE.ledger(RUN_ID))
        if begun.ledger:
            self.disk.lay(self._ledger, begun.ledger)
        self.turns_before = 0
        self._now_ms = START_MS
        self._wall_offset_ms = 0
        self._heard: list[Any] = []
        self._progress = (0, START_MS)
        self._records = False
        self.orchestrators = int(bool(begun.ledger))
        self.ended = ""
        self.scheduler: _World
        self.workers: _Workers
        self.agents: SimulatedAgents

    def _draw_beginning(self) -> Begun:
        """Begin with an empty disk, or where an orchestrator died after one of the steps, projections and all gone."""
        moments = story_of(self.script).moments
        moment = self._chance.randrange(len(moments) + 1)
        return Begun(b"", Journal(), Oracle(), 1.0) if moment == 0 else pickle.loads(moments[moment - 1])

    def play(self) -> "World":
        """Play the run to its end."""
        with simulated(self.disk), _tree_in_memory():
            while self.ended not in ("completed", "failed"):
                if self.orchestrators >= ORCHESTRATORS_MAX:
                    raise Stuck(f"not over after {ORCHESTRATORS_MAX} orchestrators; the last: {self.ended}")
                self.ended = self._orchestrate()
                self._check_the_interruption()
            self._check_the_end()
        return self

    # -- one orchestrator ---------------------------------------------------------------------------------------

    def _orchestrate(self) -> str:
        nth = self.orchestrators
        self.orchestrators += 1
        self._now_ms += 1000
        self.faults.new_orchestrator()
        self.oracle.new_orchestrator(nth)
        self._begin_scheduler(nth)
        process = ProcessRef(BOOT, nth + 1, nth + 1)
        opening = _first_opening() if self.disk.content(self._ledger) is None else self._open(nth, process)
        if isinstance(opening, Settled):
            assert opening.run is not None
            try:
                complete_finished(WORKSPACE)
            except StorageError as error:
                return f"interrupted: {error}"
            return str(opening.run.status)
        run_process = opening.event.payload["process"]  # type: ignore[index]
        process = ProcessRef(**run_process)
        link: Any = _Link(nth)
        plan = RunTree(WORKSPACE, opening, process, to_timestamp(self._now_ms), link, None)
        self._heard.clear()
        self.scheduler.runtime.directory.register(ring.MAIN, _Main(self._heard))
        try:
            tree = start_tree(self.scheduler.runtime, plan.root())
            return self._wait(tree)
        except Died as death:
            return str(death)
        except StorageError as error:  # of the main thread, which ends with it
            return self._interrupted(f"interrupted: {error}")
        finally:
            self._now_ms = self.scheduler.now_ms
            self._wall_offset_ms = self.scheduler.wall_offset_ms
            self.turns_before += self.scheduler.turns

    def _open(self, nth: int, process: ProcessRef) -> Opening | Settled:
        opening = _opening(nth, process, self._now_ms)
        is_new = isinstance(opening, Opening) and not opening.loaded.run.started
        return _first_opening() if is_new else opening

    def _begin_scheduler(self, nth: int) -> None:
        scheduler = self.scheduler = _World(f"{self._seed} {nth}", self._now_ms, self._trace)
        scheduler.world = self
        scheduler.armed = self.faults.armed
        self.expect_the_next_strike()
        scheduler.wall_offset_ms = self._wall_offset_ms
        scheduler.tell(f"=== orchestrator {nth + 1}, script {SCRIPTS[self.script]}")
        self.workers = _Workers(scheduler, first_pid=1000 * (nth + 1))
        self.workers.world = self
        self.agents = SimulatedAgents(
            scheduler, self.journal, agreed(SCRIPTS[self.script]), self.faults.way, self.oracle.at_agent
        )
        scheduler.runtime.workers = self.workers  # type: ignore[assignment]
        scheduler.runtime.agents = self.agents

    def expect_the_next_strike(self) -> None:
        """Have the scheduler stop where the next fault is due."""
        self.scheduler.disturbed_from = self.faults.next_turn - self.turns_before

    def _wait(self, tree: Tree) -> str:
        """Do what the main thread does: wait for what concerns the whole run, then stop the tree."""
        heard = self._heard
        self.scheduler.run_until(lambda: heard or tree._reason is not None)
        if not self._heard:
            return self._interrupted(f"the tree ended: {tree.wait(0)}")
        message = self._heard[0]
        if isinstance(message, ring.Broken):
            self.scheduler.runtime.tell(ring.CONDUCTOR, ring.Halt("storage_failed", message.message))
        tree.stop()
        until_ms = self.scheduler.now_ms + STOP_MS
        self.scheduler.run_until(lambda: tree._ended.is_set() or self.scheduler.now_ms > until_ms)
        if tree._ended.is_set() and tree.wait(0) == Shutdown() and not self.faults.struck & SUPERVISORS:
            self._check_nothing_is_left()
        self._interrupted("")
        if isinstance(message, ring.Finished):
            complete(WORKSPACE, RUN_ID)
            return str(message.run.status)
        return f"interrupted: {message}"

    def _interrupted(self, why: str) -> str:
        """Let everything that is left be ended, as the main thread does at last."""
        for agent in [*self.agents.alive.values()]:
            agent.end_tree()
        self.disk.kill_all()
        return why

    def die(self, *, power: bool) -> None:
        """Let the orchestrator be dead now, and all below it; or the machine."""
        self._interrupted("")
        if power:
            self.disk.crash(self._chance)
        raise Died("the power was cut" if power else "the orchestrator was killed")

    def halt(self) -> None:
        """Ask for a stop, as Ctrl-C does; what takes too long is ended at once."""
        scheduler = self.scheduler
        scheduler.runtime.tell(ring.CONDUCTOR, ring.Halt("signal", "stopped by SIGINT"))
        scheduler.call_at(scheduler.now_ms + HALT_MS, lambda: self.die(power=False))

    # -- what is looked at --------------------------------------------------------------------------------------

    def look_at_the_time(self) -> None:
        """Find out whether the run stands still, or takes for ever."""
        now_ms = self.scheduler.now_ms
        known, since_ms = self._progress
        if self.oracle.progress != known:
            self._progress = (self.oracle.progress, now_ms)
        elif now_ms - since_ms > QUIET_MAX_MS:
            raise Stuck(f"nothing has happened for {QUIET_MAX_MS} ms of simulated time")
        if now_ms > START_MS + RUN_MAX_MS:
            raise Stuck(f"not over after {RUN_MAX_MS} ms of simulated time")

    def watch(self, look: Callable[[], object]) -> None:
        """Look at something; a violation is raised at the end of the turn."""
        try:
            look()
        except Violation as violation:
            self.scheduler.broken = self.scheduler.broken or violation

    def _on_synced(self, path: str) -> None:
        if path == self._ledger:
            content = self.disk.content(path)
            assert content is not None
            settled = len(self.oracle.settled)
            self.watch(lambda: self.oracle.synced(content))
            if len(self.oracle.settled) > settled and self._records:
                left = 1 - 0.2 * len(self.oracle.settled)
                self.begun.append(pickle.dumps(Begun(bytes(content), self.journal, self.oracle, max(0.2, left))))

    def _check_the_interruption(self) -> None:
        if self.scheduler.broken is not None:
            raise self.scheduler.broken
        faults = self.faults
        is_over = self.ended in ("completed", "failed")
        is_poisoned = faults.harmless >= POISON and "MessagePoisoned" in self.ended
        if not is_over and not is_poisoned and not faults.harmful and faults.harmless <= HARMLESS_MAX:
            raise Violation(f"{faults.harmless} harmless faults interrupted the run: {self.ended[:300]}")

    def _check_nothing_is_left(self) -> None:
        self.scheduler.settle()  # what was given up on ends by itself, a moment later
        left = {
            "actors": sorted(name for name, one in self.scheduler.actors.items() if not one.actor_inbox.blocked),
            "workers": sorted(self.workers.links),
            "agents": [agent.agent_id for agent in self.agents.alive.values()],
            "descriptors of agents": [agent.agent_id for agent in self.agents.unreleased],
            "locks": [*self.disk.held()],
        }
        if any(left.values()):
            raise Violation(f"left behind after an orderly end: { {k: v for k, v in left.items() if v} }")

    def _check_the_end(self) -> None:
        oracle = self.oracle
        lines = [*read_lines(self._ledger, RUN_ID)]
        for line in lines[oracle.seq :]:
            oracle.entry(msgspec.json.decode(line.raw))  # what a power cut has left although it was never synced
        if len(lines) != oracle.seq or (lines and lines[-1].chain != oracle.chain):
            raise Violation(f"the ledger has {len(lines)} entries, {oracle.seq} were synced")
        story = story_of(self.script).keys
        if self.ended == "completed":
            if [*oracle.keys] != story:
                raise Violation(f"the run did {[*oracle.keys.values()]}, not the {len(story)} steps of its script")
            if oracle.settled != set(story):
                raise Violation("it is completed, and not every step is settled")
            self._check_projections(len(story))
        elif self.faults.blame < oracle.max_attempts and self.faults.deaths < 5:
            raise Violation(f"it failed without cause: {oracle.failures}")
        elif not oracle.failures or not oracle.failures[-1]["failure"]["message"]:
            raise Violation("it failed and does not say why")

    def _check_projections(self, steps: int) -> None:
        state = msgspec.json.decode(bytes(self.disk.content(str(WORKSPACE.run_state)) or b"null"))
        if state is None or (state["status"], state["seq"]) != ("completed", self.oracle.seq):
            raise Violation(f"run.json says {state and (state['status'], state['seq'])}, not {self.oracle.seq}")
        transcript = self.disk.content(str(WORKSPACE.transcript(RUN_ID)))
        if transcript != transcript_of(WORKSPACE, RUN_ID):
            raise Violation("the transcript is not what the ledger says")
        receipts = self.disk.listdir(WORKSPACE.receipts(TASKS[0]))
        expected = {f"step-{number}.json" for number in range(1, steps + 1)}
        if {name for name in receipts if not name.startswith(".")} != expected:
            raise Violation(f"receipts {sorted(receipts)} for {steps} steps")


class _Main:
    """The inbox of the main thread."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    def tell(self, message: Any) -> None:
        self._heard.append(message)


class Story(NamedTuple):
    """An undisturbed run: the keys of its steps in order, and the moments after each step, for others to begin at."""

    keys: list[str]
    moments: list[bytes]


@cache
def story_of(script: int) -> Story:
    """Return what an undisturbed run of that script comes to."""
    first = SCRIPTS.index(SCRIPTS[script])
    if first != script:
        return story_of(first)
    world = World(f"undisturbed {script}", plan=Plan(), script=script)
    world._records = True
    with simulated(world.disk), _tree_in_memory():
        assert world._orchestrate() == "completed"
    return Story([*world.oracle.keys], world.begun)


@contextmanager
def _tree_in_memory() -> Iterator[None]:
    """Have the user's tree be one that never changes, and the claims of agents be right."""
    before = snapshotter.capture, snapshotter.verify_artifacts
    tree = Snapshot("snap-0123456789ab", Found({}, {}), (), 0)
    snapshotter.capture = lambda *_, **__: tree
    snapshotter.verify_artifacts = lambda *_, **__: Verdict((), ())
    try:
        yield
    finally:
        snapshotter.capture, snapshotter.verify_artifacts = before
