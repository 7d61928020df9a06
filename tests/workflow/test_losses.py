"""What agents get wrong, and what it costs them."""

import pytest
from agent_scripts import APPROVED, PASS, Exit, Say, error, playing
from harness import SNAPSHOT, World, played

from lorch_actors.cli.waiting import pending_body
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.workflow.system import AgentExited, AgentHung, AgentStarted, AgentStartFailed

DEATH = Exit(None, 9)
OURS = Exit(0, ours=True)
RETRY = "system.retry_scheduled"
DONE = Say("builder.completed", payload=PASS.payload, artifacts=("src/a.py",))


def attempts(world: World) -> list[int]:
    """Return `retry.attempt` of every command, in order."""
    return [command.retry.attempt for command in world.commands()]


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (Say("builder.completed"), "missing_tests"),
        (Say("builder.completed", payload={"tests": {"status": "maybe"}}), "missing_tests"),
        (Say("builder.completed", payload={"tests": {"status": ["pass"]}}), "missing_tests"),
        (Say("builder.completed", payload={"tests": {"status": "pass"}}, snapshot_id="snap-other"), "version_mismatch"),
        (error(code="busy", message="later", retryable=True), "busy"),
        (error(code="busy", retriable=True), "busy"),
        (DEATH, "agent_crashed"),
    ],
)
def test_a_bad_answer_costs_an_attempt(say, code):
    """The command goes out again under the same key and correlation, with the next attempt and a new id."""
    world = played(playing(implement=[say, PASS]))
    first, second = world.commands()[:2]

    assert code == world.payloads(RETRY)[0]["code"]
    assert (first.idempotency_key, first.correlation_id) == (second.idempotency_key, second.correlation_id)
    assert first.message_id != second.message_id
    assert attempts(world)[:2] == [0, 1]
    assert world.run.status == RunStatus.COMPLETED


@pytest.mark.parametrize("status", [None, "", "aproved", "APPROVED"])
def test_an_unknown_review_status_is_no_third_way_through_the_loop(status):
    """It is recorded as an invalid event, and after the last attempt the task fails."""
    world = played(playing(review=[Say("review.completed", status)]))

    assert world.actions() == ["implement", "review", "review", "review"]
    assert [note["code"] for note in world.payloads("error")] == ["invalid_event"] * 3
    assert world.failure() == "invalid_event"


def test_an_answer_about_the_same_snapshot_is_fine():
    """Version pinning objects to other snapshots only."""
    world = played(playing(implement=[Say("builder.completed", payload=PASS.payload, snapshot_id=SNAPSHOT)]))

    assert len(world.commands()) == 3


def test_version_pinning_can_be_switched_off():
    """Without `strict_version_pinning` an agent may have worked on whatever it saw."""
    script = playing(implement=[Say("builder.completed", payload=PASS.payload, snapshot_id="snap-other")])

    world = played(script, policy={"strict_version_pinning": False})

    assert world.actions() == ["implement", "review", "update_spec"]


def test_an_agent_that_exits_right_after_a_bad_answer_does_not_stop_the_run():
    """The objection still becomes an entry when the agent is gone before it is written."""
    bad = (Say("review.completed", "hm"), Exit(0))
    world = World(playing(review=[bad, APPROVED])).start()
    world.play_until(lambda w: "review.completed" in w.events())
    world._let_speak()
    world.play()

    assert world.run.status == RunStatus.COMPLETED
    assert attempts(world) == [0, 0, 1, 0]


@pytest.mark.parametrize("payload", [{}, {"retryable": False}, {"code": "quota"}, {"retryable": None}, {"error": "x"}])
def test_any_other_error_fails_the_task(payload):
    """An error that does not say it can be retried is the end, with the agent's own code."""
    world = played(playing(implement=[error(**payload)]))

    assert world.actions() == ["implement"]
    assert payload.get("code", "agent_error") == world.failure()


def test_attempts_are_used_up():
    """After `retry.max_attempts` the task fails with what went wrong last."""
    world = played(playing(implement=[DEATH]), policy={"retry": {"max_attempts": 2}})

    assert attempts(world) == [0, 1]
    assert world.failure() == "agent_crashed"


