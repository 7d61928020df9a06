"""Processes of agents, as an agent actor holds them: what it asks of one, and who starts it.

The same actor runs a process of the machine (`agent_process`) or one that a simulator plays; an ``AgentHost`` decides.
Nothing here blocks but the ending of a tree, and of who has left it, which have deadlines. ``stdout`` and ``stderr``
are numbers for the reactor to watch; they are read through the link.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lorch_actors.processes import ProcessIdentity


class AgentLink(Protocol):
    """A hold on one process of an agent and all it starts. Only its actor calls it, but for ``end_tree``."""

    agent_id: str
    identity: ProcessIdentity | None
    stdout: int
    stderr: int

    def watch(self, on_exit: Callable[[], object]) -> None:
        """Call back in the reactor's thread when the process has died."""
        ...

    def read(self, output: int, size_bytes: int) -> bytes | None:
        """Return what is there of ``stdout`` or ``stderr``, nothing at its end, None if there is nothing yet."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether everything that was written has been taken."""
        ...

    def write(self, data: bytes) -> bool:
        """Write what the process takes now, the rest as it takes it; False when it takes nothing any more."""
        ...

    def flush(self) -> bool:
        """Go on writing; False when the process does not read any more."""
        ...

    def on_writable(self, callback: Callable[[], object]) -> None:
        """Call back in the reactor's thread when there is room for what waits to be written."""
        ...

    def unread_bytes(self) -> int:
        """Return how much output waits in the pipe."""
        ...

    def unread_input_bytes(self) -> int:
        """Return how much of what was to be written the process has not read; what it left once its input is closed."""
        ...

    def close_stdin(self) -> None:
        """Say that no command will come any more."""
        ...

    def terminate(self) -> None:
        """Ask the process and its group to end (SIGTERM)."""
        ...

    def end_tree(self) -> None:
        """Kill the process and all that it started, and wait until it is gone. From any thread."""
        ...

    def reap(self) -> tuple[int | None, int | None]:
        """Return exit code and signal of the dead process, one of them None."""
        ...

    def end_escaped(self) -> None:
        """Kill whoever had left the tree, and wait until they are gone. From any thread, also after `release`."""
        ...

    def release(self) -> None:
        """Free every descriptor."""
        ...


class AgentHost(Protocol):
    """Starts processes of agents."""

    def start(
        self, cmd: Sequence[str], *, workspace: str, env: Mapping[str, str], agent_id: str, owner: str
    ) -> AgentLink:
        """Start one, without waiting for it. Raises OSError or ValueError if the command cannot be executed."""
        ...
