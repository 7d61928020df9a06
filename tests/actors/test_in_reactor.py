"""Actors that share the reactor's thread: no hand-over between them, and none of them stands in another's way."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from actor_probes import PATIENCE_S, Obedient, Probe

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.messages import Crash, Down, Shutdown, Started, Stop


class Shares(Obedient):
    """An obedient actor without a thread of its own. held: what its end waits for."""

    in_reactor = True
    held: threading.Event | None = None

    def cleanup(self) -> None:
        if self.held is not None:
            self.held.wait(PATIENCE_S)
        super().cleanup()


def where(actor: Shares) -> None:
    """Log which thread this is."""
    actor.log.tell(threading.current_thread().name)


@pytest.fixture
def two(context: Callable[[str], ActorContext], boss: Probe, log: Probe) -> tuple[Any, Any]:
    """Have two actors in the reactor's thread."""
    refs = tuple(Shares.start(context(name), log=log) for name in "ab")
    assert [Started("a", 1), Started("b", 1)] == boss.take(2)
    assert log.take(2) == [("up", "a"), ("up", "b")]
    return refs  # type: ignore[return-value]


def test_they_take_their_turns_in_one_thread(two: tuple[Any, Any], log: Probe) -> None:
    """Whoever tells them: a message wakes no thread but the reactor's."""
    a, b = two
    a.tell(where)
    a.tell(lambda _: b.tell(where))

    assert log.take(2) == ["reactor", "reactor"]


def test_what_blocks_is_done_apart(two: tuple[Any, Any], log: Probe) -> None:
    """The actor goes on taking messages meanwhile, and goes on with what follows in a turn of its own."""
    a, b = two
    held = threading.Event()
    a.tell(lambda actor: actor.apart(lambda: held.wait(PATIENCE_S), lambda: where(actor)))
    a.tell("still here")
    assert log.next() == ("a", "still here")
    b.tell("and I")
    assert log.next() == ("b", "and I")
    held.set()

    assert log.next() == "reactor"


def test_what_fails_apart_fails_its_actor(two: tuple[Any, Any], boss: Probe) -> None:
    """As if it had been done in a turn."""
    two[0].tell(lambda actor: actor.apart(lambda: 1 / 0, lambda: None))
    reason = boss.next().reason

    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, ZeroDivisionError)


def test_an_end_that_blocks_holds_nobody_up(two: tuple[Any, Any], boss: Probe, log: Probe) -> None:
    """A front waits for the death of its worker; the reactor, which hears of it, must not."""
    a, b = two
    held = threading.Event()
    a.tell(lambda actor: setattr(actor, "held", held))
    a.tell(Stop())
    b.tell("still here")
    assert log.next() == ("b", "still here")
    held.set()

    assert boss.next() == Down("a", 1, Shutdown())


def test_one_that_is_never_done_lets_the_others_have_their_turn(two: tuple[Any, Any], runtime: Any, log: Probe) -> None:
    """Neither messages nor calls of the reactor wait until the first has nothing left to do."""
    a, b = two

    def again(actor: Shares) -> None:
        actor.tell_self(again)

    a.tell(again)
    b.tell("my turn")
    assert log.next() == ("b", "my turn")
    runtime.reactor.call_at(0, lambda: log.tell("a timer"))

    assert log.next() == "a timer"