def test_the_first_restart_is_at_once_and_later_ones_back_off():
    """1 s doubled each time, at most 60 s, times a random number."""
    world = World(playing(implement=[DEATH]), policy={"retry": {"max_attempts": 9}, "max_agent_restarts": 99})
    world.start().play()

    assert [n["delay_ms"] for n in world.payloads(RETRY)] == [0, 500, 1000, 2000, 4000, 8000, 16000, 30000]


def test_restarts_without_a_settled_step_have_a_limit():
    """The sixth restart of an agent that achieves nothing is not made."""
    world = played(playing(implement=[DEATH]), policy={"retry": {"max_attempts": 50}})

    assert len(world.payloads(RETRY)) == 5
    assert world.failure() == "agent_restart_limit"


def test_an_end_that_was_our_doing_costs_no_attempt():
    """A supervisor that restarts a branch ends the agents in it; the task is none the worse for it."""
    world = played(playing(implement=[OURS, OURS, OURS, PASS]))

    assert attempts(world) == [0, 0, 0, 0, 0, 0]
    assert [note["message"] for note in world.payloads(RETRY)] == ["the builder was ended with its actor"] * 3
    assert world.run.status == RunStatus.COMPLETED


def test_an_end_that_was_our_doing_again_and_again_has_a_limit():
    """Else an agent that brings down whoever keeps it would do so for ever."""
    world = played(playing(implement=[OURS]))

    assert set(attempts(world)) == {0}
    assert world.failure() == "agent_restart_limit"


def test_an_agent_that_dies_before_it_gets_anything_meets_the_same_limit():
    """An idle death is a restart too, but no attempt of any command."""

    def kill_newborn(world: World) -> None:
        if "builder" in world.alive and not world.commands():
            world.output.append(("builder", world.alive["builder"], None, DEATH))
            world._let_speak()

    world = World(before_step=kill_newborn).start().play()

    assert world.failure() == "agent_restart_limit"
    assert world.commands() == []


def test_a_settled_step_forgives_earlier_restarts():
    """Only restarts without a settled step between them count."""
    world = World(playing(implement=[(DEATH,), (DEATH,), PASS]), tasks=({"id": "T-1", "goal": "g"},)).start().play()

    assert world.run.agent("builder").restarts == 0
    assert world.run.restarts["builder"] == 2


@pytest.mark.parametrize("exit_code", [0, 1])
def test_an_exit_after_the_terminal_event_costs_nothing(exit_code):
    """One-shot agents that answer and exit are started when they are needed again."""
    script = playing(
        implement=[(PASS, Exit(exit_code))],
        review=[(Say("review.completed", "changes_requested"), Exit(0)), (APPROVED, Exit(0))],
        implement_changes=[(PASS, Exit(0))],
    )
    world = played(script)

    assert set(attempts(world)) == {0}
    assert world.payloads(RETRY) == []
    assert world.run.status == RunStatus.COMPLETED


def test_an_exit_before_the_artifacts_are_verified_costs_nothing():
    """The durable terminal event counts, not what its sender does afterwards."""
    world = World(playing(implement=[(DONE, Exit(0))])).start()
    world.play_until(lambda w: "builder.completed" in w.events())
    world._let_speak()
    world.play()

    assert attempts(world) == [0, 0, 0]


def test_a_command_that_crosses_an_exit_is_void_and_costs_no_attempt():
    """It does not matter in which order an exit and a command reach the ledger."""
    world = World().start().play_until(lambda w: w.run.tasks and w.run.tasks["T-1"].snapshot_id)
    order = world.ask().orders[-1]
    world.output.append(("builder", world.alive["builder"], None, Exit(0)))
    world._let_speak()
    world.append(order.message)
    world.play()

    assert world.actions() == ["implement", "implement", "review", "update_spec"]
    assert attempts(world) == [0, 0, 0, 0]
    assert world.run.status == RunStatus.COMPLETED


