"""What may stand in a script. Everything that is wrong is found in one pass, each with its JSON path."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from lorch_actors.protocol.messages import Action

_MAX_PROBLEMS: Final = 100
_HOUR_MS: Final = 3_600_000

Check = Callable[[Any, str, "Problems"], None]


class Problems:
    """The errors found so far."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, text: str) -> None:
        """Note what is wrong at a JSON path."""
        if len(self.found) < _MAX_PROBLEMS:
            self.found.append(f"{path}: {text}")


def check(document: Any, problems: Problems) -> None:
    """Check a whole script."""
    if _is_object(document, "$", problems):
        _members(document, "$", {"responses": _responses, "start": _start}, problems)


def _responses(value: Any, path: str, problems: Problems) -> None:
    if not _is_object(value, path, problems):
        return
    for action, given in value.items():
        place = f"{path}.{action}"
        if action not in list(Action):
            problems.add(place, f"no such action{_hint(action, [known.value for known in Action])}")
        elif isinstance(given, list):
            if not given:
                problems.add(place, "the list is empty; it needs at least one response")
            for number, response in enumerate(given):
                _response(response, f"{place}[{number}]", problems)
        else:
            _response(given, place, problems)


def _response(value: Any, path: str, problems: Problems) -> None:
    if _is_object(value, path, problems):
        _members(value, path, _RESPONSE_FIELDS, problems)


def _match(value: Any, path: str, problems: Problems) -> None:
    if _is_object(value, path, problems):
        _members(value, path, {"task": _some_of(_text), "round": _some_of(_whole(1))}, problems)


def _events(value: Any, path: str, problems: Problems) -> None:
    if value is None:  # lorch 1.5 writes an absent list so
        return
    if not isinstance(value, list):
        problems.add(path, f"{_shown(value)} is not a list of steps")
        return
    for number, step in enumerate(value):
        _step(step, f"{path}[{number}]", problems)


def _start(value: Any, path: str, problems: Problems) -> None:
    _events(value, path, problems)
    for number, step in enumerate(value if isinstance(value, list) else ()):
        kind = step.get("type") if isinstance(step, dict) else None
        if isinstance(kind, str) and kind not in START_ACTS:
            problems.add(
                f"{path}[{number}].type",
                f"{kind!r} cannot happen before a command is read; allowed are {', '.join(sorted(START_ACTS))}",
            )


def _step(value: Any, path: str, problems: Problems) -> None:
    if not _is_object(value, path, problems):
        return
    kind = value.get("type")
    if not isinstance(kind, str) or not kind:
        problems.add(f"{path}.type", "is missing: the name of an event, or one of " + ", ".join(sorted(STEP_FIELDS)))
        return
    own = STEP_FIELDS.get(kind, _EVENT_FIELDS)
    if own is _EVENT_FIELDS and "." not in kind and kind != "error":
        problems.add(f"{path}.type", f"{kind!r} is neither an event nor an act{_hint(kind, list(STEP_FIELDS))}")
        return
    _members(value, path, {**_STEP_COMMON, **own}, problems)
    for name in _REQUIRED.get(kind, ()):
        if name not in value:
            problems.add(f"{path}.{name}", f"is missing; {kind!r} needs it")


def _members(value: Mapping[str, Any], path: str, allowed: Mapping[str, Check], problems: Problems) -> None:
    for name, member in value.items():
        if name == "comment":
            continue
        if name in allowed:
            allowed[name](member, f"{path}.{name}", problems)
        else:
            problems.add(f"{path}.{name}", f"unknown; allowed are {', '.join(allowed)}{_hint(name, list(allowed))}")


def _is_object(value: Any, path: str, problems: Problems) -> bool:
    if isinstance(value, dict):
        return True
    problems.add(path, f"{_shown(value)} is not an object")
    return False


def _anything(_value: Any, _path: str, _problems: Problems) -> None:
    """Let events be as wrong as the script wants them."""


def _text(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str):
        problems.add(path, f"{_shown(value)} is not a string")


def _truth(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, bool):
        problems.add(path, f"{_shown(value)} is neither true nor false")


def _object(value: Any, path: str, problems: Problems) -> None:
    _is_object(value, path, problems)


def _error(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str | dict):
        problems.add(path, f"{_shown(value)} is neither a message nor the payload of an error event")


def _whole(low: int, high: int = 1 << 40) -> Check:
    def is_whole(value: Any, path: str, problems: Problems) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            problems.add(path, f"{_shown(value)} is not a whole number from {low} to {high}")

    return is_whole


def _one_of(*allowed: str) -> Check:
    def is_one(value: Any, path: str, problems: Problems) -> None:
        if value not in allowed:
            problems.add(path, f"{_shown(value)} is none of {', '.join(allowed)}")

    return is_one


def _some_of(check_one: Check) -> Check:
    def are_some(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            check_one(value, path, problems)
            return
        for number, member in enumerate(value):
            check_one(member, f"{path}[{number}]", problems)

    return are_some


def _hint(given: str, allowed: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(given, allowed, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


_MILLISECONDS: Final = _whole(0, 24 * _HOUR_MS)
_STEP_COMMON: Final[Mapping[str, Check]] = {"type": _text, "delay_ms": _MILLISECONDS, "times": _whole(1)}
_EVENT_FIELDS: Final[Mapping[str, Check]] = {"status": _anything, "payload": _anything, "artifacts": _anything}
_RESPONSE_FIELDS: Final[Mapping[str, Check]] = {
    "delay_ms": _MILLISECONDS,
    "error": _error,
    "events": _events,
    "match": _match,
    "times": _whole(1),
}

STEP_FIELDS: Final[Mapping[str, Mapping[str, Check]]] = {
    "write": {"path": _text, "content": _text},
    "default": {},
    "ask": {"tool": _text, "input": _object, "message": _text, "denied": _one_of("error", "go_on")},
    "exit": {"code": _whole(0, 255)},
    "kill": {},
    "hang": {"stubborn": _truth, "for_ms": _MILLISECONDS},
    "stop_heartbeat": {},
    "garbage": {"text": _text, "lines": _whole(1, 1_000_000)},
    "oversize": {"bytes": _whole(1, 1 << 30), "newline": _truth},
    "close_stdout": {},
    "flood": {"count": _whole(1, 10_000_000), "as": _one_of("progress", "log", "stderr")},
    "slow_stdin": {"for_ms": _MILLISECONDS},
    "duplicate": {"count": _whole(1, 1000), "fresh_id": _truth},
    "wrong_correlation": {"field": _one_of("correlation_id", "task_id", "agent_type"), "value": _text},
    "corrupt_artifact": {"path": _text, "how": _one_of("content", "missing")},
}
"""The acts, with what may stand beside their type."""

START_ACTS: Final = frozenset(
    {"exit", "kill", "hang", "stop_heartbeat", "garbage", "oversize", "close_stdout", "slow_stdin"}
)
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {"write": ("path", "content")}
