"""What `run` and `resume` ask of the orchestrator: a frozen value, so that it can be logged, compared and passed on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    from lorch_actors.protocol.configuration import Budget, Configuration
    from lorch_actors.protocol.tasks import TaskSettings


class RunRequest(Struct, frozen=True):
    """One call of `run` or `resume`.

    tasks: what to run, in order, chosen and checked; empty on resume. task_ids, all_tasks, from_file, demo: how they
    were chosen. run_id: given by the guardian for a new run, by the user on resume, None for the newest unfinished one.
    on_failure: None when the user leaves it to the workspace. no_wait: forget the limits of accounts. budget: what to
    change of the budget, by dotted key (``task.usd``); None lifts a limit. configured_budget: what lorch.json says,
    where a new run has another one. closing: to be called once with the final state of the run (`workflow.state.Run`)
    and the exit code; it prints the report.
    """

    workspace: Path
    config: Path
    configuration: "Configuration"
    tasks: tuple["TaskSettings", ...] = ()
    run_id: str | None = None
    resume: bool = False
    task_ids: tuple[str, ...] = ()
    all_tasks: bool = False
    from_file: Path | None = None
    demo: Path | None = None
    new: bool = False
    on_failure: str | None = None
    if_unfinished: bool = False
    retry_failed: bool = False
    strict_drift: bool = False
    no_wait: bool = False
    budget: Mapping[str, float | None] = field(default_factory=dict)
    configured_budget: "Budget | None" = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    keep_alive: bool = True
    closing: Callable[[Any, int], None] = field(default=lambda _run, _code: None)
