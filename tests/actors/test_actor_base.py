"""The base actor: order, loneliness in failure, acknowledged starts, cleanup at every end."""

import gc
import threading
import time
import weakref

import pykka
import pytest
from actor_probes import PATIENCE_S, HangsInStop, NeverStops, Obedient, Probe, crash, end_by_shutdown, end_normally

from lorch_actors.actors.base import Actor
from lorch_actors.actors.messages import CallbackFailed, Crash, Down, Normal, Shutdown, Started, Stop


class FailsInStart(Obedient):
    def started(self) -> None:
        raise SystemExit("no start")


class FailsInCleanup(Obedient):
    def cleanup(self) -> None:
        raise OSError("no cleanup")


def test_messages_are_handled_in_the_order_told(context, boss, log):
    """A thousand messages arrive in order."""
    ref = Obedient.start(context("a"), log=log)
    for number in range(1000):
        ref.tell(number)

    assert log.next() == ("up", "a")
    assert [("a", number) for number in range(1000)] == log.take(1000)
    ref.tell(Stop())
    assert [Started("a", 1), Down("a", 1, Shutdown())] == boss.take(2)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_any_exception_ends_one_actor_and_no_other(context, boss, log, error):
    """Even SystemExit, which stops every actor of a process under pykka, ends its own actor only."""

    def fail(actor):
        raise error

    bystander = Obedient.start(context("bystander"), log=log)
    ref = Obedient.start(context("a"), log=log)
    assert {Started("a", 1), Started("bystander", 1)} == set(boss.take(2))
    ref.tell(fail)

    down = boss.next()
    assert ("a", 1, error) == (down.name, down.incarnation, down.reason.exception)
    assert "fail" in down.reason.message
    bystander.tell(Stop())
    assert Down("bystander", 1, Shutdown()) == boss.next()


def test_a_failed_tell_reports_how_many_messages_are_lost(context, boss, log):
    """The mailbox of a crashed actor is not dropped without a word."""
    ready = threading.Event()
    ref = Obedient.start(context("a"), log=log)
    ref.tell(lambda actor: ready.wait(10))
    ref.tell(crash)
    for number in range(3):
        ref.tell(number)
    ready.set()

    assert boss.take(2)[1].discarded == 3


def test_a_failed_ask_ends_the_actor_too(context, boss, log):
    """Who asks hears of the failure, and nobody goes on with a half-changed actor."""
    ref = Obedient.start(context("a"), log=log)

    with pytest.raises(RuntimeError, match="told to crash"):
        ref.ask(crash, timeout=10)
    assert isinstance(boss.take(2)[1].reason, Crash)
    assert not ref.is_alive()


def test_who_asks_an_ended_actor_is_answered(context, boss, log):
    """A question left in the mailbox of an actor that ends is answered with an error."""
    ready = threading.Event()
    ref = Obedient.start(context("a"), log=log)
    ref.tell(lambda actor: ready.wait(10))
    ref.tell(end_normally)
    answer = ref.ask("anyone?", block=False)
    ready.set()

    with pytest.raises(pykka.ActorDeadError):
        answer.get(timeout=10)


def test_an_exception_in_the_start_is_a_failed_start(runtime, context, boss, log):
    """There is no Started, the report names the exception, the name is free, and cleanup has run."""
    ref = FailsInStart.start(context("a"), log=log)

    down = boss.next()
    assert str(down.reason.exception) == "no start"
    assert log.next() == ("down", "a")
    assert (ref.is_alive(), runtime.directory.find("a")) == (False, None)


@pytest.mark.parametrize(
    ("end", "reason"), [(end_normally, Normal()), (end_by_shutdown, Shutdown()), (Stop(), Shutdown())]
)
def test_every_orderly_end_says_why_and_cleans_up(context, boss, log, end, reason):
    """Normal end and shutdown are told apart."""
    Obedient.start(context("a"), log=log).tell(end)

    assert [Started("a", 1), Down("a", 1, reason)] == boss.take(2)
    assert log.take(2) == [("up", "a"), ("down", "a")]


def test_a_failing_cleanup_is_a_crash(context, boss, log):
    """An error on the way out is reported as well."""
    FailsInCleanup.start(context("a"), log=log).tell(Stop())

    assert str(boss.take(2)[1].reason.exception) == "no cleanup"


def test_pykkas_own_stop_works(context, boss, log):
    """The face is pykka's: ``ref.stop()`` ends the actor after what was told before."""
    ref = Obedient.start(context("a"), log=log)
    ref.tell("last")

    assert ref.stop(timeout=10)
    assert log.take(2) == [("up", "a"), ("a", "last")]
    assert Down("a", 1, Normal()) == boss.take(2)[1]


def test_pykkas_registry_cannot_stop_our_actors(context, boss, log):
    """``ActorRegistry.stop_all`` does not know them."""
    ref = Obedient.start(context("a"), log=log)
    boss.next()

    assert pykka.ActorRegistry.stop_all() == []
    assert ref.is_alive()
    ref.tell(Stop())
    boss.next()


