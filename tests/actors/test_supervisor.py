"""What only a supervisor on threads can show, and its small print; `test_supervision` has what holds everywhere."""

import gc
import threading
import weakref

import pytest
from actor_probes import PATIENCE_S, HangsInStart, HangsInStop, NeverStops, Obedient, Probe, crash

from lorch_actors.actors.base import Actor
from lorch_actors.actors.child import (
    MessagePoisoned,
    Restart,
    RestartLimitExceeded,
    RestartWindow,
    child,
)
from lorch_actors.actors.execution import ENDED_MS
from lorch_actors.actors.messages import ActorRestarted, Call, Crash, Down, PoisonMessage, Shutdown, Started, WorkerDied
from lorch_actors.actors.supervisor import Supervisor
from lorch_actors.actors.tree import start_tree

WAIT_MS = PATIENCE_S * 1000


class Family:
    """A tree whose children log to one probe."""

    def __init__(self, runtime, log, **options):
        self.runtime = runtime
        self.log = log
        self.ended = Probe()
        self.news = Probe()
        runtime.directory.register("news", self.news)
        self.tree = None
        self.options = {"intensity": 3, "period_ms": 1000, "report_to": "news"} | options

    def child(self, name, actor_class=Obedient, *, restart=Restart.PERMANENT, **arguments):
        return child(actor_class, name, restart=restart, log=self.log, ended=self.ended, **arguments)

    def start(self, *children):
        self.tree = start_tree(self.runtime, child(Supervisor, "top", children=children, **self.options))
        return self

    def started(self, *children):
        self.start(*children)
        assert self.tree.wait_started(WAIT_MS), self.tree.wait(0)
        return self

    def events(self, count):
        return [" ".join(event) for event in self.log.take(count)]

    def rest(self):
        return [" ".join(event) for event in self.log.rest()]

    def end(self, name, how):
        """Make a child end, and wait until the supervisor has dealt with it."""
        self.runtime.tell(name, how)
        assert name == self.ended.next()
        self.settle()

    def settle(self, name="top"):
        self.runtime.directory.find(name).ask(Call(lambda: None), timeout=PATIENCE_S)

    def stop(self):
        self.tree.stop()
        return self.tree.wait(WAIT_MS)


@pytest.fixture
def family(runtime, log):
    made = Family(runtime, log)
    yield made
    if made.tree is not None and made.tree.wait(0) is None:
        made.stop()


def test_a_restart_is_reported(family):
    """The name to report to hears who came back, why, and how often."""
    family.started(family.child("a"))
    for count in (1, 2):
        family.end("a", crash)
        told = family.news.next()

        assert ActorRestarted("a", told.reason, count) == told
        assert "RuntimeError: told to crash" in told.reason


def test_the_window_counts_like_otps():
    """Intensity restarts within the period are admitted, one more is not; the edge of the period still counts."""
    window = RestartWindow(2, 100)

    assert [window.admit(now) for now in (0, 50, 100)] == [True, True, False]
    assert [window.admit(now) for now in (151, 152)] == [True, False]


def test_a_first_start_that_fails_is_tried_again_and_counts(family):
    """The children after it wait for it; it is reported like any restart."""

    class Shaky(Obedient):
        def started(self):
            super().started()
            if self.context.incarnation <= 2:
                raise RuntimeError("not yet")

    family.started(family.child("a"), family.child("b", Shaky), family.child("c"))

    assert family.rest() == ["up a", "up b", "down b", "up b", "down b", "up b", "up c"]
    told = family.news.next()
    assert (told.name, told.count, "not yet" in told.reason) == ("b", 1, True)


def test_a_child_that_never_comes_up_brings_its_supervisor_down(family):
    """After the intensity, and once: the supervisor above, whose own start this is, does not try again."""

    class Fails(Obedient):
        def started(self):
            raise LookupError("no good")

    branch = child(Supervisor, "branch", children=[family.child("b", Fails)], intensity=2)
    family.start(family.child("a"), branch)

    reason = family.tree.wait(WAIT_MS)
    assert RestartLimitExceeded is type(reason.exception)
    assert "branch gave up on b: 3 starts failed one after the other" in str(reason)
    assert "no good" in str(reason)
    assert family.rest() == ["up a", *["down b"] * 3, "down a"]


