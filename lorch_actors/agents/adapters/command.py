"""``lorch-agent claude|codex|…``: the command line that all adapters share.

What comes after ``--`` goes to the CLI as it stands.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lorch_actors.agents.adapters.client import Client, Permissions
from lorch_actors.agents.adapters.settings import SILENCE_S, Settings
from lorch_actors.agents.options import seconds
from lorch_actors.errors import LorchError, UsageError

if TYPE_CHECKING:
    import argparse

    from lorch_actors.agents.adapters.adapter import Adapter


def _claude() -> Client:
    from lorch_actors.agents.adapters.claude import Claude

    return Claude()


def _codex() -> Client:
    from lorch_actors.agents.adapters.codex import Codex

    return Codex()


def _acp() -> Client:
    from lorch_actors.agents.adapters.acp import Acp

    return Acp()


def _gemini() -> Client:
    from lorch_actors.agents.adapters.gemini import Gemini

    return Gemini()


def _opencode() -> Client:
    from lorch_actors.agents.adapters.opencode import Opencode

    return Opencode()


CLIENTS: Final[dict[str, Callable[[], Client]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
    "acp": _acp,
}
"""The adapters by name."""

PERMISSIONS: Final[tuple[Permissions, ...]] = ("allow", "workspace", "ask")
PERMISSIONS_VARIABLE: Final = "LORCH_PERMISSIONS"


def main(name: str, argv: Sequence[str]) -> int:
    """Run the adapter of that name; return its exit code."""
    own, extra = _split(argv)
    client = CLIENTS[name]()
    options = _parser(client).parse_args(own)
    try:
        if options.print_prompt:
            return _print_prompt(options.print_prompt)
        return _adapter(client, options, extra).main()
    except LorchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code


def _split(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], tuple(words[at + 1 :])


def _adapter(client: Client, options: "argparse.Namespace", extra: tuple[str, ...]) -> "Adapter":
    from lorch_actors.agents.adapters.adapter import Adapter
    from lorch_actors.agents.exec_config import configure

    shared = configure(None, (), options.tests, None, options.include)
    program = options.program or client.program
    if not program:
        if not extra:
            raise UsageError("no agent is named", remedy=f"Give its command: lorch-agent {client.name} -- COMMAND …")
        program, *rest = extra
        extra = tuple(rest)
    settings = Settings(
        program=program,
        model=options.model,
        permissions=_permissions(options.permissions or os.environ.get(PERMISSIONS_VARIABLE) or "workspace"),
        tests=shared.tests,
        timeout_s=options.timeout_s,
        silence_s=options.silence_s,
        include=shared.include,
        exclude=shared.exclude,
        extra=extra,
    )
    return Adapter(
        options.type,
        client,
        settings,
        agent_id=options.id,
        journal=options.journal,
        heartbeat_interval_s=options.heartbeat_interval_s,
    )


def _permissions(given: str) -> Permissions:
    for known in PERMISSIONS:
        if given == known:
            return known
    raise UsageError(f"permissions are {given!r}", remedy="Allowed: " + ", ".join(PERMISSIONS) + ".")


def _print_prompt(name: str) -> int:
    from pathlib import Path

    from lorch_actors.agents.adapters import prompts

    workspace = Path(os.environ.get("LORCH_WORKSPACE") or os.getcwd())
    if name not in prompts.NAMES:
        raise UsageError(f"there is no prompt {name!r}", remedy="Known: " + ", ".join(prompts.NAMES) + ".")
    print(prompts.template(workspace, name), end="")
    return 0


def _parser(client: Client) -> "argparse.ArgumentParser":
    import argparse
    from pathlib import Path

    width = shutil.get_terminal_size().columns
    parser = argparse.ArgumentParser(
        prog=f"lorch-agent {client.name}",
        usage="%(prog)s [options] [-- flags for the CLI …]",
        description=f"An agent that has its work done by {client.program or client.name}. Install it: {client.install}",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=width),
    )
    add = parser.add_argument
    add("--type", metavar="ROLE", help="builder, reviewer or spec_maintainer")
    add("--model", metavar="NAME", help="which model (default: the CLI's own choice)")
    add("--permissions", choices=PERMISSIONS, help="what it may do unasked (default: workspace)")
    add("--tests", metavar="COMMAND", help="what decides a builder's result")
    add("--timeout-s", type=seconds, metavar="S", help="end it after that long (default: at the command's deadline)")
    add("--silence-s", type=seconds, metavar="S", default=SILENCE_S, help="hung when silent for so long (default: 900)")
    add("--include", action="append", default=[], metavar="DIR", help="tracked files (default: specs src tests docs)")
    add("--program", metavar="PATH", help=f"the CLI's executable (default: {client.program} on the PATH)")
    add("--print-prompt", metavar="NAME", help="show a prompt template as it is in force here, and end")
    add("--id", metavar="ID", help="agent id (default: made from role and pid)")
    add("--journal", type=Path, metavar="FILE", help="default: state/agents/ROLE.journal.ndjson")
    add("--heartbeat-interval-s", type=seconds, metavar="S", help="default: 10; 0 sends none")
    return parser
