"""Times are told from what the ledger says and what is seen from outside; overtaken strikes are left out."""

from typing import Any

import pytest

from lorch_actors.chaos.measuring import latency, role_lines
from lorch_actors.chaos.settings import Card
from lorch_actors.chaos.strikes import Strike
from lorch_actors.chaos.tail import Note
from lorch_actors.processes import ProcessIdentity

VICTIM = ProcessIdentity("boot", 100, 1)
NEXT = ProcessIdentity("boot", 101, 2)


def strike(role: str, signal: str = "KILL", **given: Any) -> Strike:
    """Return a strike at 1000 ms."""
    return Strike(Card(role, signal), VICTIM, 1000.0, **given)


def note(at_ms: int, name: str, who: str = "", **given: Any) -> Note:
    """Return a note that was said and seen at that time."""
    return Note(float(at_ms), at_ms, name, who, **given)


RESUMED = note(1100, "run_resumed")


def test_an_agent_is_noticed_when_its_exit_is_recorded_and_back_with_its_next_start():
    """Counted as if the ledger's milliseconds were rounded up."""
    notes = [
        note(1007, "agent_exited", "builder", agent_id="b-1"),
        note(1008, "retry_scheduled", "builder", agent_id="b-1"),
        note(1020, "agent_started", "builder", agent_id="b-2"),
    ]

    assert latency(strike("agent", agent_id="b-1", name="builder"), notes) == (8.0, 21.0)


def test_an_agent_that_had_nothing_to_do_has_no_time_to_be_back():
    """It is started when it is needed."""
    notes = [
        note(1007, "agent_exited", "builder", agent_id="b-1"),
        note(9000, "agent_started", "builder", agent_id="b-2"),
    ]

    assert latency(strike("agent", agent_id="b-1", name="builder"), notes) == (8.0, None)


def test_the_ledger_is_back_when_it_grows_again():
    """Seen from outside, after the end of its writer."""
    assert latency(strike("ledger", grown_ms=1031.5, ended_ms=1000.5), []) == (None, 31.5)
    assert latency(strike("ledger", "STOP", grown_ms=2031.5, ended_ms=2000.5), []) == (1000.5, 1031.5)


def test_a_ledger_whose_orchestrator_was_replaced_is_not_measured():
    """It was not the supervisor who brought it back."""
    assert latency(strike("ledger", grown_ms=1200.0), [RESUMED]) == (None, None)


def test_a_worker_is_back_when_another_process_has_its_work():
    """The record of the one that was killed may come after the kill."""
    notes = [note(1001, "worker_started", "run-state", identity=VICTIM)]
    notes += [note(1009, "worker_started", "run-state", identity=NEXT)]

    assert latency(strike("run-state"), notes).back_ms == 10.0


def test_the_orchestrator_is_back_with_the_next_command():
    """Noticed when a new one has resumed the run, or, when it was stopped, by its end."""
    notes = [note(1050, "command"), RESUMED, note(1400, "command", "builder")]

    assert latency(strike("orchestrator"), notes) == (101.0, 400.0)
    assert latency(strike("orchestrator", "STOP", ended_ms=1090.0), notes) == (90.0, 400.0)


def test_what_cannot_be_told_from_outside_is_left_out():
    """A fork server is missed only when the next worker is to be started."""
    assert latency(strike("fork-server"), [RESUMED]) == (None, None)
    assert latency(strike("guardian", "STOP"), [RESUMED, note(1400, "command")]) == (None, None)


@pytest.mark.parametrize("role", ["agent", "snapshotter", "conductor"])
def test_a_strike_that_was_overtaken_is_not_measured(role: str):
    """What came up under the next orchestrator has another cause."""
    notes = [RESUMED, note(1200, "agent_exited", "builder", agent_id="b-1")]
    notes += [note(1300, "worker_started", "snapshotter"), note(1300, "actor_restarted", "conductor")]

    assert latency(strike(role, agent_id="b-1", name="builder"), notes) == (None, None)


def test_each_role_and_signal_has_a_line():
    """With median and worst of those that could be measured."""
    restarts = [note(1000 + ms, "actor_restarted", "conductor") for ms in (9, 1019)]
    later = Strike(Card("conductor", "KILL"), VICTIM, 2000.0)

    (line,) = role_lines([strike("conductor"), later], restarts)

    assert (line.strikes, line.measured) == (2, 2)
    assert (line.back_median_ms, line.back_worst_ms) == (15.0, 20.0)


def test_the_fall_of_everything_is_measured_only_in_peace():
    """Another strike before the next command makes the time that of both."""
    notes = [RESUMED, note(1400, "command", "builder")]
    disturbing = Strike(Card("agent", "KILL"), NEXT, 1200.0)

    alone = role_lines([strike("orchestrator")], notes)[0]
    disturbed = role_lines([strike("orchestrator"), disturbing], notes)[1]

    assert (alone.noticed_worst_ms, alone.back_worst_ms) == (101.0, 400.0)
    assert (disturbed.role, disturbed.noticed_worst_ms, disturbed.back_worst_ms) == ("orchestrator", 101.0, None)
