"""Supervision, in the shape of OTP's `supervisor_SUITE`: one set of tests for every way of running actors.

{permanent, transient, temporary} x {normal, shutdown, crash, kill} x {one_for_one, rest_for_one, one_for_all}, then
escalation, the window, starts and stops that hang, bystanders, and failures while something else is going on.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from systems import System, crash, end_by_shutdown, end_normally, running

from lorch_actors.actors.child import ChildSpec, Restart, RestartLimitExceeded, Strategy, child
from lorch_actors.actors.messages import Reason, Shutdown
from lorch_actors.actors.supervisor import Supervisor, branch
from lorch_actors.actors.tree import Tree, start_tree
from lorch_actors.errors import LockedError

SEEDS = [(0, ()), *((seed, pytest.mark.long) for seed in range(1, 12))]
KINDS = [
    pytest.param(("threads", 0), id="threads"),
    pytest.param(("reactor", 0), id="reactor"),
    *(
        pytest.param((kind, seed), id=f"{kind}-{seed}", marks=marks)
        for kind in ("simulator", "simulated-processes")
        for seed, marks in SEEDS
    ),
]
WITH_PROCESSES = {
    "test_children_start_in_order_and_stop_in_reverse",
    "test_the_window_holds",
    "test_a_bystander_does_not_notice",
}
"""Tests that use processes by default as well; the others do so in the long suite."""

EXITS: dict[str, Any] = {"normal": end_normally, "shutdown": end_by_shutdown, "crash": crash}
IS_RESTARTED = {
    Restart.PERMANENT: {"normal", "shutdown", "crash", "kill"},
    Restart.TRANSIENT: {"crash", "kill"},
    Restart.TEMPORARY: set(),
}
GROUP = {
    Strategy.ONE_FOR_ONE: ["up b"],
    Strategy.REST_FOR_ONE: ["down c", "up b", "up c"],
    Strategy.ONE_FOR_ALL: ["down c", "down a", "up a", "up b", "up c"],
}


class Family:
    """A supervisor named ``top`` on a system, and what becomes of it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.tree: Tree | None = None

    def begin(self, *children: ChildSpec, **options: Any) -> "Family":
        """Start the tree."""
        given = {"intensity": 3, "period_ms": 1000, "report_to": "news"} | options
        self.tree = start_tree(self.system.runtime, child(Supervisor, "top", children=children, **given))
        return self

    def up(self, *names: str, **options: Any) -> "Family":
        """Have these permanent children running."""
        self.begin(*(self.system.child(name) for name in names), **options)
        self.system.events(*(f"up {name}" for name in names))
        self.is_up()
        return self

    def is_up(self) -> None:
        """Wait until the whole tree is."""
        assert self.tree is not None
        assert self.system.is_up(self.tree), self.tree.wait(0)

    def end(self, name: str, how: Any) -> None:
        """Make a child end."""
        if how == "kill":
            self.system.kill(name)
        else:
            self.system.runtime.tell(name, how)

    def reason(self) -> Reason:
        """Wait for the end of the tree and return why it ended."""
        assert self.tree is not None
        reason = self.system.reason(self.tree)
        assert reason is not None, self.system.record.events
        return reason

    def stop(self) -> list[str]:
        """Stop the tree in order; return what happened meanwhile."""
        assert self.tree is not None
        self.tree.stop()
        assert self.reason() == Shutdown()
        return self.system.rest()

    def restarts(self, count: int) -> list[str]:
        """Wait for that many reports of restarts; return whose they are."""
        self.system.until(lambda: len(self.system.reports) >= count)
        return [report.name for report in self.system.reports]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have every test run on every kind of system."""
    marks = () if metafunc.function.__name__ in WITH_PROCESSES else pytest.mark.long
    kinds = [*KINDS, pytest.param(("processes", 0), id="processes", marks=marks)]
    metafunc.parametrize("family", kinds, indirect=True)


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    with running(*request.param) as system:
        made = Family(system)
        yield made
        if made.tree is not None and made.tree.wait(0) is None:
            made.tree.abandon()


def test_children_start_in_order_and_stop_in_reverse(family: Family) -> None:
    """Each starts when the one before it is up; the last one stops first."""
    family.up("a", "b", "c")

    assert family.stop() == ["down c", "down b", "down a"]


@pytest.mark.parametrize(("strategy", "restart", "how"), [*product(Strategy, Restart, [*EXITS, "kill"])])
def test_who_is_restarted(family: Family, strategy: Strategy, restart: Restart, how: str) -> None:
    """Restart type x kind of exit x strategy: exactly OTP's set, in OTP's order.

    A worker that is killed is replaced behind its front, which nobody notices; that of a temporary child is not.
    """
    system = family.system
    family.begin(system.child("a"), system.child("b", restart), system.child("c"), strategy=strategy)
    system.events("up a", "up b", "up c")
    family.is_up()
    family.end("b", EXITS.get(how, how))
    left = ["down c", "down b", "down a"]
    if how not in IS_RESTARTED[restart]:
        system.events("down b")
        left.remove("down b")
    elif how == "kill" and system.front:
        system.events("again b")
    else:
        system.events("down b", *GROUP[strategy])
    if how in IS_RESTARTED[restart]:
        assert "b" in family.restarts(1)
    system.settle("top")

    assert family.stop() == left


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
def test_a_temporary_sibling_is_stopped_and_not_restarted(family: Family, strategy: Strategy) -> None:
    """A group restart takes a temporary child down and leaves it down."""
    system = family.system
    family.begin(system.child("a"), system.child("b", Restart.TEMPORARY), system.child("c"), strategy=strategy)
    system.events("up a", "up b", "up c")
    family.end("a", crash)
    system.events("down a", "down c", "down b", "up a", "up c")
    family.restarts(2)

    assert family.stop() == ["down c", "down a"]


def test_a_bystander_does_not_notice(family: Family) -> None:
    """Under one_for_one the neighbours of a crashing actor keep their incarnation and their mailbox."""
    system = family.system
    family.up("a", "b", "c")
    for number in range(3):
        system.runtime.tell("c", number)
        family.end("b", crash)
        assert family.restarts(number + 1) == ["b"] * (number + 1)
    system.settle("c")
    seen = [*system.rest(), *family.stop()]

    assert [event for event in seen if "b" not in event.split()] == [
        "c takes 0", "c takes 1", "c takes 2", "down c", "down a"
    ]  # fmt: skip


def test_giving_up_stops_the_children_in_reverse_and_names_the_culprit(family: Family) -> None:
    """One restart too many: everything below stops, and the reason goes upwards."""
    family.up("a", "b", "c", intensity=1)
    family.end("b", crash)
    family.restarts(1)
    family.end("b", crash)
    reason = family.reason()

    assert RestartLimitExceeded is type(reason.exception)  # type: ignore[union-attr]
    assert "top gave up on b: more than 1 restarts in 1 s; the last time: RuntimeError: told to crash" in str(reason)
    assert family.system.rest() == ["down b", "up b", "down b", "down c", "down a"]


def test_no_restart_at_all_when_the_intensity_is_nought(family: Family) -> None:
    """The first crash is one too many; a temporary child's never is."""
    system = family.system
    family.begin(system.child("a", Restart.TEMPORARY), system.child("b"), intensity=0)
    system.events("up a", "up b")
    family.is_up()
    family.end("a", crash)
    system.events("down a")
    system.settle("top")
    assert family.tree is not None
    assert family.tree.wait(0) is None
    family.end("b", crash)

    assert RestartLimitExceeded is type(family.reason().exception)  # type: ignore[union-attr]


