"""What the stream of a foreign CLI means: fed event by event, asked once at the end what came of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final

from lorch_actors.agents.adapters.outcome import Kind, Outcome, Usage, of_provider
from lorch_actors.agents.approvals import Answer

Object = dict[str, Any]
Tell = Callable[[str], None]
Ask = Callable[[str, Object], Answer]
"""Asks a person for leave to use a tool with that input, and waits for the answer."""

SESSION_MAX_CHARS: Final = 200


class Reader(ABC):
    """One turn of one CLI. The runner feeds it; only `outcome` can say that the turn is done.

    tell: takes a sentence about what the CLI is doing. session_id: as soon as it is known. answer: what the model said
    last. usage: what the stream said was used. is_over: the talk is at its end, stdin may be closed. waits: why the CLI
    is better ended now, because it would wait by itself for what we can wait for durably and in sight.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.session_id: str | None = None
        self.answer = ""
        self.usage = Usage()
        self.is_over = False
        self.waits: Outcome | None = None

    @abstractmethod
    def hear(self, event: Object) -> bytes:
        """Take the next event; return what is to be written to the CLI's stdin because of it."""

    def overhear(self, line: str) -> None:
        """Take a line of stderr, which is for people: only for what cannot be known otherwise."""

    @abstractmethod
    def outcome(self, exit_code: int, errors: str) -> Outcome:
        """Say what came of the turn: `DONE` only if final event, error fields and exit code all say so.

        exit_code: as a shell counts it. errors: the end of what it wrote to stderr.
        """

    def meet(self, session_id: object) -> None:
        """Take note of the session's id, if it is one; the first one counts."""
        if self.session_id is None and isinstance(session_id, str) and 0 < len(session_id) <= SESSION_MAX_CHARS:
            self.session_id = session_id


def ended_early(exit_code: int, errors: str) -> Outcome:
    """Return the outcome of a turn whose final event never came: never done, whatever the exit code."""
    if exit_code == 0:
        return Outcome(Kind.CRASHED, "ended with exit code 0, but without its final event")
    told = errors.strip()
    found = of_provider(None, told)
    said = f"ended with exit code {exit_code}, without its final event"
    return Outcome(
        found.kind,
        f"{said}: {told}" if told else said,
        retry_after_s=found.retry_after_s,
        is_session_lost=found.is_session_lost,
    )


def text_of(value: object, name: str) -> str:
    """Return a member of an object that has to be text, empty when it is not there."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def object_of(value: object, name: str) -> Object:
    """Return a member of an object that has to be an object, empty when it is not there."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def objects_of(value: object, name: str) -> Iterator[Object]:
    """Return the objects in a member that has to be a list."""
    found = value.get(name) if isinstance(value, dict) else None
    return (item for item in (found if isinstance(found, list) else ()) if isinstance(item, dict))


def count_of(value: object, name: str) -> int | None:
    """Return a member that has to be a whole number, 0 or more."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def number_of(value: object, name: str) -> float | None:
    """Return a member that has to be a number, 0 or more."""
    found = value.get(name) if isinstance(value, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) and found >= 0 else None
