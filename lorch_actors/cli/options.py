"""The options every command takes, before or after its name, and what they amount to."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from lorch_actors.cli.output import Output
from lorch_actors.cli.routing import locate

if TYPE_CHECKING:
    from pathlib import Path

    from lorch_actors.cli.place import Place

F = TypeVar("F", bound=Callable[..., Any])

_KEY: Final = "lorch_actors.settings"


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    # given before and after the command's name, the later one counts; a default never hides what was given
    if value:
        context.meta.setdefault(_KEY, {})[option.name] = value


def global_options(command: F) -> F:
    """Add the options every command takes; they are read back with `place`, `output` and `keep_alive`."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        (
            "--no-keep-alive",
            {"is_flag": True, "help": "When the orchestrator dies, end everything instead of resuming."},
        ),
        ("--verbose", {"is_flag": True, "help": "Say more."}),
        ("--quiet", {"is_flag": True, "help": "Say only what was asked for."}),
        ("--json", {"is_flag": True, "help": "Print the result as JSON on stdout, prose on stderr."}),
        ("--config", {"metavar": "FILE", "help": "The configuration; lorch.json in the workspace by default."}),
        ("--workspace", {"metavar": "DIR", "help": "The workspace; here by default."}),
    ]
    for name, settings in kinds:
        command = click.option(name, expose_value=False, callback=_remember, **settings)(command)
    return command


def _given(name: str) -> Any:
    return click.get_current_context().meta.get(_KEY, {}).get(name)


def given_workspace() -> "Path | None":
    """Return the directory that --workspace names, absolute; None when it was not given."""
    from pathlib import Path

    given = _given("workspace")
    return Path(os.path.abspath(given)) if given is not None else None


def place() -> "Place":
    """Return where the current command works."""
    from pathlib import Path

    from lorch_actors.cli.place import Place

    root, config = locate(_given("workspace"), _given("config"))
    return Place(Path(root), Path(config))


def output() -> Output:
    """Return how the current command prints."""
    return Output(json=bool(_given("json")), quiet=bool(_given("quiet")), verbose=bool(_given("verbose")))


def keep_alive() -> bool:
    """Tell whether the guardian resumes a run whose orchestrator died."""
    return not _given("no_keep_alive")