def test_a_rejected_artifact_sends_the_command_again():
    """Same key, next attempt; only verified artifacts settle."""
    world = played(playing(implement=[DONE]), verdicts=["src/a.py is not there"])

    assert attempts(world) == [0, 1, 0, 0]
    assert 3 == len(world.settled) == len(set(world.settled))


def test_expected_outputs_are_checked_even_without_claims():
    """A required file that nobody claims is looked for before the step is settled."""
    tasks = ({"id": "T-1", "goal": "g", "expected_outputs": [{"path": "src/a.py"}]},)
    world = played(tasks=tasks, verdicts=["src/a.py is missing"])

    assert attempts(world) == [0, 1, 0, 0]


def test_a_passed_deadline_is_recorded_and_the_command_sent_again():
    """The agent that did not answer is ended, and what it says too late does not count."""
    world = played(playing(implement=[(), PASS]), agent_settings={"builder": {"timeouts_s": {"implement": 5}}})

    assert len(world.events("system.command_timed_out")) == 1
    assert world.payloads(RETRY)[0]["code"] == "deadline_passed"
    assert attempts(world) == [0, 1, 0, 0]


def test_an_answer_after_the_deadline_is_too_late():
    """Once the time-out is in the ledger the delivery is lost, whatever its pipe still holds."""
    world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands())
    world.pass_time(600_000)
    world.step()
    world.agent_says("builder", PASS, world.commands()[0])
    world.play()

    assert attempts(world) == [0, 1, 0, 0]


def test_an_answer_before_the_time_out_wins():
    """The deadline stops at a durable terminal event."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands())
    world.pass_time(600_000)
    late = world.ask().orders[-1].message
    world.agent_says("builder", PASS, world.commands()[0])
    world.append(late)
    world.play()

    assert attempts(world) == [0, 0, 0]


def test_a_conductor_that_starts_anew_does_not_take_a_running_command_for_late():
    """Read from the file, a delivery has no steady time; its deadline on the wall counts instead."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands())
    world.pass_time(10_000)
    world.refold(world.entries)

    assert world.ask().wake_after_ms == 590_000


def test_it_is_the_latest_delivery_whose_deadline_counts():
    """That of the first one has passed long ago; `status` shows the latest as well."""
    world = World(playing(implement=[()])).start().play_until(lambda w: len(w.commands()) == 2)
    world.pass_time(10_000)
    world.refold(world.entries)

    assert world.ask().wake_after_ms == 590_000
    assert pending_body(world.run, world.wall_ms).deadline == world.commands()[1].deadline


def test_a_hung_agent_costs_an_attempt():
    """Missed heartbeats lose the delivery as an exit does."""
    world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands())
    world.system(AgentHung("builder", world.alive["builder"], "agent_hung", "no heartbeat for 30 s"))
    world.play()

    assert attempts(world) == [0, 1, 0, 0]
    assert world.payloads(RETRY)[0]["code"] == "agent_hung"


@pytest.mark.parametrize(
    "wrong",
    [
        Say("builder.completed", payload=PASS.payload, correlation_id="c-other"),
        Say("builder.completed", payload=PASS.payload, task_id="T-2"),
        Say("builder.completed", payload=PASS.payload, role="reviewer"),
        Say("review.completed", "approved"),
        Say("error", payload={"message": "not mine"}, role="reviewer"),
        Say("builder.progress"),
        Say("artifact.produced", artifacts=("src/a.py",)),
    ],
)
def test_events_that_are_no_answer_settle_nothing(wrong):
    """Another task, correlation or role, or an event that ends no command, leaves the command pending."""
    world = World(playing(implement=[(wrong,)])).start().play_until(lambda w: w.commands() and not w.output)

    assert world.settled == []
    assert (world.run.pending.answer, world.run.pending.loss) == (None, None)


def test_doubled_answers_count_once():
    """The first that settles counts; the second does not answer the next command."""
    world = played(playing(implement=[(PASS, PASS)], review=[(APPROVED, APPROVED)]))

    assert world.actions() == ["implement", "review", "update_spec"]
    assert len(world.settled) == 3


