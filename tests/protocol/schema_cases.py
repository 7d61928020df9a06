"""Documents of every kind, right ones and changed ones, for the tests of the schemas."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

AT = "2026-01-01T00:00:00.000Z"
CHECKSUM = "sha256:" + "0123456789abcdef" * 4
KEY = "ik:" + "0123456789abcdef" * 4
CHAIN = "0123456789abcdef"

FULL: dict[str, dict[str, Any]] = {
    "command": {
        "kind": "command",
        "message_id": "cmd-1",
        "correlation_id": "c-1",
        "task_id": "T-1",
        "idempotency_key": KEY,
        "to": {"agent_type": "builder", "agent_id": "b"},
        "action": "implement",
        "inputs": {"round": 1},
        "expected_outputs": [{"path": "a", "description": "d", "required": False}, {"path": "b"}],
        "version": {"snapshot_id": "snap-1", "specs_hash": "x", "code_hash": None},
        "deadline": AT,
        "retry": {"attempt": 0, "max_attempts": 3},
        "priority": 0,
    },
    "event": {
        "kind": "event",
        "message_id": "m",
        "correlation_id": "c",
        "task_id": "T-1",
        "from": {"agent_type": "system", "agent_id": None},
        "event": "system.run_started",
        "status": "s",
        "payload": {"x": [1.5]},
        "artifacts": [{"path": "a", "sha256": CHECKSUM, "size": 0}],
        "observed_version": {"snapshot_id": "s", "specs_hash": None, "code_hash": "y"},
        "occurred_at": AT,
    },
    "heartbeat": {
        "kind": "heartbeat",
        "agent": {"agent_type": "reviewer", "agent_id": "r"},
        "seq": 0,
        "status": "backoff",
        "pid": 1,
        "ppid": 0,
        "uptime_s": 0,
        "last_activity_at": AT,
        "stats": {"cpu_pct": 0.5, "rss_bytes": 1},
        "task_id": "T-1",
    },
    "log": {"kind": "log", "level": "warn", "message": "", "fields": {"a": None}, "timestamp": AT},
    "receipt": {
        "task_id": "T-1",
        "step": 1,
        "action": "review",
        "idempotency_key": KEY,
        "snapshot_id": "snap-0123456789ab",
        "command_message_id": "cmd",
        "correlation_id": "c",
        "artifacts": [{"path": "a", "sha256": "none", "size": 1}],
        "events": ["m"],
        "tests": {"status": "pass"},
        "created_at": AT,
        "task_title": "t",
        "instruction": "i",
        "approved_plan": "p",
        "intake_correlation_id": "c",
        "clarifications": [1],
        "conflict_resolutions": [{}],
        "seq": 9,
        "chain": CHAIN,
    },
    "run-state": {
        "run_id": "run-20260101-000000-0001abff",
        "status": "failed",
        "task_id": "T-1",
        "snapshot_id": "snap-0123456789ab",
        "current_stage": "spec_maintain",
        "started_at": AT,
        "completed_at": AT,
        "correlation_id": "c",
        "last_command_id": "m",
        "last_event_id": "m",
        "terminal_events": {"builder": "m"},
        "tasks": [{"task_id": "T-1", "status": "failed", "stage": "review", "rounds": 0, "attempts": 1}],
        "restarts": {"builder": 2},
        "failure": {"code": "x", "message": "", "task_id": "T-1", "agent": "builder"},
        "seq": 1,
        "chain": "",
    },
    "index": {
        "runs": [
            {
                "run_id": "r",
                "status": "running",
                "tasks": {"T-1": "pending"},
                "started_at": AT,
                "completed_at": AT,
                "first_steps": {"T-1": 1},
                "last_steps": {"T-1": 0},
                "seq": 1,
                "chain": CHAIN,
            }
        ]
    },
    "snapshot-manifest": {
        "snapshot_id": "snap-0123456789ab",
        "created_at": AT,
        "workspace_root": "/w",
        "skipped": [{"path": "p", "kind": "fifo", "encoded": True}],
        "files": [
            {"path": "a%FF", "encoded": True, "sha256": CHECKSUM, "size": 0, "mtime": AT},
            {"path": "l", "link": "", "mtime": "2026-01-01T00:00:00.123456789Z"},
        ],
    },
}
ODD_VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 2, -1, 1.0, 0.0, -0.0, 1.5, 1e300]),
    st.sampled_from([10**15, 10**15 + 1, 1e15, 2**64, -(2**64), 10**400]),
    st.sampled_from(
        ["", "a", "T-1", "T-1\n", "../x", AT, f"{AT}\n", "2026-01-01T00:00:00+00:00", "2026-02-31T24:00:00Z"]
    ),
    st.sampled_from([CHECKSUM, f"{CHECKSUM}\n", CHECKSUM.upper(), CHAIN, "snap-0123456789ab", "🚀" * 15, "🚀" * 16]),
    st.sampled_from(["builder", "system", "builder ", "error", "error\n", "system.x", "system.X", "systemxx"]),
    st.sampled_from(["command", "event", "log", "heartbeat", "running", "fifo", "info", "implement", "1", "null"]),
    st.sampled_from([[], [None], [1], [""], ["a"], [[]], [{}]]),
    st.sampled_from([{}, {"": 0}, {"T-1": 1}, {"T-1": 1.0}, {"../x": 1}, {"T-1": "failed"}]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=3),
)
ADDED_NAMES = st.sampled_from(["extra", "", "link", "sha256", "kind", "size", "T-2", "../x", "agent_id"])


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text("ab", max_size=3)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a document with each of its keys or indices."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def replace_value(container: Any, key: Any, draw: Callable[..., Any]) -> None:
    """Put an odd value in the place of one."""
    container[key] = copy.deepcopy(draw(ODD_VALUES))


def remove_member(container: Any, key: Any, draw: Callable[..., Any]) -> None:
    """Take a member or an item out."""
    del container[key]


def add_member(container: Any, key: Any, draw: Callable[..., Any]) -> None:
    """Add a member or an item, perhaps one that exists elsewhere."""
    value = copy.deepcopy(draw(ODD_VALUES))
    if isinstance(container, dict):
        container[draw(st.sampled_from(["extra", "", "link", "sha256", "kind", "size", "T-2", "../x", "agent_id"]))] = (
            value
        )
    else:
        container.append(value)


def append_newline(container: Any, key: Any, draw: Callable[..., Any]) -> None:
    """End a string with a newline, or write an integer as a fraction."""
    if isinstance(container[key], str):
        container[key] += "\n"
    elif type(container[key]) is int and abs(container[key]) < 2**64:
        container[key] = float(container[key])


MUTATIONS = [replace_value, remove_member, add_member, append_newline]


@st.composite
def mutated(draw: Callable[..., Any]) -> tuple[str, Any]:
    """Return the name of a kind of document and one such document after up to three changes."""
    name = draw(st.sampled_from(sorted(FULL)))
    document = copy.deepcopy(FULL[name])
    for _ in range(draw(st.integers(1, 3))):
        found = places(document)
        if found:
            container, key = draw(st.sampled_from(found))
            draw(st.sampled_from(MUTATIONS))(container, key, draw)
    return name, document


def valid_for(part: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the documents that a (part of a) schema describes."""
    if "$ref" in part:
        return _valid_reference(part, root)
    if "enum" in part:
        return st.sampled_from(part["enum"])
    if "anyOf" in part:
        return st.one_of(*[valid_for(choice, root) for choice in part["anyOf"]])
    match part.get("type"):
        case "object":
            return _valid_object(part, root)
        case "array":
            return st.lists(valid_for(part.get("items", {}), root), max_size=2)
        case None:
            return ANYTHING
        case scalar:
            return _valid_scalar(scalar, part)


