"""Traps that were met with the released CLIs and that no single stream shows: homes, settings, signals, sums.

The others are beside the reader of the CLI they were met with; the name of each begins with `test_trap_`.
"""

import shlex
from pathlib import Path
from typing import Any

from agent_driving import command, executor
from cli_playing import Cli, adapted, codex_done, stream

from lorch_actors import processes

INPUTS = {"run_id": "run-1", "round": 1, "goal": "Leave a stamp"}


def order(action: str = "implement", key: str = "one", **changes: Any) -> dict[str, Any]:
    return command(action, key, **{"inputs": INPUTS, **changes})


def claude_turn(cost_usd: float, **changes: Any) -> str:
    """Return a turn of Claude Code; its final event has the members in the order of the real one, its type last."""
    result = {"session_id": "s-1", "total_cost_usd": cost_usd, "is_error": False, "subtype": "success"}
    more = {"api_error_status": None, "result": "done", **changes, "type": "result"}
    return stream({"session_id": "s-1", "subtype": "init", "type": "system"}, {**result, **more})


def test_trap_cost_is_cumulative_also_over_a_resume(tmp_path: Path):
    """What was counted before is not counted again."""
    broken = claude_turn(0.25, is_error=True, api_error_status=500, result="boom")
    cli = Cli(tmp_path / "cli", broken, claude_turn(0.4))
    with adapted(cli, tmp_path, "claude", "builder") as agent:
        costs = [agent.ask(order())["payload"]["usage"]["cost_usd"] for _ in range(2)]

    assert costs == [0.25, 0.15]
    assert "--resume" in cli.arguments(2)


def test_a_budget_in_money_is_the_cap_of_each_turn(tmp_path: Path):
    """What the command may still cost, less what its earlier turns did: a cap counts from the start of its turn."""
    cli = Cli(tmp_path / "cli", claude_turn(0.2, result="fine!"), claude_turn(0.3, result="fine!"))
    with adapted(cli, tmp_path, "claude", "reviewer") as agent:
        agent.ask(order("review", budget={"usd": 0.5}))
        agent.ask(order("review", "two"))
    capped = [words[words.index("--max-budget-usd") + 1] for words in (cli.arguments(1), cli.arguments(2))]

    assert capped == ["0.500000", "0.300000"]
    assert "--max-budget-usd" not in cli.arguments(3)


def test_trap_events_have_to_be_read_by_key(tmp_path: Path):
    """Not by position or prefix: the type stands at the end, and there are members that nobody knows."""
    cli = Cli(tmp_path / "cli", claude_turn(0.1, uuid="u", modelUsage={"type": "none"}))
    with adapted(cli, tmp_path, "claude", "builder") as agent:
        answer = agent.ask(order())

    assert (answer["event"], answer["payload"]["summary"]) == ("builder.completed", "done")


def test_trap_codex_home_has_to_exist(tmp_path: Path):
    """It is made before the first turn."""
    cli = Cli(tmp_path / "cli", codex_done("done", before='test -d "$CODEX_HOME" || exit 1'))
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        answer = agent.ask(order())

    assert answer["event"] == "builder.completed"


def test_trap_gemini_asks_how_to_log_in_at_its_first_start(tmp_path: Path):
    """The choice stands in the settings of its home before it is started."""
    done = stream({"type": "init", "session_id": "s-1"}, {"type": "result", "status": "success", "stats": {}})
    needs = """grep -q '"selectedType": "gemini-api-key"' "$GEMINI_CLI_HOME/.gemini/settings.json" || exit 41\n"""
    cli = Cli(tmp_path / "cli", needs + done)
    with adapted(cli, tmp_path, "gemini", "builder", GEMINI_API_KEY="k-12345678") as agent:
        answer = agent.ask(order())

    assert answer["event"] == "builder.completed"


def test_trap_sigterm_ignored_for_20_s_through_a_wrapper(tmp_path: Path):
    """It is told, given half a second, and killed with everybody below it, so the answer comes before the deadline."""
    ignores = "sh -c 'trap \"\" TERM; echo $$ > src/pid; while :; do sleep 1; done' & trap '' TERM; wait"
    cli = Cli(tmp_path / "cli", ignores)
    with adapted(cli, tmp_path, "gemini", "builder", "--silence-s", "1", LORCH_TEST_MARK=str(tmp_path)) as agent:
        payload = agent.ask(order())["payload"]
        left = set(processes.marked("LORCH_TEST_MARK", str(tmp_path))) - {agent.process.pid}

    assert (payload["code"], left) == ("cli_hung", set())
    assert (tmp_path / "src" / "pid").exists()


def test_trap_aider_exits_with_0_even_on_401(tmp_path: Path):
    """Nothing can be told from it, so its work is what the tests say of it."""
    says = "echo 'litellm.AuthenticationError: 401'; exit 0"
    with executor(tmp_path, "builder", *shell("implement", says), "--tests", "test -e src/stamp") as agent:
        answer = agent.ask(command())

    assert (answer["event"], answer["payload"]["tests"]["status"]) == ("builder.completed", "fail")


def test_trap_aider_commits_by_itself(tmp_path: Path):
    """What changed is found by comparing files, so a commit hides nothing."""
    (tmp_path / "src").mkdir()
    git = "git -c user.name=t -c user.email=t@localhost"
    work = f"git init -q; echo hi > src/new; git add src; {git} commit -qm aider"
    with executor(tmp_path, "builder", *shell("implement", work)) as agent:
        answer = agent.ask(command())

    assert [claimed["path"] for claimed in answer["artifacts"]] == ["src/new"]


def shell(action: str, text: str) -> list[str]:
    """Return the flags that run a shell script for an action."""
    return ["--on", f"{action}=sh -c {shlex.quote(text)}"]
