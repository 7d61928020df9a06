"""What one adapter is told on its command line, and where its things lie in the workspace."""

import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from lorch_actors.agents.adapters.client import Client, Permissions
from lorch_actors.agents.exec_config import Argv
from lorch_actors.protocol.messages import Command
from lorch_actors.storage import atomic, disk

SILENCE_S: Final = 900.0
"""How long a CLI may print nothing by default before it counts as hung, in seconds."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Settings(Struct, frozen=True):
    """What an adapter is told.

    program: the CLI's executable. tests: what decides a builder's result. timeout_s: for a command, if less than its
    deadline leaves. silence_s: see `SILENCE_S`. include, exclude: the tracked files. extra: flags handed to the CLI.
    """

    program: str
    model: str | None = None
    permissions: Permissions = "workspace"
    tests: Argv | None = None
    timeout_s: float | None = None
    silence_s: float = SILENCE_S
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    extra: Argv = ()


class Places(Struct, frozen=True):
    """Where the things of one command lie. home: the CLI's own home in this run. spool: what it prints goes beside."""

    workspace: Path
    home: Path
    spool: Path

    @classmethod
    def of(cls, workspace: Path, role: str, command: Command, execution: int) -> "Places":
        """Return the places of one execution of a command."""
        run_id = command.inputs.get("run_id")
        run = run_id if isinstance(run_id, str) and _PLAIN.fullmatch(run_id) else "no-run"
        round_ = command.inputs.get("round")
        name = f"{command.task_id}.{command.action.value}.round-{round_ if isinstance(round_, int) else 0}.{execution}"
        return cls(
            workspace=workspace,
            home=workspace / "state" / "agents" / "homes" / run / role,
            spool=workspace / "logs" / role / run / name,
        )

    def furnish(self, client: Client, files: dict[str, bytes], environment: dict[str, str]) -> None:
        """Make the home, with the CLI's settings and the user's login in it.

        The login is a link: what the CLI renews there has to reach the user's own file, or he is logged out.
        """
        disk.make_directory(self.home)
        for name, content in files.items():
            target = self.home / name
            disk.make_directory(target.parent)
            atomic.write_atomic(target, content)
        for name, login in client.logins(environment).items():
            target = self.home / name
            disk.make_directory(target.parent)
            if not target.is_symlink() and not target.exists():
                target.symlink_to(login)
