"""Budgets: what agents tell is counted, what they do not tell is unknown, and at the limit the run stops, resumably."""

import pytest
from agent_scripts import APPROVED, FAIL, PASS, Ask, Exit, Say, error, playing
from harness import World

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.parse import encode
from lorch_actors.workflow.budget import spent_now
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.state import Moment
from lorch_actors.workflow.system import WorkerStarted

TWO = ({"id": "T-1", "goal": "g"}, {"id": "T-2", "goal": "h"})
DEAR = {"usage": {"input_tokens": 900, "output_tokens": 100, "cost_usd": 0.75}}


def costing(say: Say, **usage) -> Say:
    """Return an event that tells what the work has cost."""
    return Say(say.event, say.status, {**(say.payload or {}), "usage": usage})


def spending(script=None, **given) -> World:
    """Return a world with a budget whose every builder's step costs 0.75 US dollars and 1,000 tokens."""
    budget = given.pop("budget")
    script = script or playing(implement=[Say("builder.completed", None, {**PASS.payload, **DEAR})])
    return World(script, policy={"budget": budget}, tasks=given.pop("tasks", TWO), **given).start()


def spent(world):
    """Return dollars, tokens, and how many commands there were and told their cost."""
    found = world.run.spent
    return found.usd_micro / 1e6, found.tokens, found.commands, found.priced


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"usd": 0.7}, "the budget of the run is used up: 0.75 of 0.7 US dollars (policy.budget.usd)"),
        ({"tokens": 1000}, "the budget of the run is used up: 1000 of 1000 tokens (policy.budget.tokens)"),
        (
            {"task": {"usd": 0.75}},
            "the budget of task T-1 is used up: 0.75 of 0.75 US dollars (policy.budget.task.usd)",
        ),
        ({"task": {"tokens": 1}}, "the budget of task T-1 is used up: 1000 of 1 tokens (policy.budget.task.tokens)"),
    ],
)
def test_at_the_limit_the_run_stops_and_says_which_and_how_to_go_on(budget, words):
    """After the step that reached it, before another command is sent; nothing has failed."""
    world = spending(budget=budget).play()

    assert world.actions() == ["implement"]
    assert (world.run.status, world.run.stopped.code) == (RunStatus.RUNNING, "over_budget")
    assert world.run.stopped.message.startswith(words)
    key = words.rpartition("policy.budget.")[2].rstrip(")")
    assert f"`lorch resume --budget {key}=" in world.run.stopped.message
    assert world.failure() is None


def test_resumed_without_more_it_stops_at_once_and_with_more_it_goes_on():
    """The new budget stands in the entry of the resume, and holds for every later resume as well."""
    world = spending(budget={"usd": 0.5}).play()
    world.crash().play()
    assert (world.actions(), world.run.stopped.code) == (["implement"], "over_budget")
    assert world.alive == {}

    world.crash(budget={"usd": 1.0}).play()
    assert world.run.policy.budget.usd == 1.0
    assert world.actions() == ["implement", "review", "update_spec", "implement"]
    assert world.run.stopped.message.startswith("the budget of the run is used up: 1.5 of 1 US dollars")

    world.crash(budget={"usd": None}).play()
    assert world.run.status == RunStatus.COMPLETED


def test_a_budget_that_is_none_is_not_taken():
    """Whatever an entry holds; the one before stays."""
    world = spending(budget={"usd": 0.5}).play()
    world.crash(budget={"usd": "much"})

    assert world.run.policy.budget.usd == 0.5


def test_each_task_has_its_own_and_the_run_has_both():
    """What the first has spent says nothing about the second."""
    assert spending(budget={"task": {"usd": 0.8}}).play().run.status == RunStatus.COMPLETED
    world = spending(budget={"usd": 1.5, "task": {"usd": 0.8}}).play()

    assert [str(task.status) for task in world.run.tasks.values()] == ["completed", "running"]


