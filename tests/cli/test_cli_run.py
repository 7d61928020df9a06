"""`run` and `resume` ask the orchestrator for exactly what was meant, or say what is missing before anything starts."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cli_driving import Outcome

from lorch_actors.actors.request import RunRequest
from lorch_actors.cli.app import orchestrate
from lorch_actors.errors import ExitCode


class Engine:
    """Stands in for the orchestrator: keeps the request, answers with `code`."""

    def __init__(self) -> None:
        self.request: RunRequest | None = None
        self.link: object = None
        self.code = 0

    def run(self, request: RunRequest, link: object) -> int:
        """Take a request as the orchestrator would."""
        self.request, self.link = request, link
        return self.code


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Replace the orchestrator."""
    stand_in, module = Engine(), ModuleType("lorch_actors.actors.orchestrator")
    module.run_orchestrator = stand_in.run
    monkeypatch.setitem(sys.modules, "lorch_actors.actors.orchestrator", module)
    return stand_in


@pytest.fixture
def run(workspace: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call `run` or `resume` as the guardian does."""

    def call(*argv: str) -> Outcome:
        code = orchestrate(argv, SimpleNamespace(name="link"))
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


def ids(engine: Engine) -> list[str]:
    """Return the tasks that were asked for."""
    assert engine.request is not None
    return [task.id for task in engine.request.tasks]


@pytest.mark.parametrize(
    ("argv", "chosen"),
    [
        (["run", "--all"], ["T-1", "T-2"]),
        (["run", "--task", "T-2"], ["T-2"]),
        (["--task", "T-2", "--task", "T-1", "--task", "T-2"], ["T-2", "T-1"]),
    ],
)
def test_tasks_are_run_in_the_order_they_are_named(
    run: Any, engine: Engine, configured: Path, argv: list, chosen: list
):
    """Each once."""
    assert run(*argv).code == ExitCode.DONE
    assert ids(engine) == chosen


def test_tasks_from_a_file(run: Any, engine: Engine, configured: Path, workspace: Path):
    """All of them, or those named."""
    (workspace / "more.ndjson").write_text('{"id": "X-1", "goal": "x"}\n\n{"id": "X-2", "goal": "y", "note": 1}\n')

    run("run", "--from", "more.ndjson")
    assert ids(engine) == ["X-1", "X-2"]
    run("run", "--from", "more.ndjson", "--task", "X-2")
    assert ids(engine) == ["X-2"]
    assert engine.request.tasks[0].inputs == {"goal": "y", "note": 1}


def test_the_request_carries_every_flag(run: Any, engine: Engine, configured: Path, workspace: Path):
    """And the link to the guardian is handed through."""
    run("--no-keep-alive", "run", "--all", "--new", "--on-failure", "stop", "--quiet", "--json", "--run-id", "r-1")

    request = engine.request
    assert (request.new, request.on_failure, request.run_id, request.resume) == (True, "stop", "r-1", False)
    assert (request.quiet, request.json, request.verbose, request.keep_alive) == (True, True, False, False)
    assert (request.workspace, request.config) == (workspace, configured)
    assert engine.link.name == "link"


def test_resume_carries_its_flags_and_needs_no_configuration(run: Any, engine: Engine, workspace: Path):
    """Tasks, policy and agents come from the ledger."""
    assert run("resume", "--run", "r-1", "--if-unfinished", "--retry-failed", "--strict-drift").code == ExitCode.DONE

    request = engine.request
    assert (request.resume, request.run_id, request.tasks) == (True, "r-1", ())
    assert (request.if_unfinished, request.retry_failed, request.strict_drift) == (True, True, True)


@pytest.mark.parametrize("code", [0, 1, 3, 5])
def test_the_exit_code_is_the_orchestrators(run: Any, engine: Engine, configured: Path, code: int):
    """Nothing in between changes it."""
    engine.code = code

    assert run("run", "--all").code == code


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["run"], "no task is named"),
        (["run", "--task", "T-3"], "there is no task 'T-3' (did you mean T-"),
        (["run", "--task", "../../escape"], "escape"),
        (["run", "--all", "--task", "T-1"], "--all and --task do not go together"),
        (["run", "--from", "missing"], "missing: there is no such file"),
        (["run", "--demo", "d", "--all"], "does not go with --all"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    run: Any, engine: Engine, configured: Path, argv: list[str], what: str
):
    """Exit code 2, nothing written."""
    before = sorted(path.name for path in configured.parent.iterdir())
    printed = run(*argv)

    assert printed.code == ExitCode.USAGE
    assert what in printed.err
    assert engine.request is None
    assert sorted(path.name for path in configured.parent.iterdir()) == before


def test_without_a_task_the_ways_to_name_one_are_told(run: Any, configured: Path):
    """With the tasks that there are."""
    printed = run("run")

    assert "`lorch run --task ID`, `--all` or `--from FILE`. Its tasks are: T-1, T-2." in printed.err


def test_without_a_configuration_the_set_up_is_explained(run: Any, engine: Engine, workspace: Path):
    """Exit code 2 names the command that writes one; `run` itself writes none."""
    printed = run("run", "--all")

    assert printed.code == ExitCode.USAGE
    assert f"{workspace / 'lorch.json'}: there is no configuration here" in printed.err
    assert "lorch init" in printed.err
    assert list(workspace.iterdir()) == []


def test_without_agents_the_set_up_is_explained(run: Any, engine: Engine, workspace: Path):
    """Exit code 2 names the command that makes agents of the user's own commands."""
    (workspace / "lorch.json").write_text('{"tasks": [{"id": "T-1", "goal": "g"}]}')
    printed = run("run", "--all")

    assert printed.code == ExitCode.USAGE
    assert "no command is set up for: builder, reviewer, spec_maintainer" in printed.err
    assert "lorch init" in printed.err


@pytest.mark.parametrize("command", [["run", "--all"], ["resume"]])
def test_a_ctrl_c_before_the_run_has_begun_is_an_interruption(
    run: Any, engine: Engine, configured: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    """Exit code 5 in a word, as later: nobody declined anything."""

    def interrupted(_request: RunRequest, _link: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["lorch_actors.actors.orchestrator"], "run_orchestrator", interrupted)
    printed = run(*command)

    assert printed.code == ExitCode.INTERRUPTED
    assert printed.err.startswith("lorch: stopped by Ctrl-C\n  `lorch resume` goes on")


def test_a_bad_configuration_is_refused_with_all_its_errors(run: Any, engine: Engine, workspace: Path):
    """Before any process is started."""
    (workspace / "lorch.json").write_text('{"policy": {"concurrency": 2, "parallel_reviews": true}}')
    printed = run("run", "--all")

    assert printed.code == ExitCode.USAGE
    assert "2 values are wrong" in printed.err
    assert engine.request is None


def test_warnings_about_the_configuration_are_told(run: Any, configured: Path):
    """They do not keep a run from starting."""
    document = json.loads(configured.read_text()) | {"polcy": {}}
    configured.write_text(json.dumps(document))
    printed = run("run", "--all")

    assert printed.code == ExitCode.DONE
    assert "$.polcy: is not a known key (did you mean policy?)" in printed.err


def test_a_workspace_that_is_not_there_is_a_usage_error(run: Any, engine: Engine, tmp_path: Path):
    """It is not made on the way."""
    assert run("run", "--all", "--workspace", str(tmp_path / "nowhere")).code == ExitCode.USAGE
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workspace_is_one_clear_message(run: Any, workspace: Path):
    """No traceback, nothing half-written."""
    workspace.chmod(0o500)
    printed = run("run", "--all")
    workspace.chmod(0o700)

    assert printed.code != ExitCode.DONE
    assert str(workspace) in printed.err


def test_the_demo_is_made_where_it_is_told_and_runs_all_its_tasks(run: Any, engine: Engine, tmp_path: Path):
    """The workspace of the run is the demo's."""
    there = tmp_path / "demo"

    assert run("run", "--demo", str(there)).code == ExitCode.DONE
    assert engine.request.workspace == engine.request.demo == there
    assert ids(engine) == ["T-1", "T-2", "T-3"]
