"""The project that `run --demo` works on: small, real, and without any model.

A library lacks three functions that are specified and tested. Its agents are ordinary commands (``project/tools``):
one applies drafts, one runs the unit tests, one reviews by a real check that finds something once, one ticks the
status table. Everything is deterministic and needs neither network nor git.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from lorch_actors.errors import ConfigError

PROJECT: Final = Path(__file__).parent / "project"
GIT_TIMEOUT_S: Final = 30.0

TASKS: Final[tuple[dict[str, str], ...]] = (
    {
        "id": "T-1",
        "title": "Names for addresses",
        "goal": "Add slug() to src/textkit.py as specified",
        "function": "slug",
    },
    {"id": "T-2", "title": "Excerpts", "goal": "Add excerpt() to src/textkit.py as specified", "function": "excerpt"},
    {
        "id": "T-3",
        "title": "Word counts",
        "goal": "Add word_counts() to src/textkit.py as specified",
        "function": "word_counts",
    },
)

_OURS: Final = frozenset({"state"})
"""What may be there already: the guardian takes its lock before there is a project."""


def prepare_demo(directory: Path) -> None:
    """Write the project, its first commit (when git is there) and its ``lorch.json`` into a new or empty directory.

    Raises `ConfigError` when the directory holds anything, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = sorted(name for name in os.listdir(directory) if name not in _OURS)
        if taken:
            raise ConfigError(
                f"the directory for the demo is not empty: it holds {taken[0]!r}",
                where=str(directory),
                remedy="Name a new one: `lorch run --demo DIR`.",
            )
        _copy_project(directory)
        _first_commit(directory)
        # last, because a directory with a configuration counts as prepared
        _write_configuration(directory / "lorch.json")
    except OSError as error:
        raise ConfigError(
            f"the demo cannot be written: {error.strerror}",
            where=str(error.filename or directory),
            remedy="Name a directory that can be written: `lorch run --demo DIR`.",
        ) from error


def _copy_project(directory: Path) -> None:
    """Copy contents only: an installed package may be read-only, its copy must not be."""
    for found, directories, files in os.walk(PROJECT):
        directories[:] = [name for name in directories if name != "__pycache__"]
        target = directory / Path(found).relative_to(PROJECT)
        target.mkdir(exist_ok=True)
        for name in files:
            # in the package it has no dot, lest it rules over this repository
            shutil.copyfile(Path(found, name), target / name.replace("gitignore", ".gitignore"))


def configuration() -> dict[str, Any]:
    """Return the demo's ``lorch.json``."""
    tool = [sys.executable, "-B"]
    builder = _exec("builder", {"implement": [*tool, "tools/build.py"]}, tests=[*tool, "tools/check.py"])
    return {
        "version": "1.0",
        "agents": {
            "builder": builder,
            "reviewer": _exec("reviewer", {"review": [*tool, "tools/review.py"]}),
            "spec_maintainer": _exec("spec_maintainer", {"update_spec": [*tool, "tools/maintain.py"]}),
            "orchestration": {"enabled": False},
        },
        "tasks": list(TASKS),
    }


def _exec(role: str, on: dict[str, list[str]], *, tests: list[str] | None = None) -> dict[str, Any]:
    from shlex import join

    cmd = [sys.executable, "-m", "lorch_actors.agents", "exec", "--type", role]
    for action, argv in on.items():
        cmd += ["--on", f"{action}={join(argv)}"]
    cmd += ["--tests", join(tests)] if tests is not None else []
    # compiled files would be changes that nobody asked for
    return {"cmd": cmd, "env": {"PYTHONDONTWRITEBYTECODE": "1"}}


def _write_configuration(file: Path) -> None:
    """Write the file whole or not at all, for its owner's eyes as every file of ours."""
    draft = file.with_name(f".{file.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as opened:
        opened.write(json.dumps(configuration(), indent=2, ensure_ascii=False) + "\n")
    draft.replace(file)


def _first_commit(directory: Path) -> None:
    """Make a repository with one commit, if there is a git that can; without one the demo runs all the same.

    Nothing of the user's git is used: a signing key, a template or a hook of theirs would stand in the way.
    """
    import subprocess

    if shutil.which("git") is None:
        return
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    names = [name for name in sorted(os.listdir(directory)) if name not in _OURS and name != ".git"]
    steps = (
        ["init", "--quiet", "--template=", "--initial-branch=main"],
        ["config", "user.name", "lorch demo"],
        ["config", "user.email", "demo@lorch.invalid"],
        ["add", "--", *names],
        ["commit", "--quiet", "--message", "A small library, three functions short"],
    )
    for step in steps:
        try:
            done = subprocess.run(
                ["git", "-C", str(directory), *step],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=GIT_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            done = None
        if done is None or done.returncode != 0:
            # half a repository would be taken for the user's own
            shutil.rmtree(directory / ".git", ignore_errors=True)
            return