def _valid_reference(part: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    target = root["$defs"][part["$ref"].rpartition("/")[2]]
    choices = [choice["required"] for choice in part.get("oneOf", ())]
    every = {name for choice in choices for name in choice}
    return st.one_of(*[valid_for(_narrowed(target, choice, every), root) for choice in choices or [()]])


def _narrowed(target: dict[str, Any], wanted: Sequence[str], every: set[str]) -> dict[str, Any]:
    if not every:
        return target
    unwanted = every.difference(wanted)
    kept = {name: member for name, member in target["properties"].items() if name not in unwanted}
    return target | {"properties": kept, "required": [*target["required"], *wanted]}


def _valid_object(part: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" in part:
        members = {name: valid_for(member, root) for name, member in part["properties"].items()}
        required = {name: members.pop(name) for name in part["required"]}
        return st.fixed_dictionaries(required, optional=members)
    names = st.from_regex(part["propertyNames"]["pattern"]) if "propertyNames" in part else st.text("ab", max_size=2)
    return st.dictionaries(names, valid_for(part.get("additionalProperties", {}), root), max_size=2)


def _valid_scalar(type_: str, part: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, shortest = part.get("minimum"), part.get("minLength", 0)
    match type_:
        case "string" if "pattern" in part:
            return st.from_regex(part["pattern"], alphabet=st.characters(codec="ascii"))
        case "string":
            return st.text("aé🚀 \n", min_size=shortest, max_size=shortest + 4)
        case "integer":
            return st.integers(low)
        case "number":
            return st.floats(low, part["maximum"]) | st.integers(low, int(part["maximum"]))
        case "boolean":
            return st.booleans()
    return st.none()
