"""Scripts for the mockagent: what it answers, and how it misbehaves on demand (SPEC §9).

    {"responses": {"<action>": RESPONSE or [RESPONSE, …]}, "start": [STEP, …]}

RESPONSE: ``events`` (a list of steps, carried out in order), ``delay_ms`` (before the first), ``error`` (a message, or
the payload of the error event sent in place of the steps), ``match`` (``task``, ``round``: a value or a list of them),
``times`` (use it for the first n executions of one idempotency key only, then the next in the list).

STEP: an object with a ``type``. A type of `STEP_FIELDS` is an act of the mockagent; any other is the name of an event
that is sent, right or wrong, with ``status``, ``payload`` and ``artifacts`` as they are written. Every step may have
``delay_ms`` (before it) and ``times`` (only in the first n executions of one key).

``start`` holds acts that happen before the first command is read. ``comment`` may stand in any object.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from lorch_actors.agents import script_rules
from lorch_actors.agents.script_rules import Problems
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.messages import Action, Command

_SIZE_MAX_BYTES: Final = 16 << 20


class Step(Struct, frozen=True):
    """One thing to do. fields: what stands beside type, delay_ms and times."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    delay_ms: int = 0
    times: int | None = None

    @property
    def is_act(self) -> bool:
        """Whether this is something the mockagent does; otherwise it is an event to send."""
        return self.type in script_rules.STEP_FIELDS


class Response(Struct, frozen=True):
    """What to answer to one command. error: the payload of an error event, instead of the steps."""

    steps: tuple[Step, ...] = ()
    delay_ms: int = 0
    error: dict[str, Any] | None = None
    tasks: frozenset[str] | None = None
    rounds: frozenset[int] | None = None
    times: int | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether it is for certain tasks or rounds only."""
        return self.tasks is not None or self.rounds is not None

    def fits(self, task_id: str, round_: int | None) -> bool:
        """Tell whether it may answer a command of this task and round."""
        return (self.tasks is None or task_id in self.tasks) and (self.rounds is None or round_ in self.rounds)


class Script(Struct, frozen=True):
    """A checked script."""

    responses: dict[Action, tuple[Response, ...]] = field(default_factory=dict)
    start: tuple[Step, ...] = ()

    def candidates(self, action: str, task_id: str, round_: int | None) -> tuple[int, ...]:
        """Return the numbers of the responses that may answer, in the order of their turn.

        Those made for this task or round go before those for any.
        """
        fitting = [(n, r) for n, r in enumerate(self.responses.get(Action(action), ())) if r.fits(task_id, round_)]
        special = tuple(n for n, r in fitting if r.is_conditional)
        return special or tuple(n for n, _ in fitting)

    def choose(self, command: Command, turn: int, execution: int) -> Response | None:
        """Return the response to a command, or None if the script has none.

        turn: how many distinct keys with the same candidates came before. execution: how often this key is executed,
        this time included.
        """
        given = self.responses.get(command.action, ())
        numbers = self.candidates(command.action, command.task_id, round_of(command))
        for number in numbers[min(turn, len(numbers) - 1) :] if numbers else ():
            if (times := given[number].times) is None or execution <= times:
                return given[number]
        return None


def round_of(command: Command) -> int | None:
    """Return the round a command belongs to, None if it names none."""
    round_ = command.inputs.get("round")
    return round_ if isinstance(round_, int) and not isinstance(round_, bool) else None


def load_script(path: Path) -> Script:
    """Return the script in a file; raise ConfigError with everything that is wrong with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the script cannot be read: {error.strerror}", where=str(path), remedy="Check --script."
        ) from error
    return parse_script(data, str(path))


def parse_script(data: bytes, where: str) -> Script:
    """Return the script; raise ConfigError with everything that is wrong, each with its JSON path. where: its file."""
    if len(data) > _SIZE_MAX_BYTES:
        raise ConfigError(f"the script is larger than {_SIZE_MAX_BYTES} bytes", where=where)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the script is not JSON: {error}", where=where, remedy="Mend it there.") from error
    problems = Problems()
    script_rules.check(document, problems)
    if problems.found:
        raise ConfigError(
            "the script has errors:\n" + "\n".join(f"  {problem}" for problem in problems.found),
            where=where,
            remedy="Mend them and start again; fixtures/README.md describes the format.",
        )
    return _script(document)


def _script(document: Mapping[str, Any]) -> Script:
    responses = {
        Action(action): tuple(map(_response, given if isinstance(given, list) else [given]))
        for action, given in document.get("responses", {}).items()
    }
    return Script(responses=responses, start=tuple(map(_step, document.get("start", ()))))


def _response(document: Mapping[str, Any]) -> Response:
    match = document.get("match", {})
    error = document.get("error")
    if isinstance(error, str):
        error = {"code": "scripted_error", "message": error, "retryable": False} if error else None
    return Response(
        steps=tuple(map(_step, document.get("events") or ())),
        delay_ms=document.get("delay_ms", 0),
        error=error,
        tasks=_set(match.get("task")),
        rounds=_set(match.get("round")),
        times=document.get("times"),
    )


def _step(document: Mapping[str, Any]) -> Step:
    common = {"type", "delay_ms", "times", "comment"}
    return Step(
        type=document["type"],
        fields={name: value for name, value in document.items() if name not in common},
        delay_ms=document.get("delay_ms", 0),
        times=document.get("times"),
    )


def _set(given: Any) -> frozenset[Any] | None:
    if given is None:
        return None
    return frozenset(given if isinstance(given, list) else [given])
