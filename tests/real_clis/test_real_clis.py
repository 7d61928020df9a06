"""Whole runs with the released CLIs, against a model server on this machine that plays a script."""

import os
import signal
import threading
import time
from pathlib import Path

import bench as benches
import psutil
import pytest
from bench import Bench, gone_within
from dialects import Drop, Fail, Hang
from model_server import model_server
from real_cli import CLIS, Model, RealCli, settings, stopping

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(600)]


@pytest.fixture(params=sorted(CLIS))
def cli(request: pytest.FixtureRequest) -> RealCli:
    """Return each CLI that is installed."""
    found = CLIS[request.param]
    found.skip_unless_installed()
    return found


def test_files_are_written_tests_are_run_and_a_review_asks_for_changes_then_approves(cli: RealCli, tmp_path: Path):
    """The whole loop, with nothing of ours on the other side."""
    model = Model(cli, tmp_path, changes=frozenset({"T-1"}))
    with model_server(model) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        ended = bench.run("run", "--all")

    assert ended.code == 0, ended
    assert (tmp_path / "src" / "T-1.txt").read_text() == "more"
    assert bench.findings() == []
    told = bench.told_of("T-1")
    assert [payload["tests"]["summary"] for payload in told.events("builder.completed")] == [
        "sh -c 'cat src/*.txt' ended with exit code 0"
    ] * 2
    assert all(payload["usage"]["input_tokens"] > 0 for payload in told.events("builder.completed"))
    assert [c["action"] for c in told.commands] == ["implement", "review", "implement_changes", "review", "update_spec"]


def test_429_parks_the_command_and_goes_on(cli: RealCli, tmp_path: Path):
    """No attempt is used up, and the CLI does not wait by itself, unseen."""
    limit = Fail(429, "Rate limit reached", "rate_limit_error", {"retry-after": "3600"})
    with model_server(Model(cli, tmp_path, instead=[limit])) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        ended = bench.run("run", "--all")

    assert ended.code == 0, ended
    assert [payload["code"] for payload in bench.told_of("T-1").events("error")] == ["rate_limited"]
    assert [c["retry"]["attempt"] for c in bench.commands() if c["action"] == "implement"] == [0, 0]


def test_401_fails_the_task_with_a_remedy(cli: RealCli, tmp_path: Path):
    """At once: asking again would not help."""
    denied = Fail(401, "invalid x-api-key", "authentication_error")
    with model_server([denied]) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        ended = bench.run("run", "--all")

    assert ended.code == 1, ended
    failure = bench.told_of("T-1").failure
    assert (failure["code"], len(bench.commands())) == ("authentication_failed", 1)
    assert "Log in with the CLI, or set its key" in failure["message"]


def test_a_stream_that_always_breaks_off_is_no_success(cli: RealCli, tmp_path: Path):
    """The answer begins and never ends; another attempt may help, so it is one of the codes that allow it."""
    with model_server([Drop()]) as server:
        agents = settings(cli, server, tmp_path)
        bench = Bench(tmp_path, agents=agents, policy={"retry": {"max_attempts": 1}})
        ended = bench.run("run", "--all")

    assert ended.code == 1, ended
    assert bench.told_of("T-1").failure["code"] in {"overloaded", "cli_crashed"}


def test_500_is_tried_again(cli: RealCli, tmp_path: Path):
    """A provider that fails is no verdict on the task; when it goes on failing, the task fails and says why."""
    with model_server([Fail(500, "boom", "api_error")]) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path), policy={"retry": {"max_attempts": 2}})
        ended = bench.run("run", "--all")

    assert ended.code == 1, ended
    assert bench.told_of("T-1").failure["code"] == "overloaded"
    assert [attempt for _, attempt in bench.told_of("T-1").attempts] == [0, 1]


def test_a_hang_hits_the_deadline(cli: RealCli, tmp_path: Path):
    """The adapter ends it in time to say so itself, and nothing of it survives."""
    with model_server([Hang()]) as server:
        agents = settings(cli, server, tmp_path, timeouts_s={"implement": 12})
        bench = Bench(tmp_path, agents=agents, policy={"retry": {"max_attempts": 1}})
        ended = bench.run("run", "--all")

    assert ended.code == 1, ended
    assert bench.told_of("T-1").failure["code"] == "cli_hung"
    assert gone_within(bench, 5) == []


@pytest.mark.parametrize("victim", ["cli", "adapter", "orchestrator"])
def test_a_kill_in_the_middle_of_a_tool_costs_nothing(cli: RealCli, tmp_path: Path, victim: str):
    """Whoever dies: the session goes on, one effect is accepted, and no process survives, whatever session it is in."""
    slow = f"echo $$ > {tmp_path}/tool.pid; exec sleep 1000"
    with model_server(Model(cli, tmp_path, slow=slow)) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        run = bench.start("run", "--all")
        with stopping(run):
            run.until(r"\] implement \(task: T-1")
            tool = _pid_in(tmp_path / "tool.pid")
            os.kill(_victim(run, tool, victim), signal.SIGKILL)
            ended = run.wait()

    assert ended.code == 0, ended
    assert (tmp_path / "src" / "T-1.txt").read_text() == "done"
    assert (len(bench.events("builder.completed")), bench.findings()) == (1, [])
    assert not psutil.pid_exists(tool)
    assert gone_within(bench, 5) == []
    assert any("You were interrupted" in str(body) for body in server.requests)


def _victim(run: benches.Running, tool: int, victim: str) -> int:
    """Return the pid to kill: the CLI is the process above its tool whose parent is the adapter."""
    if victim == "orchestrator":
        return run.pid_of("orchestrator")
    adapter = run.pid_of("builder")
    if victim == "adapter":
        return adapter
    process = psutil.Process(tool)
    while process.ppid() != adapter:
        process = process.parent()
    return process.pid


def _pid_in(path: Path) -> int:
    """Wait until a pid stands in a file."""
    until_s = time.monotonic() + 200
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < until_s, "the tool was never run"
        threading.Event().wait(0.02)
    return int(path.read_text())
