"""`init` in a fresh git repository with one agent CLI on the PATH, then tasks: what a newcomer does."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from model_server import model_server
from real_cli import CLIS, Model, RealCli, echo_command

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(600)]
TESTS = "sh -c 'cat src/*.txt'"
NAMES = ("T-1", "T-2", "T-3")
FILES = [f"src/{name}.txt" for name in NAMES]


def git(root: Path, *arguments: str) -> str:
    """Run git there and return what it printed."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    argv = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def fresh(root: Path) -> Bench:
    """Return a repository that holds one empty commit."""
    bench = Bench.bare(root)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "commit", "--quiet", "--allow-empty", "--message=start")
    return bench


def only_on_path(cli: RealCli) -> str:
    """Return a PATH with this CLI on it, and none of the others that somebody may have installed."""
    others = [path for path in os.environ["PATH"].split(":") if not any((Path(path) / name).exists() for name in CLIS)]
    return ":".join([str(cli.program.parent), *others])


def with_tasks(document: dict[str, Any], flags: list[str]) -> None:
    """Add tasks, and to each agent what it has to be told of its provider."""
    document["tasks"] = [{"id": name, "goal": "leave a file"} for name in NAMES]
    for role in ("builder", "reviewer", "spec_maintainer"):
        document["agents"][role]["cmd"] += flags


def the_work_is_there(bench: Bench) -> None:
    """See to it that every promise is kept, and that the run's branch has the agent's files, a commit a task."""
    assert bench.findings() == []
    assert git(bench.root, "diff", "--name-only", "main").split() == FILES
    assert git(bench.root, "log", "--format=%(trailers:key=Lorch-Task,valueonly)", "main..").split() == [*NAMES][::-1]


@pytest.mark.parametrize("name", sorted(CLIS))
def test_init_in_a_fresh_repository_then_three_tasks(name: str, tmp_path: Path):
    """One CLI on the PATH, and where its provider is: no other set-up; nothing is allowed beyond the workspace."""
    cli = CLIS[name]
    cli.skip_unless_installed()
    bench = fresh(tmp_path / "w")
    with model_server(Model(cli, bench.root)) as server:
        env = {**cli.env(server.url), "PATH": only_on_path(cli), "HOME": str(tmp_path)}
        started = bench.run("init", "--tests", TESTS, env=env)
        bench.configure(lambda document: with_tasks(document, cli.provider(server.url)))
        ended = bench.run("run", "--all", env=env)

    assert (started.code, ended.code) == (0, 0), (started, ended)
    assert f"{name} builds" in started.out
    the_work_is_there(bench)


def test_init_with_an_acp_agent_then_three_tasks(tmp_path: Path):
    """Its command is all that has to be said."""
    command = echo_command()
    bench = fresh(tmp_path / "w")
    started = bench.run("init", "--acp", command, "--tests", TESTS)
    bench.configure(lambda document: with_tasks(document, []))
    ended = bench.run("run", "--all")

    assert (started.code, ended.code) == (0, 0), (started, ended)
    the_work_is_there(bench)
