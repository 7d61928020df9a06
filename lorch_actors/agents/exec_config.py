"""What an exec agent runs for which action: from flags, or from a file.

A file is ``{"commands": {"<action>": [argv…]}, "tests": [argv…], "timeout_s": s, "include": [dir…], "exclude":
[pattern…]}``, all optional; a command may also be one string, split as a POSIX shell splits words. Flags go before
the file. No shell is involved unless the command names one.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from lorch_actors.errors import ConfigError
from lorch_actors.protocol.messages import Action

_SIZE_MAX_BYTES: Final = 1 << 20
_TRACKED: Final = ("specs", "src", "tests", "docs")

Argv = tuple[str, ...]


class ExecConfig(Struct, frozen=True):
    """commands: what to run for an action. tests: what decides a builder's result. timeout_s: for each command."""

    commands: dict[Action, Argv] = field(default_factory=dict)
    tests: Argv | None = None
    timeout_s: float | None = None
    include: tuple[str, ...] = _TRACKED
    exclude: tuple[str, ...] = ()

    def command(self, action: Action) -> Argv | None:
        """Return what to run; changes are implemented by the command that implements, unless they have their own."""
        if action is Action.IMPLEMENT_CHANGES and action not in self.commands:
            action = Action.IMPLEMENT
        return self.commands.get(action)


def configure(
    file: Path | None, on: Sequence[str], tests: str | None, timeout_s: float | None, include: Sequence[str]
) -> ExecConfig:
    """Put file and flags together. on: ``ACTION=COMMAND``. Raises ConfigError with everything that is wrong."""
    problems: list[str] = []
    document = _load(file) if file else {}
    unknown = document.keys() - {"commands", "tests", "timeout_s", "include", "exclude", "comment"}
    problems += [f"$.{name}: unknown" for name in sorted(unknown)]
    commands = _commands(document.get("commands", {}), on, problems)
    given = ExecConfig(
        commands=commands,
        tests=_argv(tests or document.get("tests"), "--tests" if tests else "$.tests", problems),
        timeout_s=timeout_s or _timeout_s(document.get("timeout_s"), problems),
        include=tuple(include) or _strings(document.get("include", list(_TRACKED)), "$.include", problems),
        exclude=_strings(document.get("exclude", []), "$.exclude", problems),
    )
    if problems:
        raise ConfigError(
            "the exec agent is not configured right:\n" + "\n".join(f"  {p}" for p in problems),
            where=str(file) if file else "command line",
            remedy="For example: --on implement='make build' --tests 'make test'.",
        )
    return given


def words(command: str, flag: str) -> Argv:
    """Return a command's words, split as a POSIX shell splits them; raise ConfigError if it is none."""
    problems: list[str] = []
    found = _argv(command, flag, problems)
    if found is None:
        raise ConfigError("; ".join(problems), where="command line", remedy="Quote it as in a shell.")
    return found


def _load(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            data = opened.read(_SIZE_MAX_BYTES)
        document = json.loads(data)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), remedy="Check --config.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not JSON: {error}", where=str(file), remedy="Mend it there.") from error
    if not isinstance(document, dict):
        raise ConfigError("is not an object", where=str(file), remedy='Write {"commands": {…}}.')
    return document


def _commands(given: Any, on: Sequence[str], problems: list[str]) -> dict[Action, Argv]:
    named: list[tuple[str, str, Any]] = []
    if isinstance(given, Mapping):
        named += [(action, f"$.commands.{action}", command) for action, command in given.items()]
    else:
        problems.append("$.commands: is not an object")
    named += [(action, f"--on {action}", command) for action, _, command in (text.partition("=") for text in on)]
    commands: dict[Action, Argv] = {}
    for action, place, command in named:
        argv = _argv(command, place, problems, is_needed=True)
        if action not in list(Action):
            problems.append(f"{place}: {action!r} is no action; allowed are {', '.join(Action)}")
        elif argv is not None:
            commands[Action(action)] = argv
    return commands


def _argv(given: Any, place: str, problems: list[str], *, is_needed: bool = False) -> Argv | None:
    if given is None and not is_needed:
        return None
    try:
        words = shlex.split(given) if isinstance(given, str) else given
    except ValueError as error:
        problems.append(f"{place}: {error}")
        return None
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) and "\0" not in word for word in words)
    ):
        problems.append(f"{place}: {given!r} is no command: it has to be words, as one string or as a list of strings")
        return None
    return tuple(words)


def _timeout_s(given: Any, problems: list[str]) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        problems.append(f"$.timeout_s: {given!r} is not a number of seconds over 0")
        return None
    return float(given)


def _strings(given: Any, place: str, problems: list[str]) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(word, str) for word in given):
        return tuple(given)
    problems.append(f"{place}: {given!r} is not a list of strings")
    return ()
