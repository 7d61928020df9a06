"""`run` and `resume`: from the command line to a request, and from the final state of the run to its report."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from lorch_actors.actors.request import RunRequest
from lorch_actors.cli.budget import KEYS, amounts, with_budget
from lorch_actors.cli.options import global_options, keep_alive, output, place
from lorch_actors.cli.routing import free_demo_directory
from lorch_actors.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from lorch_actors.cli.output import Output
    from lorch_actors.cli.place import Place
    from lorch_actors.protocol.configuration import Configuration
    from lorch_actors.protocol.tasks import TaskSettings
    from lorch_actors.workflow.state import Run

TASKS_SHOWN = 20
"""How many task ids a message lists."""


@click.command("run")
@click.option("--task", "task_ids", multiple=True, metavar="ID", help="Run this task; repeat for several, in order.")
@click.option("--all", "all_tasks", is_flag=True, help="Run every task of lorch.json (or of --from).")
@click.option("--from", "from_file", metavar="FILE", help="Take the tasks from a file, one JSON object a line.")
@click.option("--demo", is_flag=False, flag_value="", metavar="[DIR]", help="Make a small real project and run it.")
@click.option("--new", is_flag=True, help="Start anew although an unfinished run exists.")
@click.option("--on-failure", type=click.Choice(["continue", "stop"]), help="What to do after a failed task.")
@click.option(
    "--budget",
    "budget",
    multiple=True,
    metavar="KEY=AMOUNT",
    help=f"Spend no more than this: {', '.join(KEYS)}.",
)
@click.option("--run-id", hidden=True)
@global_options
@click.pass_obj
def run_command(link: Any, /, demo: str | None, run_id: str | None, **options: Any) -> int:
    """Run tasks in order, each until it is done or explained.

    Exit codes: 0 done, 1 a task failed, 2 wrong usage or configuration, 3 the workspace is in use, 4 declined,
    5 interrupted (`lorch resume` goes on).
    """
    where = place()
    if demo is not None:
        _refuse_beside_demo(options)
        where = _demo_place(demo)
    request = _request(where, demo=where.root if demo is not None else None, run_id=run_id, **options)
    return _carry_out(request, link)


@click.command("resume")
@click.option("--run", "run_id", metavar="RUN", help="Which run; the newest unfinished one by default.")
@click.option("--if-unfinished", is_flag=True, help="Say nothing when there is nothing to resume (for cron).")
@click.option("--retry-failed", is_flag=True, help="Do the failed tasks of a finished run anew.")
@click.option(
    "--budget", "budget", multiple=True, metavar="KEY=AMOUNT", help="From now on spend up to this; none is no limit."
)
@click.option("--no-wait", is_flag=True, help="Forget the limits that are waited for: they are gone.")
@click.option("--strict-drift", is_flag=True, help="Refuse when tracked files changed without any step having said so.")
@global_options
@click.pass_obj
def resume_command(link: Any, /, budget: tuple[str, ...], **options: Any) -> int:
    """Continue an interrupted run with the exact next step.

    Tasks, policy and agents are those the run was started with; values of environment variables come from lorch.json.
    """
    from lorch_actors.cli.loading import load_or_default

    where = place()
    configuration, _ = load_or_default(where)
    request = _with_output(
        RunRequest(
            workspace=where.root,
            config=where.config,
            configuration=configuration,
            resume=True,
            budget=amounts(budget),
            **options,
        )
    )
    return _carry_out(request, link)


def _carry_out(request: RunRequest, link: Any) -> int:
    from lorch_actors.actors.orchestrator import run_orchestrator

    return int(run_orchestrator(request, link))


def _refuse_beside_demo(options: dict[str, Any]) -> None:
    beside = [
        name for name, key in (("--task", "task_ids"), ("--all", "all_tasks"), ("--from", "from_file")) if options[key]
    ]
    if beside:
        raise UsageError(
            f"--demo brings its own tasks and does not go with {beside[0]}", remedy="Leave one of them out."
        )


def _demo_place(demo: str) -> "Place":
    """Return the workspace of the demo; it is made here unless the guardian has made it already."""
    from lorch_actors.cli.place import Place
    from lorch_actors.demo import prepare_demo

    root = Path(os.path.abspath(demo) if demo else free_demo_directory(os.getcwd()))
    if not (root / "lorch.json").exists():
        prepare_demo(root)
    return Place(root, root / "lorch.json")


def _request(where: "Place", *, demo: Path | None, **options: Any) -> RunRequest:
    from lorch_actors.cli.loading import load

    if not where.root.is_dir():
        raise UsageError(
            "the workspace is not a directory", where=str(where.root), remedy="Create it, or name another."
        )
    configuration, warnings = load(where)
    words = options.pop("budget")
    configured_budget = configuration.policy.budget if words else None
    configuration = with_budget(configuration, words)
    from_file = Path(os.path.abspath(options.pop("from_file"))) if options["from_file"] else options.pop("from_file")
    tasks = choose_tasks(
        configuration,
        options["task_ids"],
        from_file,
        where=str(where.config),
        every=options["all_tasks"] or demo is not None,
    )
    _require_agents(configuration, where)
    request = RunRequest(
        workspace=where.root,
        config=where.config,
        configuration=configuration,
        configured_budget=configured_budget,
        tasks=tasks,
        from_file=from_file,
        demo=demo,
        **options,
    )
    for warning in warnings:
        output().warn(f"{where.config}: {warning}")
    return _with_output(request)


def choose_tasks(
    configuration: "Configuration", task_ids: tuple[str, ...], from_file: Path | None, *, where: str, every: bool
) -> tuple["TaskSettings", ...]:
    """Return the tasks that are to run, in order. Raises `UsageError` when none or an unknown one is named."""
    if every and task_ids:
        raise UsageError("--all and --task do not go together", remedy="Leave one of them out.")
    tasks = configuration.tasks
    if from_file is not None:
        from lorch_actors.cli.loading import read_bytes
        from lorch_actors.protocol.tasks import parse_tasks

        content = read_bytes(from_file, "there is no such file", "Name a file with one task a line, as JSON.")
        tasks, where = parse_tasks(content, str(from_file)), str(from_file)
    known = {task.id: task for task in tasks}
    if task_ids:
        return tuple(_named(known, task_id, where) for task_id in dict.fromkeys(task_ids))
    if not every and from_file is None:
        raise UsageError("no task is named", where=where, remedy=_how_to_name(list(known)))
    if not tasks:
        raise UsageError("there are no tasks", where=where, remedy='Add some: "tasks": [{"id": "T-1", "goal": "…"}]')
    return tasks


def _named(known: dict[str, "TaskSettings"], task_id: str, where: str) -> "TaskSettings":
    if task_id in known:
        return known[task_id]
    from lorch_actors.protocol.checking import did_you_mean
    from lorch_actors.protocol.ids import check_task_id

    check_task_id(task_id)
    what = f"there is no task {task_id!r}{did_you_mean(task_id, list(known))}"
    raise UsageError(what, where=where, remedy=_listed(list(known)))


def _how_to_name(known: list[str]) -> str:
    return f"Name it with `lorch run --task ID`, `--all` or `--from FILE`. {_listed(known)}"


def _listed(known: list[str]) -> str:
    if not known:
        return 'It has no tasks yet; add some: "tasks": [{"id": "T-1", "goal": "…"}]'
    more = f" and {len(known) - TASKS_SHOWN} more" if len(known) > TASKS_SHOWN else ""
    return f"Its tasks are: {', '.join(known[:TASKS_SHOWN])}{more}."


def _require_agents(configuration: "Configuration", where: "Place") -> None:
    missing = configuration.missing_agents()
    if missing:
        raise ConfigError(
            f"no command is set up for: {', '.join(missing)}",
            where=f"{where.config}, $.agents",
            remedy="`lorch init --build CMD` makes them of your own commands; `lorch run --demo` shows some at work.",
        )
    disabled = configuration.disabled_agents()
    if disabled:
        raise ConfigError(
            f"the loop needs {', '.join(disabled)}, which the configuration disables",
            where=f"{where.config}, $.agents",
            remedy=f"Set agents.{disabled[0]}.enabled to true.",
        )


def _with_output(request: RunRequest) -> RunRequest:
    to = output()
    return replace(
        request,
        json=to.json,
        quiet=to.quiet,
        verbose=to.verbose,
        keep_alive=keep_alive(),
        closing=_closing(to, request.workspace),
    )


def _closing(to: "Output", workspace: Path) -> Callable[["Run", int], None]:
    here = workspace == Path.cwd()

    def closing(run: "Run", code: int) -> None:
        from lorch_actors.cli.report import report, report_text

        document = report(run, code, str(workspace), here=here)
        to.result(document, "" if to.quiet else f"\n{report_text(document)}")

    return closing