@pytest.mark.parametrize("how", [crash, "kill"])
def test_the_window_slides(family: Family, how: Any) -> None:
    """Restarts that lie further apart than the period never add up, whether of actors or of their workers."""
    family.up("a", intensity=2)
    for count in range(1, 8):
        family.end("a", how)
        family.restarts(count)
        family.system.advance(501)

    assert family.stop()[-1] == "down a"


@pytest.mark.parametrize("how", [crash, "kill"])
def test_the_window_holds(family: Family, how: Any) -> None:
    """The intensity and one more within the period, at its very edge, are too many."""
    family.up("a", intensity=2)
    for count in (1, 2):
        family.end("a", how)
        family.restarts(count)
        family.system.advance(500)
    family.end("a", how)

    assert RestartLimitExceeded is type(family.reason().exception)  # type: ignore[union-attr]


def test_a_failure_climbs_the_tree(family: Family) -> None:
    """A supervisor that gives up is a crashed child of the one above, which restarts the whole branch."""
    system = family.system
    branch = child(Supervisor, "branch", children=[system.child("a"), system.child("b")], intensity=0, period_ms=1000)
    family.begin(system.child("bystander"), branch)
    system.events("up bystander", "up a", "up b")
    family.is_up()
    family.end("a", crash)
    system.events("down a", "down b", "up a", "up b")
    assert family.restarts(1) == ["branch"]

    assert "branch gave up on a" in system.reports[0].reason
    assert family.stop() == ["down b", "down a", "down bystander"]