def test_an_actor_may_take_its_time_to_stop(context, boss, log):
    """After LATER it goes on receiving until it finishes."""
    ref = NeverStops.start(context("a"), log=log)
    ref.tell(Stop())
    ref.tell("still here")
    ref.tell(end_by_shutdown)

    assert log.take(4) == [("up", "a"), ("asked to stop", "a"), ("a", "still here"), ("down", "a")]
    assert [Started("a", 1), Down("a", 1, Shutdown())] == boss.take(2)


def test_telling_a_name_nobody_has_is_counted(runtime):
    """The message is dropped, as in Erlang, and that is not hidden."""
    assert (runtime.tell("nobody", "hello"), runtime.directory.dropped) == (False, 1)


def test_a_name_passes_to_the_next_incarnation(runtime, context, boss, log):
    """Names stay, incarnations count, and the end of the old one does not take the name from the new one."""
    old = Obedient.start(context("a"), log=log)
    new = Obedient.start(context("a"), log=log)
    old.tell(Stop())
    assert {Started("a", 1), Started("a", 2), Down("a", 1, Shutdown())} == set(boss.take(3))

    assert new is runtime.directory.find("a")
    new.tell(Stop())
    boss.next()


def test_what_is_told_later_comes_at_its_time(context, clock, boss, log):
    """A delayed message comes when its time has come, not before."""
    ref = Obedient.start(context("a"), log=log)
    ref.ask(lambda actor: (actor.tell_later(200, "second"), actor.tell_later(100, "first")), timeout=10)
    clock.advance(99)
    ref.ask("before", timeout=10)
    clock.advance(1)
    assert log.take(3) == [("up", "a"), ("a", "before"), ("a", "first")]
    clock.advance(100)
    assert log.next() == ("a", "second")
    ref.tell(Stop())
    boss.take(2)


def test_a_successor_does_not_get_the_timers_of_its_predecessor(runtime, context, clock, boss, log):
    """A message to oneself dies with the incarnation that sent it."""
    first = Obedient.start(context("a"), log=log)
    first.ask(lambda actor: actor.tell_later(100, "mine"), timeout=10)
    first.tell(Stop())
    boss.take(2)
    second = Obedient.start(context("a"), log=log)
    fired = threading.Event()
    runtime.reactor.call_at(clock.steady_ms() + 100, fired.set)
    clock.advance(100)

    assert fired.wait(10)
    second.tell(Stop())
    boss.take(2)
    assert log.rest() == [("up", "a"), ("down", "a"), ("up", "a"), ("down", "a")]


def test_a_failing_callback_crashes_its_owner(runtime, context, boss, log):
    """What a reactor's callback raises ends the actor it belongs to."""
    ref = Obedient.start(context("a"), log=log)
    runtime.reactor.call_soon(lambda: 1 / 0, "a")

    assert isinstance(boss.take(2)[1].reason.exception, ZeroDivisionError)
    assert not ref.is_alive()


def test_callback_failures_are_raised_not_received(context, boss, log):
    """The report of a failing callback never reaches ``receive``."""
    Obedient.start(context("a"), log=log).tell(CallbackFailed(OSError("gone")))

    assert str(boss.take(2)[1].reason.exception) == "gone"
    assert log.take(2) == [("up", "a"), ("down", "a")]


def test_an_actor_that_is_cut_off_speaks_no_more(runtime, context, boss, log):
    """A paused actor that was replaced wakes up and reaches nobody; what it held has been killed."""
    listener = Probe()
    runtime.directory.register("listener", listener)
    release, ended, killed = threading.Event(), Probe(), threading.Event()
    place = context("a")
    place.fence.on_cut(killed.set)
    HangsInStop.start(place, log=log, release=release, ended=ended).tell(Stop())
    assert log.take(2) == [("up", "a"), ("hangs", "a")]
    place.fence.cut()
    release.set()

    assert log.next() == ("spoke", False)
    assert ended.next() == "a"
    assert killed.is_set()
    assert listener.rest() == []
    late = threading.Event()
    place.fence.on_cut(late.set)
    assert late.is_set()


def test_a_message_nobody_expects_is_a_crash(context, boss):
    """The base refuses what no subclass handles."""
    Actor.start(context("a")).tell("what?")

    assert isinstance(boss.take(2)[1].reason.exception, TypeError)


def test_an_ended_actor_is_not_kept_by_its_timers(context, boss, log):
    """A crash an hour before an alarm would ring does not keep the dead one, and all it knows, for that hour."""
    gone = threading.Event()

    def set_alarm(actor):
        weakref.finalize(actor, gone.set)
        actor.tell_later(3_600_000, "late")

    ref = Obedient.start(context("a"), log=log)
    ref.tell(set_alarm)
    ref.tell(crash)

    assert isinstance(boss.take(2)[1].reason, Crash)
    deadline = time.monotonic() + PATIENCE_S
    while not gone.wait(0.01) and time.monotonic() < deadline:
        gc.collect()  # an exception and the frames in its traceback hold each other
    assert gone.is_set()
