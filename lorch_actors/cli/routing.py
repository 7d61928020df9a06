"""Read just enough of a command line to know who handles it and which workspace it means.

The guardian needs this before anything else is loaded, so this module is standard library only. It promises to agree
with the click definitions in `app`, which judge everything else, and never to raise on a wrong command line: what it
does not understand is left to click to explain.
"""

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

COMMANDS: Final = {
    "run": "Run tasks in order, each until it is done or explained.",
    "resume": "Continue an interrupted run.",
    "status": "Show where a run stands.",
    "runs": "List every run of this workspace.",
    "approve": "Allow what an agent asks leave for.",
    "deny": "Deny what an agent asks leave for.",
    "show": "Show a run's steps, receipts and artifacts.",
    "transcript": "Print what the console of a run showed.",
    "snapshot": "Capture the tracked files now.",
    "verify": "Check every promise against the files.",
    "rebuild": "Write the projections again from the ledger.",
    "init": "Set up a workspace: write lorch.json.",
    "config": "Read and change lorch.json.",
    "validate": "Check lorch.json and tell everything that is wrong.",
    "doctor": "Check that this machine and workspace are fit for a run.",
    "mockagent": "Play a scripted agent.",
    "chaos": "Run a workload under random kills and check every promise.",
}
"""Every command with its one line of help, in the order `--help` lists them."""

ORCHESTRATED: Final = ("run", "resume")
"""The commands that consist of a guardian and an orchestrator."""

VALUE_OPTIONS: Final = ("--workspace", "--config")
FLAGS: Final = ("--json", "--quiet", "--verbose", "--no-keep-alive")
DEMO_DIRECTORY: Final = "lorch-demo"
DEMO_DIRECTORIES_MAX: Final = 100

_RUN_VALUE_OPTIONS: Final = ("--task", "--from", "--on-failure", "--run", "--run-id")


class Route(NamedTuple):
    """What a command line asks for.

    command: the subcommand, or "" when help or the version is asked for. argv: the command line with the subcommand
    filled in. orchestrated: whether guardian and orchestrator handle it. demo: the directory to make the demo in.
    """

    command: str
    argv: tuple[str, ...]
    orchestrated: bool
    workspace: str | None
    config: str | None
    keep_alive: bool
    demo: str | None


def route(argv: Sequence[str]) -> Route:
    """Tell what the command line asks for; argv is without the program's name."""
    command, filled = _with_command(list(argv))
    helping = not command or "--help" in filled
    values = {name: _last_value(filled, name) for name in VALUE_OPTIONS}
    return Route(
        command=command,
        argv=tuple(filled),
        orchestrated=command in ORCHESTRATED and not helping,
        workspace=values["--workspace"],
        config=values["--config"],
        keep_alive="--no-keep-alive" not in filled,
        demo=_demo_directory(filled) if command == "run" and not helping else None,
    )


def _with_command(argv: list[str]) -> tuple[str, list[str]]:
    """Return the subcommand and the command line that names it; without a subcommand, `run` is meant."""
    at = 0
    while at < len(argv):
        word = argv[at]
        if word in {"--help", "--version"}:
            return "", argv
        if word in VALUE_OPTIONS:
            if at + 1 == len(argv):
                break  # its value is missing: click says so
            at += 2
        elif word in FLAGS or word.startswith(tuple(f"{name}=" for name in VALUE_OPTIONS)):
            at += 1
        elif word.startswith("-"):
            break
        else:
            return word, argv
    return "run", [*argv[:at], "run", *argv[at:]]


def _last_value(argv: list[str], name: str) -> str | None:
    found = None
    for at, word in enumerate(argv):
        if word.startswith(f"{name}="):
            found = word.partition("=")[2]
        elif word == name and at + 1 < len(argv):
            found = argv[at + 1]
    return found


def _demo_directory(argv: list[str]) -> str | None:
    """Return the directory of `--demo [DIR]`: the one named, or the first free default name here."""
    for at, word in enumerate(argv):
        if word.startswith("--demo="):
            return os.path.abspath(word.partition("=")[2])
        if word == "--demo" and (at == 0 or argv[at - 1] not in (*VALUE_OPTIONS, *_RUN_VALUE_OPTIONS)):
            named = argv[at + 1] if at + 1 < len(argv) and not argv[at + 1].startswith("-") else None
            return os.path.abspath(named) if named is not None else free_demo_directory(os.getcwd())
    return None


def free_demo_directory(parent: str) -> str:
    """Return `lorch-demo` below the parent, or with a number when that is taken."""
    names = [DEMO_DIRECTORY, *(f"{DEMO_DIRECTORY}-{number}" for number in range(2, DEMO_DIRECTORIES_MAX))]
    return next(
        (path for name in names if not os.path.exists(path := os.path.join(parent, name))),
        os.path.join(parent, DEMO_DIRECTORY),
    )


def locate(workspace: str | None, config: str | None) -> tuple[str, str]:
    """Return the workspace root and the configuration file, both absolute; neither need exist.

    The file is --config, or lorch.json in --workspace or here. The root is --workspace, or what the file says under
    ``workspace_root``, read from the directory the file is in. A file that cannot be read says nothing here.
    """
    file = os.path.abspath(config if config is not None else os.path.join(workspace or ".", "lorch.json"))
    if workspace is not None:
        return os.path.abspath(workspace), file
    return os.path.abspath(os.path.join(os.path.dirname(file), _said_root(file) or ".")), file


def _said_root(file: str) -> str | None:
    try:
        with open(file, "rb") as opened:
            content = opened.read()
    except (OSError, ValueError):
        return None
    if b"workspace_root" not in content and b"\\u" not in content:  # of most files nothing else has to be understood
        return None
    import json

    try:
        said = json.loads(content)["workspace_root"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if isinstance(said, str) and "\0" not in said else None
