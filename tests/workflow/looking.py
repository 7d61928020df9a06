"""What tests look at in a `World`."""

from typing import Any

from lorch_actors.protocol.messages import Command, Entry
from lorch_actors.workflow.state import Run


class Looking:
    """Reads the ledger and the state of a run that is played in memory."""

    entries: list[Entry]
    run: Run

    def commands(self) -> list[Command]:
        """Return all commands of the ledger."""
        return [entry.message for entry in self.entries if isinstance(entry.message, Command)]

    def actions(self) -> list[str]:
        """Return the actions of all commands, in order."""
        return [str(command.action) for command in self.commands()]

    def events(self, prefix: str = "") -> list[str]:
        """Return the names of all events (and actions of commands) that start with a prefix."""
        names = [getattr(e.message, "event", None) or f"->{getattr(e.message, 'action', '')}" for e in self.entries]
        return [name for name in names if name.startswith(prefix)]

    def payloads(self, event: str) -> list[dict[str, Any]]:
        """Return the payloads of all events of that name."""
        return [entry.message.payload for entry in self.entries if getattr(entry.message, "event", "") == event]

    def failure(self, task_id: str = "T-1") -> str | None:
        """Return the code with which the task failed."""
        note = self.run.tasks[task_id].failure
        return note.code if note else None
