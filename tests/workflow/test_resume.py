"""Crashes: whatever the ledger was cut after, the resumed run does what is left, once."""

import copy

import pytest
from agent_scripts import APPROVED, CHANGES, FAIL, PASS, SPEC_CHANGES, UPDATED, Say, error, playing
from harness import World
from hypothesis import given, settings
from hypothesis import strategies as st

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.workflow.system import RunStopped

DONE = Say("builder.completed", payload=PASS.payload, artifacts=("src/a.py",))
TASKS = ({"id": "T-1", "goal": "one"}, {"id": "T-2", "goal": "two"})


def script():
    """Return a script with most turns a run can take: findings, failing tests, artifacts, a crash, a wait."""
    return playing(
        implement=[(Say("builder.progress"), DONE), error(retryable=True), FAIL],
        implement_changes=[DONE],
        review=[CHANGES, error(retry_after_s=30), APPROVED],
        update_spec=[SPEC_CHANGES, UPDATED],
    )


def by_key(source):
    """Return a script that answers by step, not by call, so that a repeat is answered like the first time."""

    def play(command):
        round_ = command.inputs["round"]
        if command.action == "review":
            return (APPROVED if round_ > 1 else CHANGES,)
        if command.action == "update_spec":
            return (UPDATED if round_ > 2 else SPEC_CHANGES,)
        return (Say("builder.progress"), DONE)

    return play if source is None else source


def reference(**given):
    """Return a world with two tasks of three rounds each, ready to be played."""
    return World(script=by_key(None), tasks=TASKS, keeps_journal=True, **given).start()


def end_of(world):
    """Return what has to be the same however often a run was interrupted."""
    tasks = [(t.task_id, t.status, t.stage, t.rounds, t.next_step) for t in world.run.tasks.values()]
    return world.run.status, tasks, world.settled, world.run.terminal_events


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_a_run_cut_after_any_entry_ends_the_same(remembers, clean):
    """Same end, same keys in the same order, each settled exactly once and never executed again once settled."""
    whole = reference().play()
    for cut in range(1, len(whole.entries) + 1):
        world = reference()
        world.entries = whole.entries[:cut]
        if remembers:
            world.journal = copy.copy(whole.journal)
        else:
            world.refold(world.entries)
            world.journal = {key: whole.journal[key] for key in world.settled}
        settled_before = set(world.settled)
        world.crash(clean=clean).play()

        assert end_of(whole) == end_of(world), cut
        assert len(set(world.settled)) == len(world.settled)
        again = [
            c.idempotency_key
            for c in world.commands()[sum(1 for e in whole.entries[:cut] if e.message in whole.commands()) :]
        ]
        assert not settled_before.intersection(again)
        assert all(count <= 1 for count in world.executions.values())


@given(
    cuts=st.lists(st.integers(0, 40), min_size=1, max_size=12), clean=st.lists(st.booleans(), min_size=12, max_size=12)
)
@settings(max_examples=60)
def test_a_run_crashed_again_and_again_ends_the_same(cuts, clean):
    """Crashes at random distances, some orderly, change nothing about what is done."""
    whole = reference().play()
    world = reference(policy={"max_orchestrator_deaths": 1000})
    for steps, orderly in zip(cuts, clean, strict=False):
        for _ in range(steps):
            if world.run.status is RunStatus.RUNNING:
                world.step()
        if world.run.status is RunStatus.RUNNING:
            world.crash(clean=orderly)
    world.play()

    assert end_of(whole) == end_of(world)


@given(cuts=st.lists(st.integers(0, 30), min_size=1, max_size=8))
@settings(max_examples=40)
def test_a_troubled_run_crashed_again_and_again_comes_to_its_end(cuts):
    """Retries, waits, failing tests and crashes together neither hang nor settle a step twice."""
    world = World(script=script(), tasks=TASKS, policy={"max_orchestrator_deaths": 1000, "retry": {"max_attempts": 9}})
    world.start()
    for steps in cuts:
        for _ in range(steps):
            if world.run.status is RunStatus.RUNNING:
                world.step()
        if world.run.status is RunStatus.RUNNING:
            world.crash()
    world.play()

    assert world.run.status in {RunStatus.COMPLETED, RunStatus.FAILED}
    assert len(set(world.settled)) == len(world.settled)


def test_a_pending_command_goes_out_again_under_its_key():
    """After a crash the same step has the same key and correlation, another delivery, and a fresh deadline."""
    world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands())
    world.pass_time(100_000)
    world.crash().play()
    first, second = world.commands()[:2]

    assert first.idempotency_key == second.idempotency_key
    assert (first.retry.attempt, second.retry.attempt) == (0, 0)
    assert first.message_id != second.message_id
    assert first.deadline < second.deadline


def test_five_unclean_deaths_under_one_command_are_enough():
    """A command that takes the orchestrator down with it is given up, and the next task tried."""
    world = World(playing(implement=[(), (), (), (), (), PASS]), tasks=TASKS).start()
    for death in range(1, 6):
        world.play_until(lambda w, n=death: len(w.commands()) == n)
        world.crash()
    world.play()

    assert (world.failure(), world.actions().count("implement") - 1) == ("orchestrator_crash_loop", 5)
    assert world.run.tasks["T-2"].status == "completed"


def test_an_orderly_stop_between_deaths_does_not_forgive_them():
    """Five unclean deaths are five, whatever happened in between."""
    world = World(playing(implement=[()] * 7)).start()
    for death, clean in enumerate([False, False, True, False, False, False], start=1):
        world.play_until(lambda w, n=death: len(w.commands()) == n)
        world.crash(clean=clean)
    world.play()

    assert world.failure() == "orchestrator_crash_loop"