def test_a_failure_climbs_to_the_top(family: Family) -> None:
    """Where every level gives up, the topmost ends with the reason of the lowest, and nothing is left."""
    system = family.system
    inner = child(Supervisor, "inner", children=[system.child("a")], intensity=0)
    outer = child(Supervisor, "outer", children=[system.child("b"), inner], intensity=0)
    family.begin(system.child("c"), outer, intensity=0)
    system.events("up c", "up b", "up a")
    family.is_up()
    family.end("a", crash)

    assert "outer" in str(family.reason())
    assert "told to crash" in str(family.reason())
    assert system.rest() == ["down a", "down b", "down c"]


def test_a_failed_restart_is_tried_again_and_counts(family: Family) -> None:
    """A child that comes up at the third try is kept; each failed try used up one restart."""
    system = family.system
    family.begin(system.child("a", fails=(2, 3)), system.child("b"))
    system.events("up a", "up b")
    family.is_up()
    family.end("a", crash)
    system.events("down a", "down a", "down a", "up a")
    assert family.restarts(1) == ["a"]
    family.end("a", crash)

    assert RestartLimitExceeded is type(family.reason().exception)  # type: ignore[union-attr]


def test_a_first_start_that_is_refused_is_the_failure_of_the_tree(family: Family) -> None:
    """What was up is stopped in reverse order, what comes after is never started, and the refusal goes upwards."""
    system = family.system
    refusal = LockedError("somebody has the ledger")
    family.begin(system.child("a"), system.child("b", refuses=refusal), system.child("c"))

    assert family.reason().exception is refusal  # type: ignore[union-attr]
    assert system.rest() == ["up a", "down b", "down a"]


def test_a_restart_that_hangs_is_cut_off_and_tried_again(family: Family) -> None:
    """It has its time; then it is cut off, and the next incarnation comes up. Neighbours do not wait for it."""
    system = family.system
    family.begin(system.child("a", hangs=(2,), start_timeout_ms=700), system.child("b"), period_ms=10_000)
    system.events("up a", "up b")
    family.is_up()
    family.end("a", crash)
    system.events("down a", "hangs a")
    system.settle("top")
    family.end("b", crash)
    system.events("down b", "up b")
    system.advance(700)
    system.until(lambda: len(system.record.events) >= 3)

    assert system.rest()[0] == "cut a"
    assert family.restarts(2) == ["b", "a"]
    assert family.stop() == ["down b", "down a"]


def test_a_start_that_hangs_does_not_hold_up_the_stop(family: Family) -> None:
    """A supervisor that is asked to stop while a child hangs in its start ends after that child's shutdown time."""
    system = family.system
    family.begin(system.child("a"), system.child("b", hangs=(1,), shutdown_ms=300, stubborn=True), system.child("c"))
    system.events("up a", "hangs b")
    system.settle("top")
    assert family.tree is not None
    family.tree.stop()
    system.events("asked b")
    system.settle("top")
    system.advance(300)

    assert family.reason() == Shutdown()
    assert {"cut b", "down a"} <= {*system.rest()}


def test_a_stop_that_hangs_is_cut_off_after_its_time(family: Family) -> None:
    """Not before; the others still stop in order."""
    system = family.system
    family.begin(system.child("a"), system.child("b", shutdown_ms=300, stubborn=True), system.child("c"))
    system.events("up a", "up b", "up c")
    family.is_up()
    assert family.tree is not None
    family.tree.stop()
    system.events("down c", "asked b")
    system.settle("top")
    system.advance(299)
    system.settle("top")
    assert family.tree.wait(0) is None
    system.advance(1)

    assert family.reason() == Shutdown()
    seen = system.rest()
    assert seen[0] == "cut b"
    assert "down a" in seen


def test_nothing_is_restarted_during_shutdown(family: Family) -> None:
    """A child that crashes while the tree stops stays down."""
    system = family.system
    family.begin(system.child("a"), system.child("b", stubborn=True))
    system.events("up a", "up b")
    family.is_up()
    assert family.tree is not None
    family.tree.stop()
    system.events("asked b")
    family.end("a", crash)
    system.events("down a")
    system.settle("top")
    family.end("b", end_by_shutdown)

    assert family.reason() == Shutdown()
    assert system.rest() == ["down b"]