def test_a_constructor_that_fails_is_a_failed_start(family):
    """Even an exception before the actor has a thread is the child's failure and not the supervisor's."""

    class Fails(Obedient):
        def __init__(self, context, **arguments):
            raise SystemExit("no such thing")

    family.start(family.child("a", Fails))

    assert "no such thing" in str(family.tree.wait(WAIT_MS))


def test_a_supervisor_that_restarts_without_end(family):
    """A child whose every restart fails brings its supervisor down after the intensity, not never."""

    class Broken(Obedient):
        def started(self):
            super().started()
            if self.context.incarnation > 1:
                raise RuntimeError("for ever")

    family.started(family.child("a", Broken))
    family.runtime.tell("a", crash)

    assert RestartLimitExceeded is type(family.tree.wait(WAIT_MS).exception)
    assert family.rest() == ["up a", "down a"] * 4


def test_a_start_that_hangs_is_a_failed_start(family, clock):
    """It is abandoned after its time and tried again; the late one is ignored."""
    release = threading.Event()

    class HangsAtFirst(HangsInStart):
        def started(self):
            if self.context.incarnation == 1:
                super().started()
            else:
                self.log.tell(("up", self.name))

    family.start(family.child("a"), family.child("b", HangsAtFirst, release=release))
    assert family.events(3) == ["up a", "up b", "hangs b"]
    clock.advance(10_000)
    assert family.tree.wait_started(WAIT_MS)
    release.set()

    assert family.ended.next() == "b"
    assert "b did not start within 10000 ms" in family.news.next().reason
    assert Shutdown() == family.stop()


def test_a_restart_that_hangs_is_retried_and_the_late_one_is_ignored(family, clock):
    """The hanging incarnation wakes up later and disturbs nobody."""
    release = threading.Event()

    class HangsOnce(HangsInStart):
        def started(self):
            if self.context.incarnation == 2:
                super().started()
            else:
                self.log.tell(("up", self.name))

    family.started(family.child("a", HangsOnce, release=release))
    family.end("a", crash)
    assert family.events(4) == ["up a", "down a", "up a", "hangs a"]
    clock.advance(10_000)
    assert family.events(1)[0] == "up a"
    release.set()
    assert family.ended.next() == "a"
    family.settle()
    family.runtime.tell("a", "still there")

    assert family.events(2) == ["down a", "a still there"]
    assert Shutdown() == family.stop()


def test_a_supervisor_that_cannot_be_stopped_while_a_child_hangs_in_its_start(family, clock):
    """It answers stop at once, gives the hanging child its shutdown time, and ends."""
    release = threading.Event()
    family.start(family.child("a"), family.child("b", HangsInStart, release=release))
    assert family.events(3) == ["up a", "up b", "hangs b"]
    family.tree.stop()
    family.settle()
    clock.advance(5_000)

    assert Shutdown() == family.tree.wait(WAIT_MS)
    assert family.rest() == ["down a"]
    release.set()
    assert {"a", "b"} == set(family.ended.take(2))


@pytest.mark.parametrize("stubborn", [NeverStops, HangsInStop])
def test_a_stop_that_hangs_ends_with_the_shutdown_time(family, clock, stubborn):
    """The child is abandoned after its time, and the others still stop in order."""
    release = threading.Event()
    extra = {"release": release} if stubborn is HangsInStop else {}
    family.started(family.child("a"), family.child("b", stubborn, **extra), family.child("c"))
    assert family.events(3) == ["up a", "up b", "up c"]
    family.tree.stop()
    assert family.events(1)[0] == "down c"
    assert family.events(1)[0] in ("asked to stop b", "hangs b")
    family.settle()
    clock.advance(4_999)
    family.settle()
    assert family.tree.wait(0) is None
    clock.advance(1)

    assert Shutdown() == family.tree.wait(WAIT_MS)
    release.set()
    assert {"a", "b", "c"} == set(family.ended.take(3))


