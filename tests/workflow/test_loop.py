"""The loop over one task and several: which commands go out, in which order, under which keys."""

import pytest
from agent_scripts import APPROVED, CHANGES, FAIL, PASS, SPEC_CHANGES, UPDATED, Say, error, playing
from harness import RUN_ID, World, played

from lorch_actors.protocol.documents import RunStatus, Stage, TaskStatus
from lorch_actors.workflow.state import RECEIPT_EVENTS_MAX, RECEIPT_ID_MAX_CHARS
from lorch_actors.workflow.system import RunStopped

THREE = tuple({"id": f"T-{n}", "goal": f"part {n}"} for n in (1, 2, 3))


def test_a_task_that_goes_well_takes_three_commands():
    """Implement, review and update_spec end the task and with it the run."""
    world = played()

    assert world.actions() == ["implement", "review", "update_spec"]
    assert world.run.status == RunStatus.COMPLETED
    assert (world.run.tasks["T-1"].status, world.run.tasks["T-1"].stage) == (TaskStatus.COMPLETED, Stage.COMPLETE)


def test_two_review_rounds_and_a_spec_round_take_ten_commands_with_ten_keys():
    """Every repetition of a step is a step of its own, with its own key, correlation and round."""
    world = played(playing(review=[CHANGES, CHANGES, APPROVED], update_spec=[SPEC_CHANGES, UPDATED]))
    commands = world.commands()

    assert [(str(c.action), c.inputs["round"], c.inputs.get("requested_by")) for c in commands] == [
        ("implement", 1, None),
        ("review", 1, None),
        ("implement_changes", 2, "reviewer"),
        ("review", 2, None),
        ("implement_changes", 3, "reviewer"),
        ("review", 3, None),
        ("update_spec", 3, None),
        ("implement_changes", 4, "spec_maintainer"),
        ("review", 4, None),
        ("update_spec", 4, None),
    ]
    assert 10 == len({c.idempotency_key for c in commands}) == len({c.correlation_id for c in commands})
    assert [c.idempotency_key for c in commands] == world.settled
    assert world.run.tasks["T-1"].rounds == 4


def test_changes_are_asked_for_in_the_words_of_whoever_asked():
    """The payload of the settling event becomes `inputs.request` of the next command."""
    world = played(playing(review=[CHANGES, APPROVED]))

    assert world.commands()[2].inputs["request"] == {"findings": ["rename it"]}


def test_every_command_names_run_round_goal_and_snapshot():
    """An approval of one run says nothing about the next, so the run is part of what is asked."""
    inputs = [command.inputs for command in played().commands()]

    assert inputs == [{"goal": "do it", "run_id": RUN_ID, "round": 1}] * 3


def test_no_changes_needed_ends_the_task():
    """`spec.no_changes_needed` is as good an end as `spec.updated`."""
    assert played(playing(update_spec=[Say("spec.no_changes_needed")])).run.status == RunStatus.COMPLETED


def test_failing_tests_lead_to_changes_and_then_to_failure():
    """The builder gets `policy.test_rounds` chances to mend its tests, then the task fails."""
    world = played(playing(implement=[FAIL], implement_changes=[FAIL]))
    asked = [(c.inputs.get("requested_by"), c.inputs.get("request")) for c in world.commands()]

    request = {"tests": {"status": "fail", "summary": "2 failed"}}
    assert [(None, None), ("tests", request), ("tests", request)] == asked
    assert world.failure() == "tests_failed"
    assert "2 failed" in world.run.tasks["T-1"].failure.message
    assert world.run.status == RunStatus.FAILED


def test_tests_that_pass_after_changes_go_on_to_review():
    """A builder that mends its tests loses nothing but a round."""
    world = played(playing(implement=[FAIL], implement_changes=[PASS]))

    assert world.actions() == ["implement", "implement_changes", "review", "update_spec"]


def test_no_test_rounds_means_failing_tests_fail_the_task():
    """With `policy.test_rounds` 0 nobody is asked to mend."""
    world = played(playing(implement=[FAIL]), policy={"test_rounds": 0})

    assert (world.actions(), world.failure()) == (["implement"], "tests_failed")


def test_allowed_failures_are_not_failures():
    """Failing tests that are allowed to fail go on to review."""
    allowed = Say("builder.completed", payload={"tests": {"status": "fail", "allowed_failures": True}})

    assert played(playing(implement=[allowed])).actions() == ["implement", "review", "update_spec"]


