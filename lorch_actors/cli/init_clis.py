"""What `init` finds by itself: installed agent CLIs, the command that runs the tests, the directories with the work."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lorch_actors.cli.loading import default_document
from lorch_actors.storage.workspace import OWN_DIRECTORIES

AGENT_CLIS: Final[Mapping[str, str]] = {name: name for name in ("claude", "codex", "gemini", "opencode")}
"""The adapters whose program can be looked for, the first found being the choice; ACP agents have to be named."""

_TIMEOUTS_S: Final = {
    "builder": {"implement": 3600, "implement_changes": 3600},
    "reviewer": {"review": 1800},
    "spec_maintainer": {"update_spec": 1800},
}
"""A model needs longer than an ordinary command."""

_NOT_THE_WORK: Final = frozenset({"node_modules", "__pycache__", "venv", "env", "build", "dist", "target", "vendor"})
_HEAD_BYTES: Final = 1 << 20


def installed_clis() -> list[str]:
    """Return the adapters whose CLI is on the PATH."""
    return [name for name, program in AGENT_CLIS.items() if shutil.which(program)]


def cli_agents(name: str, tests: str | None, include: list[str], behind: Sequence[str] = ()) -> dict[str, Any]:
    """Return the agents of lorch.json that have this CLI do the work.

    include: the tracked directories. behind: what stands after ``--``.
    """
    agents: dict[str, Any] = {}
    places = [] if include == _default_include() else [word for each in include for word in ("--include", each)]
    for role, timeouts_s in _TIMEOUTS_S.items():
        own = ["--tests", tests] if tests and role == "builder" else []
        cmd = [sys.executable, "-m", "lorch_actors.agents", name, "--type", role, *own, *places]
        cmd += ["--", *behind] if behind else []
        agents[role] = {"cmd": cmd, "timeouts_s": timeouts_s}
    return {**agents, "orchestration": {"enabled": False, "cmd": []}}


def work_directories(root: Path) -> list[str]:
    """Return the directories that snapshots have to track: the default ones, and what else lies in the workspace."""
    known = _default_include()
    with os.scandir(root) as entries:
        found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    foreign = {*known, *OWN_DIRECTORIES, *_NOT_THE_WORK}
    return known + [name for name in found if not name.startswith(".") and name not in foreign]


def likely_tests(root: Path) -> str | None:
    """Return the command that most likely runs the tests here, or None."""
    if re.search(r"^test\s*:", _head(root / "Makefile"), re.MULTILINE):
        return "make test"
    if re.search(r'"test"\s*:\s*"(?!echo \\"Error)', _head(root / "package.json")):
        return "npm test"
    if (root / "Cargo.toml").is_file():
        return "cargo test"
    if (root / "go.mod").is_file():
        return "go test ./..."
    python = any((root / name).is_file() for name in ("pyproject.toml", "setup.py", "pytest.ini", "tox.ini"))
    return "python -m pytest" if python and (root / "tests").is_dir() else None


def _default_include() -> list[str]:
    found: list[str] = default_document()["snapshot"]["include"]
    return list(found)


def _head(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:  # not there, or not for us to read: then it says nothing
        return ""
