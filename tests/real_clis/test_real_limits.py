"""What released CLIs make of limits that others set them: usage limits, a budget in money, a sandbox."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench import Bench, gone_within
from dialects import Fail
from model_server import model_server
from real_cli import CLIS, Model, RealCli, settings, stopping

from lorch_actors.protocol.times import from_timestamp

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(600)]

QUOTA = "You exceeded your current quota, please check your plan and billing details."
FAR_S = 7200


def of_codex() -> Fail:
    """Return what a subscription that is used up is told, with the time at which it is whole again."""
    more = {"plan_type": "plus", "resets_at": int(time.time()) + FAR_S}
    return Fail(429, "The usage limit has been reached", "usage_limit_reached", more=more)


def of_gemini() -> Fail:
    """Return what a daily quota that is used up is told."""
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaMetric": "requests"}
    return Fail(429, QUOTA, "RESOURCE_EXHAUSTED", more={"details": [{"@type": kind, "violations": [violation]}]})


USED_UP: dict[str, Callable[[], Fail]] = {
    "codex": of_codex,
    "gemini": of_gemini,
    "opencode": lambda: Fail(429, QUOTA, "insufficient_quota"),
}


@pytest.mark.parametrize("name", sorted(USED_UP))
def test_a_usage_limit_parks_the_command_and_is_no_rate_limit(name: str, tmp_path: Path):
    """Nobody asks again in half a minute; where it is told when it ends, that is waited for; a stop is resumable."""
    cli = CLIS[name]
    cli.skip_unless_installed()
    with model_server([USED_UP[name]()]) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        run = bench.start("run", "--all")
        with stopping(run):
            run.until(r"builder waits, the account \S+ is limited until \S+: usage_limited")
            run.process.send_signal(signal.SIGTERM)
            ended = run.wait()

    (told,) = bench.told_of("T-1").events("error")
    assert (ended.code, told["code"], len(bench.commands())) == (5, "usage_limited", 1), ended
    assert ("resets_at" in told) == (name == "codex")
    assert gone_within(bench, 5) == []


def test_a_five_hour_limit_of_claude_is_waited_for_until_its_reset(tmp_path: Path):
    """It is told in the headers that a subscription gets; the CLI makes an event of them, we wait, and it goes on."""
    found = CLIS["claude"]
    found.skip_unless_installed()
    cli = replace(found, env=lambda url: {"ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-fake"})
    model = Model(cli, tmp_path)
    resets_at_s = 0

    def limit_once(number: int, body: object) -> object:
        nonlocal resets_at_s
        if number > 0 and time.time() >= resets_at_s:
            return model(number, body)
        resets_at_s = resets_at_s or int(time.time()) + 15
        unified = "anthropic-ratelimit-unified"
        headers = {
            f"{unified}-status": "rejected",
            f"{unified}-reset": str(resets_at_s),
            f"{unified}-representative-claim": "five_hour",
            f"{unified}-5h-status": "rejected",
        }
        return Fail(429, "This request would exceed your account's rate limit.", "rate_limit_error", headers)

    with model_server(limit_once) as server:
        ended = (bench := Bench(tmp_path, agents=settings(cli, server, tmp_path))).run("run", "--all")

    (told,) = bench.told_of("T-1").events("error")
    assert (ended.code, told["code"], from_timestamp(told["resets_at"])) == (0, "usage_limited", resets_at_s * 1000)
    assert (tmp_path / "src" / "T-1.txt").read_text() == "done"


def test_claude_keeps_to_the_budget_of_the_run(tmp_path: Path):
    """It is told what is left and stops by itself; the run stops too, resumable, and more money completes it."""
    cli = CLIS["claude"]
    cli.skip_unless_installed()
    with model_server(Model(cli, tmp_path)) as server:
        bench = Bench(tmp_path, agents=settings(cli, server, tmp_path))
        stopped = bench.run("run", "--all", "--budget", "usd=0.0001")
        asked = len(server.requests)
        ended = bench.run("resume", "--budget", "usd=10")

    (told,) = bench.told_of("T-1").events("error")
    assert (stopped.code, told["code"], asked) == (5, "over_budget", 1), stopped
    assert "the budget of the run is used up" in stopped.out
    assert (ended.code, bench.findings()) == (0, []), ended


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Make a directory that no sandbox lends out as temporary files are: not below /tmp."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


def working_beside(cli: RealCli, root: Path, target: Path) -> tuple[Bench, str]:
    """Have a builder under `workspace` write to a place beside the workspace, then do its work."""
    with model_server(Model(cli, root, slow=f"echo no > {target}")) as server:
        bench = Bench(root)
        agents = settings(cli, server, root)
        for agent in agents.values():
            at = agent["cmd"].index("--permissions")
            del agent["cmd"][at : at + 2]
        bench.configure(lambda document: document["agents"].update(agents))
        ended = bench.run("run", "--all")
        return bench, f"{ended}{server.requests}"


@pytest.mark.parametrize("name", sorted(CLIS))
def test_under_workspace_nothing_is_written_beside_the_workspace(name: str, tmp_path: Path, elsewhere: Path):
    """Whatever keeps it from that, a sandbox or a denial: the agent finds its way and the work is done."""
    cli = CLIS[name]
    cli.skip_unless_installed()
    target = elsewhere / "target"
    bench, seen = working_beside(cli, tmp_path / "w", target)

    assert not target.exists(), seen
    assert (bench.root / "src" / "T-1.txt").read_text() == "done", seen
    assert (bench.told_of("T-1").failure, bench.findings()) == (None, [])
