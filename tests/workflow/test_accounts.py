"""Limits of accounts: shared by all who use one, across tasks and resumes, and waited for only within reason."""

import pytest
from agent_scripts import APPROVED, PASS, error, playing
from harness import World

from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow.accounts import account_of, program_of
from lorch_actors.workflow.state import Run

HOUR_MS = 3_600_000
TWO = ({"id": "T-1", "goal": "g"}, {"id": "T-2", "goal": "h"})
SAME = {role: {"cmd": ["claude-wrapper"]} for role in ("builder", "reviewer", "spec_maintainer")}


def sent_at(world):
    """Let a world note at what time each command is sent; return the notes."""
    times: list[tuple[str, int]] = []
    begun_ms = world.wall_ms

    def watch(now):
        commands = now.commands()
        if len(commands) > len(times):
            times.append((f"{commands[-1].task_id} {commands[-1].action}", now.wall_ms - begun_ms))

    world.before_step = watch
    return times


@pytest.mark.parametrize(
    ("cmd", "program"),
    [
        (["lorch-agent", "claude", "--model", "m"], "claude"),
        (["/opt/bin/lorch-agent", "exec", "--type", "builder"], "exec"),
        (["lorch", "mockagent", "--type", "builder"], "mockagent"),
        (["lorch-agent", "acp", "--", "gemini", "--acp"], "gemini"),
        (["lorch-agent", "acp", "--timeout", "3", "--", "/usr/bin/node", "x/agent.js"], "agent.js"),
        (["python3.11", "-m", "lorch_actors.agents", "codex"], "codex"),
        (["python3", "-S", "-m", "lorch_actors", "mockagent"], "mockagent"),
        (["python3", "-m", "our.agent", "--fast"], "our.agent"),
        (["python3", "-u", "tools/poet.py"], "poet.py"),
        (["env", "A=1", "sh", "build.sh"], "build.sh"),
        (["./claude"], "claude"),
        (["python3"], ""),
        (["python3", "-m"], ""),
        ([], ""),
    ],
)
def test_an_account_is_called_after_the_program_by_default(cmd, program):
    """Of our own agents their name, of a script its name, whoever interprets it."""
    assert program_of(cmd) == program


def test_what_is_configured_outweighs_what_is_told_and_that_the_program():
    """An agent without a command is an account of its own."""
    settings = {"builder": {"account": "team"}, "reviewer": {"cmd": ["claude"]}, "spec_maintainer": {"cmd": ["claude"]}}
    run = Run("run-1", agent_settings=settings, accounts={"builder": "told", "reviewer": "claude:1"})

    found = [account_of(run, role) for role in ("builder", "reviewer", "spec_maintainer", "orchestration")]
    assert found == ["team", "claude:1", "claude", "orchestration"]


def test_a_limit_is_waited_for_by_the_next_task_as_well():
    """The first task gives up on it; the second one's agents use the same account and are left alone until then."""
    script = playing(implement=[PASS, PASS], review=[error(code="usage_limited", retry_after_s=3600)])
    world = World(script, tasks=TWO, agent_settings=SAME, policy={"max_wait_s": 5400}).start()
    world.play_until(lambda w: w.events("system.command_failed"))
    limited_at_ms = world.steady_ms
    world.script = playing()
    world.play()

    assert world.failure("T-1") == "wait_exhausted"
    assert world.run.tasks["T-2"].failure is None
    assert world.steady_ms - limited_at_ms == HOUR_MS


def test_who_has_another_account_need_not_wait():
    """Only those are left alone whose account it is."""
    settings = {**SAME, "builder": {"cmd": ["codex"]}}
    script = playing(review=[*[error(retry_after_s=3600)] * 2, APPROVED])
    world = World(script, tasks=TWO, agent_settings=settings, policy={"max_wait_s": 5400})
    times = sent_at(world.start())
    world.play()

    assert times == [
        ("T-1 implement", 0),
        ("T-1 review", 0),
        ("T-1 review", HOUR_MS),
        ("T-2 implement", HOUR_MS),
        ("T-2 review", 2 * HOUR_MS),
        ("T-2 update_spec", 2 * HOUR_MS),
    ]


def test_an_error_may_name_the_account():
    """From then on it is the agent's; others of the same program are taken to use it too, until they name another."""
    limit = error(code="rate_limited", retry_after_s=60, account="claude:1f00")
    world = World(playing(implement=[limit, PASS]), agent_settings=SAME).start().play()

    (note,) = world.payloads("system.retry_scheduled")
    assert note["limit"]["account"] == "claude:1f00"
    assert [account_of(world.run, role) for role in SAME] == ["claude:1f00", "claude-wrapper", "claude-wrapper"]
    assert sorted(world.run.limits) == ["claude-wrapper", "claude:1f00"]


def test_a_configured_account_is_kept_whatever_an_agent_calls_it():
    """Two programs on one subscription share its limits because somebody says so."""
    settings = {"builder": {"cmd": ["codex"], "account": "us"}, "reviewer": {"cmd": ["claude"], "account": "us"}}
    script = playing(implement=[error(retry_after_s=60, account="openai"), PASS])
    world = World(script, agent_settings=settings).start().play()

    assert sorted(world.run.limits) == ["openai", "us"]
    assert [account_of(world.run, role) for role in settings] == ["us", "us"]


def test_a_limit_that_lasts_too_long_stops_the_run_before_it_fails_task_after_task():
    """One task learns of it; the others have not failed, and are done when the run goes on after that."""
    world = World(playing(implement=[error(retry_after_s=24 * 3600)]), tasks=TWO, agent_settings=SAME).start().play()

    assert (world.failure("T-1"), world.run.tasks["T-2"].status) == ("wait_exhausted", "pending")
    assert (world.run.status, world.run.stopped.code) == (RunStatus.RUNNING, "wait_exhausted")
    assert to_timestamp(world.wall_ms + 24 * HOUR_MS) in world.run.stopped.message

    world.crash().play()
    assert world.run.stopped.code == "wait_exhausted"
    world.script = playing()
    world.wall_ms += 20 * HOUR_MS
    resumed_at_ms = world.crash().wall_ms
    world.play()
    assert world.run.tasks["T-2"].status == "completed"
    assert 3 * HOUR_MS < world.wall_ms - resumed_at_ms <= 4 * HOUR_MS


def test_a_resume_without_waiting_forgets_limits():
    """Somebody has topped the account up: the command goes out at once, with the attempts it had."""
    world = World(playing(implement=[error(retry_after_s=3600), PASS]), agent_settings=SAME).start()
    world.play_until(lambda w: w.events("system.retry_scheduled"))
    world.crash(no_wait=True)
    before_ms = world.steady_ms
    world.play()

    assert world.run.status == RunStatus.COMPLETED
    assert world.steady_ms == before_ms
    assert world.commands()[1].retry.attempt == 0