def test_a_limit_of_no_deaths_lets_a_run_without_any_pass():
    """`policy.max_orchestrator_deaths` 0 gives up at the first death, not before."""
    world = World(playing(implement=[()]), policy={"max_orchestrator_deaths": 0}).start()
    world.play_until(lambda w: w.commands())
    assert world.ask().orders == ()
    world.crash().play()

    assert world.failure() == "orchestrator_crash_loop"


def test_orderly_stops_are_no_deaths():
    """Whoever stops and resumes ten times under one command loses nothing."""
    world = World(playing(implement=[()] * 10 + [PASS])).start()
    for stop in range(1, 11):
        world.play_until(lambda w, n=stop: len(w.commands()) == n)
        world.crash(clean=True)
    world.play()

    assert world.run.status == RunStatus.COMPLETED
    assert {command.retry.attempt for command in world.commands()} == {0}


def test_an_orderly_stop_whose_agents_were_not_heard_of_again_is_no_death_either():
    """`run_stopped` in the ledger is enough, whatever became of the agents' exits."""
    world = World(playing(implement=[()] * 7 + [PASS])).start()
    for stop in range(1, 8):
        world.play_until(lambda w, n=stop: len(w.commands()) == n)
        world.system(RunStopped(stop, "signal", "asked to stop"))
        world.crash()
    world.play()

    assert world.run.status == RunStatus.COMPLETED


def test_the_drift_check_knows_every_path_that_a_step_has_claimed():
    """Claims of all steps of the task add up."""
    script = playing(
        implement=[DONE],
        review=[Say("review.completed", "changes_requested", artifacts=("reviews/T-1.json",)), APPROVED],
    )
    world = World(script).start().play_until(lambda w: len(w.settled) == 2).crash()
    check = world.ask().orders[-1]

    assert sorted(check.claimed) == ["reviews/T-1.json", "src/a.py"]


def test_what_an_agent_says_when_it_is_asked_to_go_is_no_failure():
    """After an orderly stop an error costs nothing, and an answer still settles."""
    for last_words, commands in ((error(message="interrupted"), 4), (PASS, 3)):
        world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands())
        command = world.commands()[0]
        world.system(RunStopped(0, "signal", "asked to stop"))
        world.agent_says("builder", last_words, command)
        world.crash().play()

        assert (world.run.status, len(world.commands())) == (RunStatus.COMPLETED, commands)


def test_an_event_of_the_agent_forgives_earlier_deaths():
    """Only deaths without any sign of the agent count."""
    world = World(playing(implement=[(Say("builder.progress"),)] * 7 + [PASS])).start()
    for death in range(1, 8):
        world.play_until(lambda w, n=death: w.events().count("builder.progress") == n)
        world.crash()
    world.play()

    assert world.run.status == RunStatus.COMPLETED


def test_deaths_while_waiting_for_a_rate_limit_do_not_count():
    """No command is with an agent then, so none can be what kills the orchestrator."""
    world = World(playing(implement=[error(retry_after_s=3600), PASS])).start()
    world.play_until(lambda w: w.events("system.retry_scheduled"))
    for _ in range(7):
        world.crash()
    world.play()

    assert world.run.status == RunStatus.COMPLETED


def test_steps_go_on_counting_where_an_earlier_run_stopped():
    """`first_step` of the resume wins over a smaller number of our own."""
    world = World().start().play_until(lambda w: w.settled)
    receipts = world.run.last_settled.step
    world.crash().play()

    assert (receipts, world.run.last_settled.step) == (1, 3)


def test_drift_is_told_before_anybody_may_change_the_tree_again():
    """No command goes out between a resume and the answer to its drift check."""
    world = World(playing(implement=[(), PASS])).start().play_until(lambda w: w.commands()).crash().play()
    names = world.events()
    resumed = names.index("system.run_resumed")

    assert names.index("system.workspace_drift", resumed) < names.index("->implement", resumed)


def test_a_finished_run_decides_nothing_more():
    """Resuming what is done orders nothing."""
    world = World().start().play()
    world.refold(world.entries)

    assert world.ask().orders == ()


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_resume_says_which_failed_tasks_are_done_anew(retry_failed):
    """Without `retry_failed` a failed run stays failed; with it only the failed task is done again, under new keys."""
    world = World(playing(implement=[PASS, error(message="no"), PASS]), tasks=TASKS).start().play()
    before = len(world.commands())
    world.crash(retry_failed=retry_failed)
    if retry_failed:
        world.play()
    again = world.commands()[before:]

    assert (RunStatus.COMPLETED if retry_failed else RunStatus.FAILED) == world.run.status
    assert ({"T-2"} if retry_failed else set()) == {command.task_id for command in again}
    assert len(world.settled) == len(set(world.settled))
    assert all("retry_of" in command.inputs for command in again)


def test_restarts_before_a_retry_of_failed_tasks_are_forgiven():
    """Somebody mended what kept the agent from working; it gets the full number of restarts again."""
    policy = {"retry": {"max_attempts": 50}}
    world = World(playing(implement=[error(retryable=True)] * 6 + [error(retryable=True), PASS]), policy=policy)
    world.start().play()
    assert world.failure() == "agent_restart_limit"
    world.crash(retry_failed=True).play()

    assert world.run.status == RunStatus.COMPLETED
