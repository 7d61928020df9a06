"""What the adapter has to know about one CLI: how it is started, with what, and who reads its stream."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from msgspec import Struct

from lorch_actors.agents.adapters.reader import Ask, Reader, Tell
from lorch_actors.agents.exec_config import Argv
from lorch_actors.agents.outputs import shown

_LOOKING: Final = ("git diff", "git status", "git log", "git show")

Permissions = Literal["allow", "workspace", "ask"]


class Turn(Struct, frozen=True):
    """One turn to be had: what is said, and how.

    resume: the session that goes on, or None for a new one. may_write: whether the role has to change files.
    schema: where the JSON Schema of the verdict lies, if one is asked for. budget_usd: what the turn may cost at most.
    extra: the user's own flags.
    """

    prompt: str
    workspace: Path
    home: Path
    resume: str | None = None
    may_write: bool = True
    schema: Path | None = None
    budget_usd: float | None = None
    model: str | None = None
    permissions: Permissions = "workspace"
    tests: Argv | None = None
    extra: Argv = ()

    @property
    def harmless(self) -> tuple[str, ...]:
        """The commands, as they begin, that may be run without asking: looking with git, and the tests."""
        return (*_LOOKING, *((shown(self.tests),) if self.tests else ()))


class Client(ABC):
    """One CLI. A subclass for each; none of them keeps state.

    name: what it is called in our configuration. program: the executable that is looked for. install: the command that
    installs it. key_variables: where its credentials stand in the environment. login_root: the variable that names the
    directory of the user's own login, and where that is below his home without it. login_files: what lies there, and
    where it belongs below the run's own home.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    install: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]] = ()
    login_root: ClassVar[tuple[str, str]] = ("", "")
    login_files: ClassVar[Mapping[str, str]] = {}
    cumulative: ClassVar[frozenset[str]] = frozenset()
    """The fields of `Usage` for which what a resumed session reports contains what it reported before."""

    @abstractmethod
    def argv(self, turn: Turn) -> list[str]:
        """Return the command line, without the program."""

    @abstractmethod
    def environment(self, turn: Turn) -> dict[str, str]:
        """Return what it needs in its environment beside what is there."""

    @abstractmethod
    def reader(self, turn: Turn, tell: Tell, ask: Ask) -> Reader:
        """Return who reads the stream of this turn. ask: for the permissions `ask`, where the CLI can be answered."""

    def opening(self, turn: Turn) -> bytes:
        """Return what is written to stdin first: the prompt, which may be longer than an argument may be."""
        return turn.prompt.encode()

    def settings(self, turn: Turn) -> dict[str, bytes]:
        """Return the files that have to lie in its home: path below the home, and content."""
        return {}

    def is_talk(self, turn: Turn) -> bool:
        """Tell whether stdin stays open until the reader says that the talk is over."""
        return False

    def account(self, environment: Mapping[str, str]) -> str:
        """Return a name for the account that is used: agents with the same one share its limits."""
        from hashlib import sha256

        for variable in self.key_variables:
            if key := environment.get(variable):
                return f"{self.name}:{sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        return self.name

    def logins(self, environment: Mapping[str, str]) -> dict[str, Path]:
        """Return the login files of the user that exist: path below the run's home, and where they are."""
        variable, below = self.login_root
        home = environment.get("HOME") or os.path.expanduser("~")
        root = Path(environment.get(variable) or os.path.join(home, below))
        found = {inside: root / outside for outside, inside in self.login_files.items()}
        return {inside: path for inside, path in found.items() if path.is_file()}
