"""Commits at the end of tasks: intent, result, crash in between, and what happens when git refuses."""

import pytest
from agent_scripts import APPROVED, CHANGES, PASS, error, playing
from harness import RUN_ID, World, played

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.workflow.orders import Commit
from lorch_actors.workflow.parts import GitPlan
from lorch_actors.workflow.projection import run_state

GIT = GitPlan("commit", branch=f"lorch/{RUN_ID}", base="b4c0ffee", start_branch="main")
TASKS = ({"id": "T-1", "goal": "one"}, {"id": "T-2", "goal": "two"})


def test_a_task_ends_as_one_commit():
    """The branch is made first; intent and result stand in the ledger before the task is finished."""
    world = played(git=GIT)

    assert world.events().index("system.branch_created") < world.events().index("system.task_started")
    assert world.events()[-4:-1] == ["system.commit_intended", "system.commit_made", "system.task_finished"]
    assert world.payloads("system.commit_made")[0]["purpose"] == "commit"


def test_a_failed_task_is_set_aside_on_a_branch_of_its_own():
    """So that the next one starts with a clean tree."""
    world = played(playing(implement=[error(message="no"), PASS]), git=GIT, tasks=TASKS)

    intents = [(note["purpose"], note["branch"]) for note in world.payloads("system.commit_intended")]
    assert [("set_aside", f"lorch-failed/{RUN_ID}/T-1"), ("commit", GIT.branch)] == intents
    assert world.run.status.name == "FAILED"


def test_the_agent_is_gone_before_its_work_is_set_aside():
    """Nobody edits the tree while git looks at it."""
    names = played(playing(implement=[error(message="no")]), git=GIT).events()

    assert names.index("system.agent_exited") < names.index("system.commit_intended")


def test_a_crash_between_intent_and_result_asks_for_the_same_commit():
    """The order's name follows from the recorded intent, so that it can be found done."""
    world = World(git=GIT).start().play_until(lambda w: "system.commit_intended" in w.events())
    intended = world.ask().orders
    world.crash().play()
    carried_out = [order for order in world.done if isinstance(order, Commit)]

    assert [order.key for order in intended] == [order.key for order in carried_out]
    assert 1 == len(world.events("system.commit_intended")) == len(world.events("system.commit_made"))


def test_a_commit_that_fails_stops_the_run():
    """Whatever git's trouble is, the next task would meet it too."""
    world = played(git=GIT, tasks=TASKS, git_answers=["", "disk full"])

    assert (world.failure(), world.run.tasks["T-2"].status) == ("git_failed", "pending")
    assert world.run.status == RunStatus.FAILED


def test_a_branch_that_cannot_be_made_stops_the_run_and_is_told():
    """No task is begun, and run.json says why."""
    world = played(git=GIT, git_answers=["cannot lock ref"])
    failure = run_state(world.run, 1, "").failure

    assert (world.commands(), world.run.status) == ([], RunStatus.FAILED)
    assert (failure.code, failure.message) == ("git_failed", "cannot lock ref")


@pytest.mark.parametrize("git_answers", [["cannot lock ref"], ["", "disk full"]])
def test_a_retry_after_git_failed_goes_on(git_answers):
    """Once git works again the run comes to its end; work that was done is committed, not done again."""
    world = played(git=GIT, tasks=TASKS, git_answers=git_answers)
    world.crash(retry_failed=True).play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.actions() == ["implement", "review", "update_spec"] * 2


def test_a_commit_that_fails_again_and_again_is_all_that_is_retried():
    """Rounds and steps of the finished work stay as they were."""
    script = playing(review=[CHANGES, APPROVED])
    world = played(script, git=GIT, git_answers=["", "disk full", "disk full"])
    for _ in range(2):
        world.crash(retry_failed=True).play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.actions() == ["implement", "review", "implement_changes", "review", "update_spec"]
    assert world.run.tasks["T-1"].rounds == 2


def test_steps_of_a_task_done_anew_share_no_key_with_the_first_time():
    """Set aside, the tree is as it was; but what was said about the failed work says nothing about the new."""
    script = playing(update_spec=[error(message="no"), error(message="no"), *([] or [])])
    world = played(script, git=GIT)
    world.crash(retry_failed=True).play()
    keys = [command.idempotency_key for command in world.commands()]

    assert world.actions() == ["implement", "review", "update_spec"] * 2
    assert len(set(keys)) == 6
    assert len(world.settled) == len(set(world.settled))


def test_a_second_retry_has_new_keys_again():
    """Each retry is told from the one before."""
    world = played(playing(implement=[error(message="no")]), git=GIT)
    for _ in range(3):
        world.crash(retry_failed=True).play()

    assert 4 == len({command.idempotency_key for command in world.commands()}) == len(world.commands())


def test_retries_across_a_failed_snapshot_have_new_keys_again():
    """Also when a retry failed before it sent anything."""
    world = played(playing(implement=[error(message="no")]), snapshot_answers=["x", "", "y", ""])
    for _ in range(3):
        world.crash(retry_failed=True).play()

    assert 2 == len({command.idempotency_key for command in world.commands()}) == len(world.commands())


def test_without_commits_the_failed_step_alone_is_done_anew():
    """With git off the tree still holds the failed work, so the retry goes on where it failed."""
    world = played(
        playing(
            review=[
                error(message="no"),
            ]
        )
    )
    world.script = playing()
    world.crash(retry_failed=True).play()

    assert world.actions() == ["implement", "review", "review", "update_spec"]
    assert world.run.status == RunStatus.COMPLETED
