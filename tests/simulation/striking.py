"""What goes wrong in a simulated run: drawn from the seed before it begins, and done at its turn.

Each seed draws which kinds of faults it may have at all ("swarm testing", Groce et al., ISSTA 2012), then how many, and
at which turns. So some seeds have one fault of one kind, and some have a dozen of all.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scheduler import NEVER
from simulated_agent import ODD, WAYS
from simulated_worker import Death

from lorch_actors.actors import ring

TURNS = 550
"""About as many turns as an undisturbed run takes; strikes fall into them, and a few come too late."""

KINDS = (
    "raise before",
    "raise amid",
    "raise after",
    "kill worker",
    "kill worker at a call",
    "kill worker before it answers",
    "stop worker",
    "fail a call",
    "fill the disk",
    "kill agent",
    "kill orchestrator",
    "cut the power",
    "halt",
    "hold up actor",
    "move the clock",
    "rush",
    "agents fail",
    "agents are odd",
)
WORKERS = (ring.LEDGER, ring.RUN_STATE, ring.SNAPSHOTTER)
HARMLESS = ("kill worker", "kill worker at a call", "kill worker before it answers", "kill agent", "move the clock")
"""What a run takes without being interrupted, a few times at least. So it does a bug in an actor, but the topmost."""
HARMLESS_MAX = 3
POISON = 3
"""So many deaths on one message are taken to be its fault, and stop the run: chance may strike that often, too."""
BLAMED = (*KINDS[:3], "fail a call", "fill the disk", "kill agent", "hold up actor", "rush")
"""What may cost an attempt: an agent ends when its actor does, and when its deadline passes."""


class Injected(Exception):  # noqa: N818 - it is what it says
    """The bug that an actor is made to have."""


@dataclass(frozen=True)
class Unheard:
    """What no actor expects."""


@dataclass
class Strike:
    """One fault: its kind, from which turn on, and a number that says more."""

    kind: str
    turn: int
    number: float


@dataclass
class Plan:
    """All that is to go wrong. failing, odd: how often a delivery does, in [0, 1). budget: how many may fail in all."""

    strikes: list[Strike] = field(default_factory=list)
    failing: float = 0.0
    odd: float = 0.0
    budget: int = 0


def draw_plan(chance: random.Random, left: float = 1.0) -> Plan:
    """Draw what goes wrong in a run of which so much is still to come."""
    kinds = [kind for kind in KINDS if chance.random() < 0.4] or [chance.choice(KINDS)]
    plan = Plan()
    if "agents fail" in kinds:
        plan.failing, plan.budget = chance.choice(((0.3, 2), (0.3, 2), (0.6, 30)))
    if "agents are odd" in kinds:
        plan.odd = 0.5
    struck = [kind for kind in kinds if not kind.startswith("agents")]
    count = chance.choice((0, 1, 1, 1, 2, 2, 3, 4, 6, 9)) if struck else 0
    strikes = [
        Strike(chance.choice(struck), int(chance.random() * TURNS * left), chance.random()) for _ in range(count)
    ]
    if struck and chance.random() < 0.1:
        strikes += _storm(chance, left)
    plan.strikes = sorted(strikes, key=lambda strike: strike.turn, reverse=True)
    return plan


def _storm(chance: random.Random, left: float) -> list[Strike]:
    """Return many faults of one kind that meet one and the same, shortly one after the other."""
    kind, number = chance.choice(("raise before", "kill worker")), chance.random()
    start = chance.random() * TURNS * left
    return [Strike(kind, int(start + 30 * nth), number) for nth in range(12)]


class Faults:
    """Carries a plan out. ``world`` is struck: its scheduler, workers, agents and disk.

    armed: what the named actor does at its next step. struck: those that were armed in this orchestrator.
    fuse: how many calls to the disk until something happens, what,
    and to whose. blame: how many faults so far may have cost an attempt.
    """

    def __init__(self, world: Any, chance: random.Random, plan: Plan) -> None:
        self._world = world
        self._chance = chance
        self._plan = plan
        self.armed: dict[str, tuple[str, int]] = {}
        self.struck: set[str] = set()
        self.harmless = 0  # strikes in this orchestrator that must not interrupt it
        self.harmful = 0
        self._fuse = 0
        self._burn: Callable[[], int | None] | None = None
        self._kills = False  # only workers can be killed in the middle of a call
        self.blame = 0
        self.deaths = 0
        self.next_turn = plan.strikes[-1].turn if plan.strikes else NEVER

    def new_orchestrator(self) -> None:
        """Forget what was meant for the old one: a full disk is emptied, nobody is armed."""
        self.armed.clear()
        self.struck.clear()
        self.harmless = self.harmful = 0
        self._burn = None

    def way(self, _role: str) -> str:
        """Return how the next delivery goes."""
        plan = self._plan
        if plan.budget and self._chance.random() < plan.failing:
            plan.budget -= 1
            self.blame += 1
            return self._chance.choice(WAYS)
        return self._chance.choice(ODD) if plan.odd and self._chance.random() < plan.odd else ""

    def on_call(self, name: str, path: str) -> int | None:
        """Let a call to the disk fail if it is its turn."""
        if self._burn is None or (self._kills and not self._world.disk.owner):
            return None
        self._fuse -= 1
        return self._burn() if self._fuse <= 0 else None

    def strike(self) -> None:
        """Do what is due."""
        strike = self._plan.strikes.pop()
        self.next_turn = self._plan.strikes[-1].turn if self._plan.strikes else NEVER
        self.blame += strike.kind in BLAMED
        self.harmless += strike.kind in HARMLESS
        self.harmful += strike.kind not in HARMLESS and not strike.kind.startswith("raise")
        self._world.scheduler.tell(f"--- {strike.kind} ({strike.number:.3f})")
        getattr(self, f"_{strike.kind.replace(' ', '_')}")(strike.number)

    # -- actors -------------------------------------------------------------------------------------------------

    def _raise_before(self, number: float) -> None:
        self._arm(number, "before", 0)

    def _raise_amid(self, number: float) -> None:
        self._arm(number, "amid", 1 + int(number * 1000) % 3)

    def _raise_after(self, number: float) -> None:
        self._arm(number, "after", 0)

    def _arm(self, number: float, when: str, count: int) -> None:
        names = sorted(self._world.scheduler.actors)
        if names:
            name = names[int(number * len(names))]
            self.armed[name] = (when, count)
            self.harmless += 1
            self.harmful += name == ring.RUN_SUPERVISOR
            self.struck.add(name)

    def _hold_up_actor(self, number: float) -> None:
        scheduler = self._world.scheduler
        names = sorted(scheduler.actors)
        if names:
            mailbox = scheduler.actors[names[int(number * len(names))]].actor_inbox
            mailbox.blocked = True
            scheduler.call_at(scheduler.now_ms + int(8000 * self._chance.random()), mailbox.release)

    # -- workers and the disk -----------------------------------------------------------------------------------

    def _link(self, number: float) -> Any:
        links = self._world.workers.links
        return links.get(WORKERS[int(number * len(WORKERS))])

    def _kill_worker(self, number: float) -> None:
        link = self._link(number)
        if link is not None:
            link.die("its process died")

    def _kill_worker_before_it_answers(self, number: float) -> None:
        link = self._link(number)
        if link is not None:
            link.dies_before_sending = True

    def _stop_worker(self, number: float) -> None:
        link = self._link(number)
        if link is not None:
            link.stalled = True
            if number * 100 % 1 < 0.5:
                scheduler = self._world.scheduler
                scheduler.call_at(scheduler.now_ms + int(12_000 * self._chance.random()), link.go_on)

    def _kill_worker_at_a_call(self, number: float) -> None:
        def burn() -> int | None:
            self._burn = None
            raise Death

        self._light(number, burn, kills=True)

    def _light(self, number: float, burn: Callable[[], int | None], *, kills: bool = False) -> None:
        self._fuse, self._burn, self._kills = 1 + int(number * 8), burn, kills

    def _fail_a_call(self, number: float) -> None:
        code = (errno.EIO, errno.ENOSPC, errno.EMFILE)[int(number * 300) % 3]

        def burn() -> int | None:
            self._burn = None
            raise OSError(code, os.strerror(code))

        self._light(number, burn)

    def _fill_the_disk(self, number: float) -> None:
        def burn() -> int | None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self._light(number, burn)

    # -- the rest -----------------------------------------------------------------------------------------------

    def _kill_agent(self, number: float) -> None:
        alive = [*self._world.agents.alive.values()]
        if alive:
            alive[int(number * len(alive))].end(None, 9)

    def _kill_orchestrator(self, number: float) -> None:
        self._world.die(power=False)

    def _cut_the_power(self, number: float) -> None:
        self._world.die(power=True)

    def _halt(self, number: float) -> None:
        self._world.halt()

    def _move_the_clock(self, number: float) -> None:
        self._world.scheduler.wall_offset_ms += int((number - 0.5) * 7_200_000)

    def _rush(self, number: float) -> None:
        """Let time go on although there is something to do: the machine is slow."""
        for _ in range(1 + int(number * 4)):
            if self._world.scheduler.has_alarms:
                self._world.scheduler.pass_time()
