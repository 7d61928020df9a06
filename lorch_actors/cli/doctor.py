"""`doctor`: is this machine, and this workspace, fit for a night's run."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lorch_actors.cli.documents import DoctorDocument, DoctorLine
from lorch_actors.cli.options import global_options, output, place
from lorch_actors.cli.output import one_line
from lorch_actors.errors import ExitCode, LorchError
from lorch_actors.protocol.messages import ROLES

if TYPE_CHECKING:
    from lorch_actors.cli.place import Place
    from lorch_actors.protocol.configuration import AgentSettings

FREE_MIN_BYTES: Final = 1 << 30
PYTHON_MIN: Final = (3, 11)
GIT_TIMEOUT_S: Final = 10.0
LEFTOVERS_SHOWN: Final = 5


@click.command("doctor")
@global_options
def doctor_command() -> int:
    """Check that this machine and workspace are fit for a run; exit 1 when something is wrong."""
    where = place()
    checks = [line for examine in _EXAMINATIONS for line in examine(where)]
    ok = all(line.ok is not False for line in checks)
    document = DoctorDocument(ok=ok, workspace=str(where.root), checks=checks)
    output().result(document, _text(document))
    return ExitCode.DONE if ok else ExitCode.FAILED


def _text(document: DoctorDocument) -> str:
    width = max(len(line.check) for line in document.checks)
    lines = []
    for line in document.checks:
        mark = {True: "ok", False: "wrong", None: "-"}[line.ok]
        lines.append(f"{mark:<6} {line.check:<{width}}  {one_line(line.found)}")
        lines += [f"{'':<6} {'':<{width}}  → {line.remedy}"] if line.ok is False else []
    return "\n".join([*lines, "", "Everything is fit for a run." if document.ok else "Something is wrong."])


def _note(check: str, found: str) -> DoctorLine:
    return DoctorLine(check=check, ok=None, found=found, remedy="")


def _judge(check: str, found: str, remedy: str, *, ok: bool) -> DoctorLine:
    return DoctorLine(check=check, ok=ok, found=found, remedy="" if ok else remedy)


def _python(_: "Place") -> list[DoctorLine]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info[:2] >= PYTHON_MIN
    return [_judge("python", f"{version}, {sys.executable}", "Use Python 3.11 or later.", ok=ok)]


def _linux(_: "Place") -> list[DoctorLine]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return [_judge("linux", f"no process handles: {error}", "Use Linux 5.4 or later.", ok=False)]
    return [_judge("linux", f"{os.uname().release}, process handles work", "Use Linux.", ok=sys.platform == "linux")]


def _git(where: "Place") -> list[DoctorLine]:
    import subprocess

    if shutil.which("git") is None:
        return [_note("git", "not found: tasks will not end as commits, and a failed task stops the run")]
    asked = ["git", "-C", str(where.root), "rev-parse", "--is-inside-work-tree"]
    try:
        inside = subprocess.run(asked, capture_output=True, timeout=GIT_TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired:
        found = f"does not answer within {GIT_TIMEOUT_S:.0f} s"
        return [_judge("git", found, "Run `git status` in the workspace yourself.", ok=False)]
    return [_note("git", f"the workspace is {'' if inside else 'not '}in a repository")]


def _configuration(where: "Place") -> list[DoctorLine]:
    from lorch_actors.cli.loading import load

    try:
        configuration, warnings = load(where)
    except LorchError as error:
        return [_judge("configuration", f"{error.where}: {error.what}", error.remedy, ok=False)]
    agents = configuration.agents
    roles = [role for role in ROLES if role != "orchestration" or (agents.of(role).enabled and agents.of(role).cmd)]
    head = _judge("configuration", f"{where.config}, {len(warnings)} warnings", "", ok=True)
    return [head, *(_agent(where, role, agents.of(role)) for role in roles)]


def _agent(where: "Place", role: str, agent: "AgentSettings") -> DoctorLine:
    if not agent.cmd:
        return _judge(role, "no command is set up", "`lorch init` sets agents up.", ok=False)
    path = agent.env.get("PATH", os.environ.get("PATH"))
    found = {
        program: shutil.which(str(where.root / program) if "/" in program else program, path=path)
        for program in (agent.cmd[0], *_programs_of_exec(agent.cmd))
    }
    missing = next((program for program, place in found.items() if place is None), None)
    if missing is not None:
        remedy = "Install it, make it executable, or correct the agent's cmd in lorch.json."
        return _judge(role, f"{missing!r} is not there or not executable", remedy, ok=False)
    return _judge(role, ", ".join(place for place in found.values() if place is not None), "", ok=True)


def _programs_of_exec(cmd: Sequence[str]) -> list[str]:
    """Return what one of our exec agents runs for its actions and as tests, as far as its command line says it."""
    found = []
    for flag, text in pairwise(cmd) if "exec" in cmd else ():
        if flag in {"--on", "--tests"}:
            with suppress(ValueError):  # the agent says what is wrong with it
                found += shlex.split(text.partition("=")[2] if flag == "--on" else text)[:1]
    return found


def _workspace(where: "Place") -> list[DoctorLine]:
    from lorch_actors.cli.views import size

    if not where.root.is_dir():
        remedy = "Create it, or name another --workspace."
        return [_judge("workspace", f"{where.root} is not a directory", remedy, ok=False)]
    writable = os.access(where.root, os.W_OK | os.X_OK)
    said = f"{where.root} is {'' if writable else 'not '}writable"
    free_bytes = shutil.disk_usage(where.root).free
    return [
        _judge("workspace", said, "Check owner and mode.", ok=writable),
        _judge("free space", size(free_bytes), "Make room: at least 1 GiB.", ok=free_bytes >= FREE_MIN_BYTES),
    ]


def _lock(where: "Place") -> list[DoctorLine]:
    from lorch_actors.cli.holder import find_holder

    holder = find_holder(where.workspace.lock)
    if holder is None:
        return [_note("lock", "free")]
    return [_note("lock", f"held by process {holder.pid}, run {holder.run_id or 'unknown'}")]


def _leftovers(where: "Place") -> list[DoctorLine]:
    """Tell unfinished writes and cut-off tails that earlier deaths left; they are harmless and worth knowing of."""
    from lorch_actors.storage.workspace import OWN_DIRECTORIES

    found: list[Path] = []
    for name in OWN_DIRECTORIES:
        for pattern in (".*.tmp.*", "*.torn-*"):
            found += (where.root / name).rglob(pattern)
    if not found:
        return [_note("leftovers", "none")]
    names = ", ".join(str(path.relative_to(where.root)) for path in sorted(found)[:LEFTOVERS_SHOWN])
    return [_note("leftovers", f"{len(found)} of earlier deaths, harmless: {names}")]


_EXAMINATIONS: Final[tuple[Callable[["Place"], list[DoctorLine]], ...]] = (
    _python,
    _linux,
    _git,
    _configuration,
    _workspace,
    _lock,
    _leftovers,
)
