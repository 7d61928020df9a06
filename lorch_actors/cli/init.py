"""`init`: write a ``lorch.json`` whose agents are the user's own commands, or scripted ones to try the loop with."""

import sys
from typing import Any, Final

import click
import msgspec

from lorch_actors.cli.loading import default_document, load, read_bytes, write
from lorch_actors.cli.options import Place, global_options, output, place
from lorch_actors.errors import ConfigError, UsageError
from lorch_actors.protocol.messages import ROLES

NO_CHECK: Final = "true"
"""The command of a reviewer or spec maintainer that was not given one: it approves everything."""


@click.command("init")
@click.option("--build", metavar="CMD", help="What implements a task; it finds the task in LORCH_GOAL, LORCH_INPUTS …")
@click.option("--tests", metavar="CMD", help="What decides whether the work is right.")
@click.option("--review", metavar="CMD", help="What reviews it: exit code 0 approves, any other asks for changes.")
@click.option("--spec", metavar="CMD", help="What brings the specification up to date.")
@click.option("--exec", "exec_agents", is_flag=True, help="Make agents of the commands given here (the default).")
@click.option("--mock", is_flag=True, help="Scripted agents that approve everything, to see the loop go round.")
@click.option("--force", is_flag=True, help="Replace the agents of an existing lorch.json; the rest of it stays.")
@global_options
def init_command(*, mock: bool, exec_agents: bool, force: bool, **commands: str | None) -> None:
    """Write lorch.json with agents made of your own commands.

    For example: lorch init --build './build.sh' --tests 'python -m unittest' --review 'ruff check src'
    """
    from lorch_actors.cli.documents import InitDocument

    where = place()
    if mock and (exec_agents or any(commands.values())):
        raise UsageError("--mock does not go with commands", remedy="Leave one of them out.")
    if not mock and not commands["build"]:
        raise UsageError(
            "no command is given that implements a task",
            remedy="Give one with --build CMD (and --tests, --review, --spec), or use --mock to try the loop.",
        )
    document = _existing(where, force=force)
    document["agents"] = mock_agents() if mock else exec_agent_settings(commands)
    write(where.config, document)
    done = InitDocument(config=str(where.config), agents="mock" if mock else "exec", written=[str(where.config)])
    unchecked = [] if mock else [name for name in ("tests", "review", "spec") if not commands[name]]
    lines = [f"{where.config} is written."]
    lines += (
        [f"Nothing checks the work of: {', '.join(unchecked)} (give --{' --'.join(unchecked)})."] if unchecked else []
    )
    add = "" if document.get("tasks") else 'add tasks to it ("tasks": [{"id": "T-1", "goal": "…"}]), then '
    lines.append(f"Next: {add}`lorch run --all`.")
    output().result(done, "\n".join(lines))


def _existing(where: Place, *, force: bool) -> dict[str, Any]:
    """Return the file to change, or the defaults; refuse a file whose agents are set up, unless forced."""
    if not where.config.parent.is_dir():
        raise UsageError("there is no such directory", where=str(where.config.parent), remedy="Create it first.")
    if not where.config.exists():
        return default_document()
    try:
        configuration, _ = load(where)
    except ConfigError:
        if force:
            return default_document()
        raise
    if not force and any(configuration.agents.of(role).cmd for role in ROLES):
        raise UsageError(
            "there is a configuration with agents already",
            where=str(where.config),
            remedy="--force replaces its agents.",
        )
    document: dict[str, Any] = msgspec.json.decode(read_bytes(where.config))
    return document


def exec_agent_settings(commands: dict[str, str | None]) -> dict[str, Any]:
    """Return the agents made of commands: build, tests, review, spec; raises `ConfigError` for one that is none."""
    from lorch_actors.agents.exec_config import configure

    on = {
        "builder": [f"implement={commands['build']}"],
        "reviewer": [f"review={commands['review'] or NO_CHECK}"],
        "spec_maintainer": [f"update_spec={commands['spec'] or NO_CHECK}"],
    }
    agents: dict[str, Any] = {}
    for role, named in on.items():
        tests = commands["tests"] if role == "builder" else None
        configure(None, named, tests, None, ())
        cmd = [sys.executable, "-m", "lorch_actors.agents", "exec", "--type", role]
        cmd += [word for one in named for word in ("--on", one)] + (["--tests", tests] if tests else [])
        agents[role] = {"cmd": cmd}
    return {**agents, "orchestration": {"enabled": False, "cmd": []}}


def mock_agents() -> dict[str, Any]:
    """Return scripted agents without a script: they approve everything."""
    return {role: {"cmd": [sys.executable, "-m", "lorch_actors.agents", "mockagent", "--type", role]} for role in ROLES}