def test_an_answer_of_an_earlier_incarnation_never_counts():
    """What a lost delivery's agent still says is recorded only."""
    world = World(playing(implement=[error(retryable=True), ()])).start()
    world.play_until(lambda w: len(w.payloads(RETRY)) == 1)
    world.agent_says("builder", PASS, world.commands()[0])
    world.play_until(lambda w: len(w.commands()) == 2)

    assert world.settled == []


def test_an_agent_that_cannot_be_started_fails_the_task_at_once():
    """The ledger says which command it was; no attempt is wasted on it."""
    world = played(broken=frozenset({"reviewer"}))

    assert (world.failure(), world.commands()) == ("agent_not_startable", [])
    assert "frobnicate" in world.run.tasks["T-1"].failure.message


def test_a_machine_without_room_is_asked_again_later():
    """It says nothing of the command: with backoff, without an attempt, and within the bound of restarts."""
    world = played(no_room=3)
    without_end = played(no_room=1000)

    assert world.run.status == RunStatus.COMPLETED
    assert [note["code"] for note in world.payloads("system.retry_scheduled")] == ["agent_not_startable"] * 3
    assert {command.retry.attempt for command in world.commands()} == {0}
    assert (without_end.failure(), without_end.commands()) == ("agent_restart_limit", [])
    assert "no room" in without_end.run.tasks["T-1"].failure.message


def test_what_is_said_after_a_task_was_given_up_changes_nothing():
    """A late answer does not settle a step of a task whose fate is decided."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands())
    world.system(AgentStartFailed("reviewer", "reviewer-x", "no such command"))
    world.play_until(lambda w: w.run.task.ended)
    world.agent_says("builder", PASS, world.commands()[0])
    world.play()

    assert (world.settled, world.failure()) == ([], "agent_not_startable")


@pytest.mark.parametrize("second", [PASS, error(message="no"), Say("builder.completed")])
def test_only_the_first_answer_is_verified(second):
    """While its artifacts are looked at, whatever else the agent says does not replace it."""
    world = World(playing(implement=[DONE])).start().play_until(lambda w: "builder.completed" in w.events())
    answer = world.run.pending.answer
    world.agent_says("builder", second, world.commands()[0])

    assert world.run.pending.answer == answer
    assert attempts(world.play()) == [0, 0, 0]


def test_a_time_out_during_verification_is_too_late():
    """The deadline stops at the durable terminal event, not at its verification."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands())
    world.pass_time(600_000)
    late = world.ask().orders[-1].message
    world.agent_says("builder", DONE, world.commands()[0])
    world.append(late)
    world.play()

    assert attempts(world) == [0, 0, 0]


def test_a_command_to_a_dead_incarnation_is_void_though_another_is_up():
    """It was addressed to a process, not to a role."""
    world = World().start().play_until(lambda w: w.run.tasks and w.run.tasks["T-1"].snapshot_id)
    order = world.ask().orders[-1]
    world.system(AgentExited("builder", world.alive["builder"], 0))
    world.system(AgentStarted("builder", "builder-next"))
    world.alive["builder"] = "builder-next"
    world.append(order.message)
    world.play()

    assert world.actions() == ["implement", "implement", "review", "update_spec"]
    assert attempts(world) == [0, 0, 0, 0]


def test_a_time_out_is_not_taken_for_a_crash():
    """The exit that it leads to does not hide why the delivery was lost."""
    world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands())
    world.pass_time(600_000)
    world.append(world.ask().orders[-1].message)
    world.system(AgentExited("builder", world.alive.pop("builder"), None, 15))
    world.play()

    assert [note["code"] for note in world.payloads(RETRY)] == ["deadline_passed"]


def test_idle_deaths_in_two_lives_of_the_orchestrator_are_two():
    """What is said about the second is not taken for a repetition of the first."""
    world = World().start()
    for life in (1, 2):
        world.play_until(lambda w: "builder" in w.alive)
        world.system(AgentExited("builder", world.alive.pop("builder"), 1))
        world.play_until(lambda w, n=life: len(w.payloads(RETRY)) == n)
        world.crash()
    world.play()

    assert world.run.status == RunStatus.COMPLETED