def test_what_a_failed_attempt_cost_counts():
    """Errors tell their usage too, and an answer that is not accepted has cost what it has."""
    script = playing(
        implement=[
            error(retryable=True, **DEAR),
            Say("builder.completed", payload=DEAR),
            Say("builder.completed", payload={**PASS.payload, **DEAR}),
        ]
    )
    world = spending(script, budget={"usd": 100}, tasks=TWO[:1]).play()

    assert spent(world) == (2.25, 3000, 5, 3)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "much",
        [],
        {"cost_usd": -1, "input_tokens": -5},
        {"cost_usd": "1", "output_tokens": 1.5},
        {"cost_usd": True, "input_tokens": True},
        {"cost_usd": 1e300, "input_tokens": 10**40},
    ],
)
def test_what_is_not_told_in_earnest_is_unknown(usage):
    """Unknown is counted as unknown, not as nothing and not as something."""
    script = playing(implement=[Say("builder.completed", payload={**PASS.payload, "usage": usage})])
    world = spending(script, budget={"usd": 0.01}, tasks=TWO[:1]).play()

    assert spent(world) == (0, 0, 3, 0)
    assert world.run.status == RunStatus.COMPLETED


def test_unknown_cost_is_told_with_the_rest():
    """Of agents that tell tokens and no cost only the tokens can be limited; what is not known is said."""
    script = playing(implement=[costing(FAIL, input_tokens=5), costing(PASS, cost_usd=2)])
    world = spending(script, budget={"usd": 1}, tasks=({"id": "T-1", "goal": "g"},))
    world.script = playing(implement=[costing(FAIL, input_tokens=5)], implement_changes=[costing(PASS, cost_usd=2)])
    world.play()

    assert (
        "2 of 1 US dollars (policy.budget.usd), and what 1 of 2 commands cost is unknown" in world.run.stopped.message
    )


def test_a_second_terminal_event_costs_nothing():
    """It answers nothing, so it is not counted."""
    once = Say("builder.completed", payload={**PASS.payload, **DEAR}, artifacts=("src/a.py",))
    world = spending(playing(implement=[(once, once)]), budget={"usd": 100}, tasks=TWO[:1]).play()

    assert spent(world)[0] == 0.75


def test_an_answer_that_comes_too_late_has_been_paid_for():
    """Once: its repeat, which names it, and what else is said in that delivery cost nothing."""
    late = Say("builder.completed", payload={**PASS.payload, **DEAR})
    world = spending(playing(implement=[()]), budget={"usd": 100}, tasks=TWO[:1])
    world.play_until(lambda w: w.events("system.command_timed_out"))
    command = world.commands()[-1]
    for _ in range(2):
        world.agent_says("builder", late, command)
    assert spent(world)[::3] == (0.75, 1)
    told = [entry.message for entry in world.entries if getattr(entry.message, "event", "") == "builder.completed"]
    world.script = playing(implement=[costing(PASS, cost_usd=0.75, told_by=told[0].message_id)])
    world.play()

    assert (world.run.status, spent(world)[::3]) == (RunStatus.COMPLETED, (0.75, 2))


@pytest.mark.parametrize(("is_heard", "usd"), [(True, 0.75), (False, 1.5)])
def test_an_answer_that_is_repeated_costs_nothing_anew(is_heard, usd):
    """Unless the one that told it first was never heard: then it is counted now."""
    good = playing()
    wrong = Say("builder.completed", None, {**PASS.payload, **DEAR}, snapshot_id="snap-other")

    def play(command):
        if command.action != "implement" or command.retry.attempt == 0:
            return (wrong,) if command.action == "implement" else good(command)
        told = [entry.message for entry in world.entries if getattr(entry.message, "event", "") == "builder.completed"]
        return (costing(PASS, cost_usd=0.75, told_by=told[0].message_id if is_heard else "unheard"),)

    world = spending(play, budget={"usd": 100}, tasks=TWO[:1])
    world.play()

    assert ([c.retry.attempt for c in world.commands()][:2], spent(world)[::3]) == ([0, 1], (usd, 2))


def test_what_is_left_is_reserved_for_the_command():
    """It is told how much it may spend at most: of the run's and the task's budget whatever is less."""
    world = spending(budget={"usd": 10, "tokens": 5000, "task": {"usd": 1}}).play()
    told = [(command.budget.usd, command.budget.tokens) for command in world.commands()]

    assert told == [(1.0, 5000), (0.25, 4000), (0.25, 4000), (1.0, 4000), (0.25, 3000), (0.25, 3000)]


def test_without_a_budget_a_command_says_nothing_of_it():
    """So an agent that does not know the field never sees it."""
    world = World().start().play()

    assert [command for command in world.commands() if b"budget" in encode(command)] == []


