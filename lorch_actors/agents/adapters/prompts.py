"""What is said to a model: a template for each action, shipped with the package, each replaceable by the workspace.

``.lorch/prompts/<name>.md`` in the workspace takes the place of ours. ``$name`` is filled in (`string.Template`); a
name that is not known stays as it is, ``$$`` is a dollar sign.
"""

from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec

from lorch_actors.agents.exec_config import Argv
from lorch_actors.agents.outputs import shown
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.messages import Command

OVERRIDES: Final = ".lorch/prompts"
NAMES: Final = ("implement", "implement_changes", "review", "update_spec", "resumed", "invalid_verdict")
_TEMPLATE_MAX_BYTES: Final = 1 << 20
_LISTED_MAX: Final = 200
_ASKED: Final = frozenset({"goal", "request", "requested_by"})
"""Inputs that have a place of their own in the templates."""


def template(workspace: Path, name: str) -> str:
    """Return the template of that name: the workspace's own, or ours. Raises ConfigError for one that is no text."""
    own = workspace / OVERRIDES / f"{name}.md"
    try:
        with open(own, "rb") as file:
            return file.read(_TEMPLATE_MAX_BYTES).decode()
    except FileNotFoundError:
        return resources.files(__package__).joinpath("templates", f"{name}.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"is no readable text: {error}", where=str(own), remedy="Mend or remove it.") from error


def fill(workspace: Path, name: str, values: dict[str, str]) -> str:
    """Return the text of a template with its values."""
    return Template(template(workspace, name)).safe_substitute(values)


def values_of(command: Command, tracked: tuple[str, ...], tests: Argv | None) -> dict[str, str]:
    """Return what the templates may name, but for ``so_far``."""
    inputs = command.inputs
    return {
        "task_id": command.task_id,
        "goal": _text(inputs.get("goal")),
        "round": _text(inputs.get("round")),
        "request": _text(inputs.get("request")),
        "requested_by": _text(inputs.get("requested_by")),
        "inputs": _text({name: value for name, value in inputs.items() if name not in _ASKED}),
        "tracked": ", ".join(f"{directory}/" for directory in tracked),
        "tests": f"When you have ended, `{shown(tests)}` decides whether the work is right." if tests else "",
    }


def so_far(changed: list[str], removed: list[str]) -> str:
    """Say what is different in the tree from when the work of this command began; nothing if nothing is."""
    told = [f"- changed or new: {path}" for path in changed] + [f"- removed: {path}" for path in removed]
    if not told:
        return ""
    left_out = [f"- and {len(told) - _LISTED_MAX} more"] if len(told) > _LISTED_MAX else []
    return "\n".join(
        [
            "Work on this was begun before and broke off. Since then these files differ:",
            *told[:_LISTED_MAX],
            *left_out,
            "",
        ]
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
