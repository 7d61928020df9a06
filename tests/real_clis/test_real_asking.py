"""Whole runs in which leave is asked for: by an agent on ACP's own library, and by Claude Code."""

import shlex
import sys
from pathlib import Path
from typing import Any

import bench as benches
import pytest
from bench import Bench, Running, gone_within
from model_server import model_server
from real_cli import CLIS, Model, echo_command, settings, stopping

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(600)]


def echoing(**builder: Any) -> dict[str, Any]:
    """Return agents that are all the echo agent."""
    cmd = [sys.executable, "-m", "lorch_actors.agents", "acp", "--", *shlex.split(echo_command())]
    agents: dict[str, Any] = {role: {"cmd": cmd} for role in benches.ROLES}
    agents["builder"] |= builder
    return agents


def request_of(run: Running) -> str:
    """Wait for a request for leave; return its id."""
    run.until(r"approve|asks")
    (request,) = run.bench.events("system.approval_requested")
    return str(request["payload"]["approval_id"])


def test_an_acp_agent_goes_round_the_loop(tmp_path: Path):
    """It writes through us, is reviewed, changes, and is approved."""
    bench = Bench(tmp_path, agents=echoing())
    ended = bench.run("run", "--all")

    assert ended.code == 0, ended
    assert (tmp_path / "src" / "T-1.txt").read_text() == "more"
    assert [c["action"] for c in bench.commands()][:3] == ["implement", "review", "implement_changes"]
    assert (bench.findings(), gone_within(bench, 5)) == ([], [])


def test_an_acp_agent_that_is_not_allowed_fails_with_a_remedy(tmp_path: Path):
    """Under `workspace` nobody is asked whether a command may run."""
    bench = Bench(tmp_path, agents=echoing(env={"ECHO_KIND": "execute"}))
    ended = bench.run("run", "--all")

    assert ended.code == 1, ended
    assert bench.told_of("T-1").failure["code"] == "permission_denied"
    assert not (tmp_path / "src" / "T-1.txt").exists()


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_an_acp_agent_waits_for_a_person(tmp_path: Path, answer: str):
    """What is said at another terminal decides."""
    agents = echoing(env={"ECHO_KIND": "execute"}, permissions="ask")
    bench = Bench(tmp_path, agents=agents)
    run = bench.start("run", "--all")
    with stopping(run):
        asked = request_of(run)
        said = bench.run(answer, asked)
        if answer == "approve":
            run.until(r"implement_changes")
            again = _second_request(run, asked)
            bench.run(answer, again)
        ended = run.wait()

    assert said.code == 0, said
    assert ended.code == (0 if answer == "approve" else 1), ended
    assert (tmp_path / "src" / "T-1.txt").exists() == (answer == "approve")


def test_claude_waits_for_a_person(tmp_path: Path):
    """Its tool runs as soon as it is approved, in the same turn."""
    cli = CLIS["claude"]
    cli.skip_unless_installed()
    outside = tmp_path / "outside"
    bench_root = tmp_path / "w"
    with model_server(Model(cli, bench_root, slow=f"echo asked > {outside}")) as server:
        bench = Bench(bench_root)
        agents = settings(cli, server, bench_root, permissions="ask")
        for agent in agents.values():
            at = agent["cmd"].index("--permissions")
            del agent["cmd"][at : at + 2]
        bench.configure(lambda document: document["agents"].update(agents))
        run = bench.start("run", "--all")
        with stopping(run):
            asked = request_of(run)
            assert not outside.exists()
            said = bench.run("approve", asked)
            ended = run.wait()

    assert (said.code, ended.code) == (0, 0), (said, ended)
    assert outside.read_text() == "asked\n"


def _second_request(run: Running, first: str) -> str:
    while True:
        run.until(r"approve|asks")
        ids = [event["payload"]["approval_id"] for event in run.bench.events("system.approval_requested")]
        if ids[-1] != first:
            return str(ids[-1])