def test_an_agent_that_stopped_because_of_the_budget_has_not_failed():
    """It says `over_budget` and what it has spent: the run stops, and goes on with the same command and more money."""
    stopped = error(code="over_budget", retryable=False, usage={"cost_usd": 1.01})
    world = spending(playing(implement=[stopped, PASS]), budget={"usd": 1}, tasks=TWO[:1]).play()
    assert (world.run.stopped.code, world.failure()) == ("over_budget", None)

    world.crash(budget={"usd": 5}).play()
    assert world.run.status == RunStatus.COMPLETED
    assert len({command.idempotency_key for command in world.commands()[:2]}) == 1
    assert world.commands()[1].retry.attempt == 0


def test_an_agent_that_stopped_at_a_cap_of_its_own_has_failed():
    """Nothing of the run's budget is used up, so to go on would change nothing."""
    stopped = error(code="over_budget", retryable=False, usage={"cost_usd": 0.2})

    assert spending(playing(implement=[stopped]), budget={"usd": 1}, tasks=TWO[:1]).play().failure() == "over_budget"


# -- time -------------------------------------------------------------------------------------------------------


def test_time_that_is_used_up_ends_what_is_under_way():
    """The command has no more time than the budget; nothing is lost of its attempts."""
    world = spending(playing(implement=[()]), budget={"wall_s": 100}, tasks=TWO[:1])
    begun_ms = world.wall_ms
    world.play()

    assert world.run.stopped.message.startswith("the budget of the run is used up: 100 of 100 seconds of work")
    assert world.wall_ms - begun_ms == 100_000
    assert world.payloads("system.command_timed_out") == []
    world.script = playing()
    world.crash(clean=False, budget={"wall_s": 1000}).play()
    assert world.run.status == RunStatus.COMPLETED
    assert [command.retry.attempt for command in world.commands()] == [0, 0, 0, 0]


def test_waiting_is_no_work():
    """Neither for a limit nor for a person."""
    script = playing(implement=[error(retry_after_s=3600), Ask(allowed=PASS, denied=PASS)])
    world = spending(
        script, budget={"wall_s": 60}, tasks=TWO[:1], agent_settings={"builder": {"permissions": "ask"}}
    ).play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.run.spent.work_ms == 0


def test_time_in_which_nobody_worked_on_it_does_not_count():
    """A run that is resumed the next day has spent what it had spent the evening before."""
    world = spending(playing(implement=[(), PASS]), budget={"wall_s": 100}, tasks=TWO[:1])
    world.play_until(lambda w: w.events("->implement"))
    world.pass_time(50_000)
    world.crash(clean=True)
    world.wall_ms += 80_000_000
    world.system(WorkerStarted("ledger", ProcessRef("b", 1, 1)))  # it is up before the run is resumed
    world.crash()
    world.play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.run.spent.work_ms == 50_000


def test_time_before_a_crash_counts_when_the_guardian_goes_on_at_once():
    """Also what has passed since the last entry: nothing lies between the two orchestrators but a moment."""
    world = spending(playing(implement=[(), PASS]), budget={"wall_s": 100}, tasks=TWO[:1])
    world.play_until(lambda w: w.events("->implement"))
    world.pass_time(50_000)
    world.crash(at_once=True).play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.run.spent.work_ms == 51_000  # a crash takes a second here


def test_a_clock_that_is_set_back_gives_no_time_back():
    """Nor does it take any."""
    world = spending(playing(implement=[Exit(1), PASS]), budget={"wall_s": 100}, tasks=TWO[:1])
    world.play_until(lambda w: w.events("->implement"))
    world.pass_time(10_000)
    world.play_until(lambda w: w.events("system.agent_exited"))
    world.wall_ms -= 5_000_000
    world.play()

    assert world.run.spent.work_ms == 10_000


def test_a_run_that_is_read_again_has_spent_the_same():
    """Everything comes from the ledger."""
    script = playing(implement=[costing(error(retry_after_s=5), cost_usd=0.1), costing(PASS, cost_usd=0.2)])
    world = spending(script, budget={"usd": 100}).play()
    before = world.run.spent
    world.refold(world.entries)

    assert world.run.spent == before
    assert spent_now(world.run, Moment(world.wall_ms, 0)) == before


def test_a_failed_task_done_anew_has_a_budget_of_its_own():
    """What was spent on it before counts for the run alone."""
    script = playing(review=[error(retryable=False), APPROVED], implement=[costing(PASS, cost_usd=0.6)])
    world = spending(script, budget={"task": {"usd": 1}}, tasks=TWO[:1]).play()
    assert world.failure() == "agent_error"

    world.crash(retry_failed=True).play()
    assert world.run.status == RunStatus.COMPLETED