def test_a_stop_during_a_group_restart_ends_it(family: Family) -> None:
    """Those that were to be started again are not; those that are left stop."""
    system = family.system
    family.begin(system.child("a"), system.child("b", stubborn=True), system.child("c"), strategy=Strategy.ONE_FOR_ALL)
    system.events("up a", "up b", "up c")
    family.is_up()
    family.end("a", crash)
    system.events("down a", "down c", "asked b")
    assert family.tree is not None
    family.tree.stop()
    system.settle("top")
    family.end("b", end_by_shutdown)

    assert family.reason() == Shutdown()
    assert system.rest() == ["down b"]


def test_a_crash_during_a_group_restart_leaves_it_no_worse(family: Family) -> None:
    """While some are being stopped for a restart another one crashes: everybody is up once in the end."""
    system = family.system
    family.begin(system.child("a"), system.child("b"), system.child("c", stubborn=True), strategy=Strategy.ONE_FOR_ALL)
    system.events("up a", "up b", "up c")
    family.is_up()
    family.end("a", crash)
    system.events("down a", "asked c")
    family.end("b", crash)
    system.events("down b")
    system.settle("top")
    family.end("c", crash)
    system.events("down c", "up a", "up b", "up c")

    assert {*family.restarts(3)} == {"a", "b", "c"}
    assert family.tree is not None
    family.tree.stop()
    system.events("asked c")
    family.end("c", end_by_shutdown)
    assert family.reason() == Shutdown()


def test_a_failing_supervisor_takes_its_children_along(family: Family) -> None:
    """Its children are asked to stop, and the new ones wait until the names are free."""
    system = family.system
    family.begin(child(Supervisor, "branch", children=[system.child("a", stubborn=True), system.child("b")]))
    system.events("up a", "up b")
    family.is_up()
    system.runtime.tell("branch", "what is this?")
    system.until(lambda: {"down b", "asked a"} <= {*system.record.events})
    system.rest()
    system.settle("top")
    family.end("a", end_by_shutdown)
    system.events("down a", "up a", "up b")

    assert family.restarts(1) == ["branch"]
    assert family.tree is not None
    family.tree.stop()
    system.events("down b", "asked a")
    family.end("a", end_by_shutdown)
    assert family.reason() == Shutdown()


def test_the_last_resort_cuts_everything_off(family: Family) -> None:
    """A tree that does not stop in time can be abandoned, and ends."""
    system = family.system
    family.begin(system.child("a", stubborn=True), system.child("b"))
    system.events("up a", "up b")
    family.is_up()
    assert family.tree is not None
    family.tree.stop()
    system.events("down b", "asked a")
    family.tree.abandon()
    system.until(lambda: {"cut a", "down a"} <= {*system.record.events})

    assert family.reason() is not None


def test_starts_that_hang_again_and_again_are_given_up(family: Family) -> None:
    """They lie too far apart for the window; after as many in a row as restarts are allowed it is over all the same."""
    system = family.system
    family.begin(system.child("a", hangs=range(2, 9), start_timeout_ms=700), intensity=2, period_ms=1000)
    system.events("up a")
    family.is_up()
    family.end("a", crash)
    system.events("down a")
    for _ in range(3):
        system.events("hangs a")
        system.settle("top")
        system.advance(700)
        system.until(lambda: "down a" in system.record.events)
        assert system.record.events[:2] in (["cut a", "down a"], ["cut a", "hangs a"])
        system.record.events[:] = [event for event in system.record.events if event.startswith("hangs")]

    assert "3 starts failed one after the other" in str(family.reason())


def test_a_branch_has_the_time_of_all_that_is_in_it(family: Family) -> None:
    """A supervisor below another one is not cut off while a child of its own is still within its time."""
    system = family.system
    slow = system.child("a", hangs=(1,), start_timeout_ms=20_000)
    family.begin(branch("branch", children=[system.child("b"), slow]), intensity=1)
    system.events("up b", "hangs a")
    system.settle("branch")
    system.advance(19_999)
    system.settle("branch")
    assert system.rest() == []
    system.advance(1)
    system.events("cut a")

    family.is_up()
    assert {"down b", "down a"} <= {*family.stop(), "down a"}
