"""run.json, index rows and receipts follow from the fold and keep to their types and schemas."""

import json

import msgspec
import pytest
from agent_scripts import APPROVED, CHANGES, PASS, Say, error, playing
from harness import RUN_ID, World, played
from jsonschema import Draft202012Validator

from lorch_actors.protocol.documents import IndexRow, Receipt, RunState, RunStatus
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.projection import index_row, receipt, run_state
from lorch_actors.workflow.state import Run

DONE = Say("builder.completed", payload=PASS.payload, artifacts=("src/a.py",))


def validator(name):
    """Return the validator of a shipped schema."""
    return Draft202012Validator(json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes()))


def troubled():
    """Return a run with everything that leaves a trace in its documents."""
    script = playing(
        implement=[(Say("artifact.produced", artifacts=("src/a.py",)), DONE), error(message="no")],
        review=[error(retryable=True), CHANGES, APPROVED],
    )
    return played(script, tasks=({"id": "T-1", "goal": "one", "instruction": "do"}, {"id": "T-2", "goal": "two"}))


def test_run_state_and_index_row_are_valid_after_every_entry():
    """Whenever the keeper writes, what it writes is what the schema promises."""
    schema = validator("run-state")
    run = Run(RUN_ID)
    for entry in troubled().entries:
        run = fold(run, entry)
        state = msgspec.to_builtins(run_state(run, entry.seq, entry.chain))
        row = msgspec.to_builtins(index_row(run, entry.seq, entry.chain))
        schema.validate(state)
        msgspec.convert(state, RunState)
        msgspec.convert(row, IndexRow)


def test_every_settled_step_has_a_valid_and_complete_receipt():
    """Steps count from 1 without gaps; action, key, events, tests and artifacts are those of the ledger."""
    world = troubled()
    schema = validator("receipt")
    run, receipts = Run(RUN_ID), []
    for entry in world.entries:
        settled = run.settled_count
        run = fold(run, entry)
        if run.settled_count > settled:
            last = run.last_settled
            document = msgspec.to_builtins(receipt(last, run.tasks[last.task_id].declared, entry.seq, entry.chain))
            schema.validate(document)
            receipts.append(msgspec.convert(document, Receipt))

    assert list(range(1, 6)) == [each.step for each in receipts]
    assert [each.action for each in receipts] == ["implement", "review", "implement_changes", "review", "update_spec"]
    assert world.settled == [each.idempotency_key for each in receipts]
    assert [each.tests for each in receipts] == [{"status": "pass"}, None, {"status": "pass"}, None, None]
    assert [artifact.path for artifact in receipts[0].artifacts] == ["src/a.py"]
    assert {"do"} == {each.instruction for each in receipts}
    assert [len(each.events) for each in receipts] == [2, 2, 1, 1, 1]


def test_the_settling_event_is_the_last_of_a_receipt():
    """What an agent says after its answer, while that is verified, is not part of the step."""
    world = World(playing(implement=[DONE])).start().play_until(lambda w: "builder.completed" in w.events())
    answer = world.entries[-1].message.message_id
    world.agent_says("builder", Say("artifact.produced", artifacts=("late",)), world.commands()[0])
    world.agent_says("builder", DONE, world.commands()[0])
    world.play_until(lambda w: w.settled)

    assert (answer,) == world.run.last_settled.event_ids


@pytest.mark.parametrize("given", ["completed", "failed"])
def test_the_failure_of_a_run_is_that_of_its_first_failed_task(given):
    """A completed run has none; the code, words, task and agent of a failed one are told."""
    world = played() if given == "completed" else played(playing(review=[error(code="quota", message="no")]))
    failure = run_state(world.run, 1, "").failure

    told = failure and (failure.code, failure.message, failure.task_id, failure.agent)
    assert (None if given == "completed" else ("quota", "no", "T-1", "reviewer")) == told


def test_an_interrupted_run_stays_running_and_names_its_command():
    """run.json tells the pending command's correlation."""
    world = World(playing(implement=[()])).start().play_until(lambda w: w.commands()).crash(clean=True)
    state = run_state(world.run, 1, "")

    assert (RunStatus.RUNNING, world.commands()[0].correlation_id) == (state.status, state.correlation_id)