def test_deaths_of_workers_count_like_restarts(family):
    """The front is told to start the next worker until the intensity is used up."""

    class Front(Obedient):
        def receive(self, message):
            self.log.tell((self.name, type(message).__name__))

    family.started(family.child("a", Front))
    for _ in range(4):
        family.runtime.tell("top", WorkerDied("a", Crash(OSError("killed"))))

    assert "killed" in str(family.tree.wait(WAIT_MS))
    assert family.rest() == ["up a", "a RestartWorker", "a RestartWorker", "a RestartWorker", "down a"]


def test_a_poisoned_message_ends_the_tree_and_is_named(family):
    """A message that kills worker after worker stops the run instead of going round for ever."""
    family.started(family.child("a"))
    family.runtime.tell("top", PoisonMessage("a", {"seq": 7}, 3))
    reason = family.tree.wait(WAIT_MS)

    assert MessagePoisoned is type(reason.exception)
    assert "{'seq': 7}" in str(reason)


def test_reports_of_strangers_and_predecessors_are_ignored(family):
    """A late report of an old incarnation, or of nobody's child, changes nothing."""
    family.started(family.child("a"))
    for message in (
        Down("a", 99, Crash(OSError())),
        Started("a", 99),
        Down("stranger", 1, Shutdown()),
        WorkerDied("stranger", Crash(OSError())),
    ):
        family.runtime.tell("top", message)
    family.settle()

    assert Shutdown() == family.stop()
    assert family.rest() == ["up a", "down a"]


def test_a_supervisor_without_children_starts_and_stops(family):
    """An empty tree is a tree."""
    family.started()

    assert Shutdown() == family.stop()


def test_two_children_of_one_name_are_refused(family, runtime):
    """Names are how actors find each other."""
    with pytest.raises(ValueError, match="two children with one name"):
        family.start(family.child("a"), family.child("a"))


def test_the_last_resort_cuts_everything_off(family):
    """A tree that does not stop in time can be abandoned: what its actors hold is killed, and they end."""
    killed = threading.Event()

    class Holds(NeverStops):
        def started(self):
            self.context.fence.on_cut(killed.set)

    family.started(family.child("a", Holds))
    family.tree.stop()
    assert family.tree.wait(0) is None
    family.tree.abandon()

    assert killed.wait(PATIENCE_S)
    assert family.ended.next() == "a"
    assert family.tree.wait(WAIT_MS) is not None


def test_the_wait_for_the_end_has_a_deadline(family):
    """``wait`` says None when the tree still stands."""
    family.started(family.child("a"))

    assert family.tree.wait(1) is None


def test_actors_are_the_only_children(family):
    """The spec of a child carries its class and its arguments."""
    spec = child(Actor, "a", restart=Restart.TRANSIENT, shutdown_ms=1, start_timeout_ms=2)

    assert (spec.name, spec.restart, spec.shutdown_ms, spec.start_timeout_ms) == ("a", Restart.TRANSIENT, 1, 2)


class SharesTheThread(Obedient):
    """An obedient actor without a thread of its own."""

    in_reactor = True


class Known:
    """What an actor knows."""


@pytest.mark.parametrize("actor_class", [Obedient, SharesTheThread])
def test_what_a_dead_actor_knew_goes_when_its_successor_is_there(family, clock, actor_class):
    """Else a long run would hold the state of every conductor that ever failed until the collector looks that far."""
    gone = threading.Event()
    gc.disable()
    try:
        family.started(family.child("a", actor_class))
        family.runtime.tell("a", lambda actor: actor_knows(actor, gone))
        for _ in range(3):  # the thread in which it ended may be late
            family.end("a", crash)
            family.news.next()
            family.settle()
            clock.advance(ENDED_MS)
            if gone.wait(1):
                break

        assert gone.is_set()
    finally:
        gc.enable()


def actor_knows(actor, gone):
    """Give an actor something to know, and have it told when that is let go of."""
    actor.known = Known()
    weakref.finalize(actor.known, gone.set)
