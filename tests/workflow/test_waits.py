"""Rate limits: agents that ask to be left alone for a while are, at no cost but time, and not for ever."""

import pytest
from agent_scripts import PASS, Exit, error, playing
from harness import World, played

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.times import to_timestamp

HOUR_MS = 3_600_000


@pytest.mark.parametrize("retryable", [{}, {"retryable": True}, {"retriable": True}])
def test_retry_after_is_waited_for_and_costs_no_attempt(retryable):
    """The same command goes out again after that time, with the attempt it had."""
    world = World(playing(implement=[error(retry_after_s=1800, **retryable), PASS])).start()
    before = world.steady_ms
    world.play()

    assert world.steady_ms - before >= 1_800_000
    assert [command.retry.attempt for command in world.commands()] == [0, 0, 0, 0]
    assert (world.run.status, world.run.agent("builder").restarts) == (RunStatus.COMPLETED, 0)


def test_resets_at_is_waited_for():
    """A moment is as good as a duration."""
    world = World()
    until = world.wall_ms + 2 * HOUR_MS
    world.script = playing(implement=[error(resets_at=to_timestamp(until)), PASS])
    world.start().play()

    assert world.wall_ms >= until
    assert world.run.status == RunStatus.COMPLETED


def test_an_explicit_refusal_to_retry_outweighs_a_wait():
    """`retryable: false` is the end, whatever else the error says."""
    assert played(playing(implement=[error(code="limit", retryable=False, retry_after_s=1)])).failure() == "limit"


def test_a_wait_survives_a_resume():
    """The orchestrator may die while it waits; the rest of the time is still waited."""
    world = World(playing(implement=[error(retry_after_s=3600), PASS])).start()
    world.play_until(lambda w: w.events("system.retry_scheduled"))
    until = world.wall_ms + HOUR_MS
    world.pass_time(HOUR_MS // 2)
    world.crash().play()

    assert world.wall_ms >= until
    assert [command.retry.attempt for command in world.commands()] == [0, 0, 0, 0]


def test_a_wall_clock_set_back_during_a_resume_does_not_prolong_a_wait():
    """What was left to wait is never more than what was asked for."""
    world = World(playing(implement=[error(retry_after_s=60), PASS])).start()
    world.play_until(lambda w: w.events("system.retry_scheduled"))
    world.wall_ms -= 1000 * HOUR_MS
    world.crash()
    before = world.steady_ms
    world.play()

    assert world.steady_ms - before <= 61_000


def test_a_wall_clock_set_back_during_a_wait_does_not_prolong_it():
    """The steady clock of the process that heard of the wait counts as well."""
    world = World(playing(implement=[error(retry_after_s=60), PASS])).start()
    world.play_until(lambda w: w.events("system.retry_scheduled"))
    world.wall_ms -= 1000 * HOUR_MS
    before = world.steady_ms
    world.play()

    assert world.steady_ms - before <= 61_000


def test_waits_are_no_restarts():
    """A crash after many waits is the first restart, at once, and the limit of restarts is far away."""
    script = playing(implement=[*[error(retry_after_s=60)] * 7, Exit(None, 9), PASS])
    world = played(script, policy={"max_agent_restarts": 2})

    assert [note["delay_ms"] for note in world.payloads("system.retry_scheduled")][-1] == 0
    assert world.run.status == RunStatus.COMPLETED


def test_waits_have_a_bound():
    """More than `policy.max_wait_s` in sum is not waited."""
    world = played(playing(implement=[error(retry_after_s=3600)]))

    assert world.failure() == "wait_exhausted"
    assert len(world.payloads("system.retry_scheduled")) == 6


@pytest.mark.parametrize("wish", [{"retry_after_s": 0}, {"resets_at": "2020-01-01T00:00:00Z"}])
def test_an_agent_that_always_asks_for_no_wait_at_all_does_not_spin(wish):
    """Repeated wishes for a wait that is over are answered with growing waits, so that they come to an end."""
    world = played(playing(implement=[error(**wish)]))

    assert world.failure() == "wait_exhausted"
    assert len(world.commands()) < 500
