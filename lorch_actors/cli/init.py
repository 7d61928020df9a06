"""`init`: write a ``lorch.json`` whose agents are an installed agent CLI, the user's own commands, or scripted ones."""

import sys
from typing import Any, Final

import click
import msgspec

from lorch_actors.cli.init_clis import AGENT_CLIS, cli_agents, installed_clis, likely_tests, work_directories
from lorch_actors.cli.loading import default_document, load, read_bytes, write
from lorch_actors.cli.options import global_options, output, place
from lorch_actors.cli.place import Place
from lorch_actors.errors import ConfigError, UsageError
from lorch_actors.protocol.messages import ROLES

NO_CHECK: Final = "true"
"""The command of a reviewer or spec maintainer that was not given one: it approves everything."""


@click.command("init")
@click.option("--build", metavar="CMD", help="What implements a task; it finds the task in LORCH_GOAL, LORCH_INPUTS …")
@click.option("--tests", metavar="CMD", help="What decides whether the work is right.")
@click.option("--review", metavar="CMD", help="What reviews it: exit code 0 approves, any other asks for changes.")
@click.option("--spec", metavar="CMD", help="What brings the specification up to date.")
@click.option("--agent", type=click.Choice(AGENT_CLIS), help="The agent CLI for the work (default: what is found).")
@click.option("--acp", metavar="CMD", help="An agent that speaks the Agent Client Protocol, for the work.")
@click.option("--exec", "exec_agents", is_flag=True, help="Make agents of the commands given here.")
@click.option("--mock", is_flag=True, help="Scripted agents that approve everything, to see the loop go round.")
@click.option("--force", is_flag=True, help="Replace the agents of an existing lorch.json; the rest of it stays.")
@global_options
def init_command(
    *, agent: str | None, acp: str | None, mock: bool, exec_agents: bool, force: bool, **commands: str | None
) -> None:
    """Write lorch.json with an installed agent CLI, or with agents made of your own commands.

    For example: lorch init --tests 'python -m unittest'

    Or: lorch init --build './build.sh' --tests 'python -m unittest' --review 'ruff check src'
    """
    from lorch_actors.cli.documents import InitDocument

    where = place()
    kind = _kind(_foreign(agent, acp), commands, mock=mock, exec_agents=exec_agents)
    document = _existing(where, force=force)
    lines = [f"{where.config} is written."]
    if kind == "mock":
        document["agents"] = mock_agents()
    elif kind == "exec":
        document["agents"] = exec_agent_settings(commands)
        lines += _unchecked([name for name in ("tests", "review", "spec") if not commands[name]])
    else:
        lines += _use_cli(document, where, kind, commands["tests"], acp)
    write(where.config, document)
    done = InitDocument(config=str(where.config), agents=kind, written=[str(where.config)])
    add = "" if document.get("tasks") else 'add tasks to it ("tasks": [{"id": "T-1", "goal": "…"}]), then '
    lines.append(f"Next: {add}`lorch run --all`.")
    output().result(done, "\n".join(lines))


def _foreign(agent: str | None, acp: str | None) -> str | None:
    """Return the adapter that is asked for by name."""
    if agent and acp:
        raise UsageError("--agent does not go with --acp", remedy="Leave one of them out.")
    return "acp" if acp else agent


def _kind(agent: str | None, commands: dict[str, str | None], *, mock: bool, exec_agents: bool) -> Any:
    """Return what kind of agents is asked for: a CLI by name, `exec` or `mock`."""
    if mock and (exec_agents or agent or any(commands.values())):
        raise UsageError("--mock does not go with commands", remedy="Leave one of them out.")
    if agent and (exec_agents or any(commands[name] for name in ("build", "review", "spec"))):
        flag = "--acp" if agent == "acp" else "--agent"
        raise UsageError(f"{flag} does not go with commands of your own but --tests", remedy="Leave one of them out.")
    if mock or agent:
        return agent or "mock"
    found = [] if exec_agents or any(commands[name] for name in ("build", "review", "spec")) else installed_clis()
    if not commands["build"] and not found:
        raise UsageError(
            "no command is given that implements a task"
            + ("" if exec_agents else f", and none of {', '.join(AGENT_CLIS)} is on the PATH"),
            remedy="Give one with --build CMD (and --tests, --review, --spec), or use --mock to try the loop.",
        )
    return found[0] if found else "exec"


def _use_cli(document: dict[str, Any], where: Place, name: str, tests: str | None, acp: str | None) -> list[str]:
    """Set up a CLI for all roles; return what there is to say about it. acp: the command of an agent that is no CLI."""
    from lorch_actors.agents.exec_config import words

    root = where.config.parent
    include = work_directories(root)
    known = tests or likely_tests(root)
    document["agents"] = cli_agents(name, known, include, words(acp, "--acp") if acp else ())
    document["snapshot"] = {**document.get("snapshot", {}), "include": include}
    others = [other for other in installed_clis() if other != name]
    said = [f"{acp or name} builds, reviews and keeps the specification below {', '.join(include)}."]
    said += [f"Also found: {', '.join(others)} (choose with --agent)."] if others else []
    return said + ([f"`{known}` decides whether the work is right."] if known else _unchecked(["tests"]))


def _unchecked(names: list[str]) -> list[str]:
    return [f"Nothing checks the work of: {', '.join(names)} (give --{' --'.join(names)})."] if names else []


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