@pytest.mark.parametrize(
    "actions",
    [{"review": [CHANGES]}, {"update_spec": [SPEC_CHANGES]}, {"implement": [FAIL], "implement_changes": [FAIL]}],
)
def test_rounds_have_an_end(actions):
    """Whoever asks for changes for ever, the task has at most `policy.max_rounds` rounds."""
    world = played(playing(**actions), policy={"max_rounds": 3, "test_rounds": 99})

    assert (world.failure(), max(c.inputs["round"] for c in world.commands())) == ("rounds_exhausted", 3)


def test_tasks_are_done_in_order():
    """Each task has its snapshot and its commands before the next begins."""
    world = played(tasks=THREE)

    assert [t["id"] for t in THREE for _ in range(3)] == [command.task_id for command in world.commands()]
    assert len(world.events("system.snapshot_captured")) == 3
    assert world.run.status == RunStatus.COMPLETED


def test_a_failed_task_does_not_stop_the_others():
    """`on_failure` continue does what can be done; the run is failed none the less."""
    world = played(playing(implement=[error(message="no"), PASS]), tasks=THREE)

    assert [str(task.status) for task in world.run.tasks.values()] == ["failed", "completed", "completed"]
    assert world.run.status == RunStatus.FAILED


def test_a_failed_task_stops_the_others_if_asked_to():
    """`on_failure` stop leaves the rest pending."""
    world = played(playing(implement=[error(message="no")]), tasks=THREE, on_failure="stop")

    assert [str(task.status) for task in world.run.tasks.values()] == ["failed", "pending", "pending"]
    assert world.run.status == RunStatus.FAILED


def test_a_run_that_has_not_started_is_not_completed():
    """An empty ledger decides nothing, least of all that all is done."""
    world = World()

    assert world.ask().orders == ()
    assert world.run.status == RunStatus.RUNNING


def test_nothing_is_ordered_after_an_orderly_stop():
    """Between `run_stopped` and `run_resumed` nobody is sent anything."""
    world = World().start().play_until(lambda w: w.run.tasks and w.run.tasks["T-1"].snapshot_id)
    world.system(RunStopped(0, "signal", "asked to stop"))

    assert world.ask().orders == ()


def test_a_long_list_of_tasks_is_declared_in_small_portions():
    """Thousands of declared tasks cost thousands of entries, not millions of orders."""
    world = World(tasks=tuple({"id": f"T-{n}", "goal": "g"} for n in range(1000))).start()

    assert len(world.ask().orders) <= 100
    world.play_until(lambda w: len(w.run.tasks) == 1000)
    assert [f"T-{n}" for n in range(1000)] == list(world.run.tasks)


def test_agents_are_started_at_once_and_once():
    """All three of the loop start while the snapshot is taken."""
    assert len(played(tasks=THREE).events("system.agent_started")) == 3


def test_an_unreadable_file_fails_the_task_with_its_name():
    """A snapshot that cannot be taken is the task's failure, and the next task is tried."""
    world = played(tasks=THREE, snapshot_answers=["src/secret.txt: permission denied"])

    assert world.failure("T-1") == "snapshot_failed"
    assert "src/secret.txt" in world.run.tasks["T-1"].failure.message
    assert world.run.tasks["T-2"].status == "completed"


def test_two_spellings_of_a_path_are_one_claim():
    """The later one counts, for drift and for `verify`."""
    builder = [Say("builder.completed", None, PASS.payload, artifacts=("./src/a.py", "src//b.py"))]
    world = World(playing(implement=builder)).start().play_until(lambda w: w.run.settled_count == 1)

    assert list(world.run.task.claims) == ["src/a.py", "src/b.py"]


def test_what_an_agent_makes_a_receipt_hold_is_bounded():
    """In number and in length: both are the agent's to choose."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands())
    command = world.commands()[0]
    for number in range(RECEIPT_EVENTS_MAX + 10):
        world.agent_says("builder", Say("artifact.produced"), command, message_id=f"{number:04}{'x' * 1000}")
    world.agent_says("builder", PASS, command)

    ids = world.run.last_settled.event_ids
    assert len(ids) == RECEIPT_EVENTS_MAX
    assert {len(name) for name in ids[:-1]} == {RECEIPT_ID_MAX_CHARS}
