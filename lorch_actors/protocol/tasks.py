"""Tasks as people write them, in ``lorch.json`` or one a line in a file of their own.

A task has an id and a goal; every key that has no meaning here is kept and handed to the agents with each command.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct, field

from lorch_actors.errors import ConfigError
from lorch_actors.protocol.checking import Checker, Remark, decode_json
from lorch_actors.protocol.messages import Count, ExpectedOutput, Object, TaskId, Text

TASK_MAX_BYTES: Final = 65_536
"""Largest task object, as compact JSON: what is longer would crowd the command it travels in."""

TASK_MAX_DEPTH: Final = 56
"""Most levels of nesting in a task: messages put some around it, and may have no more than `ijson.MAX_DEPTH`, 64."""

TASKS_MAX: Final = 10_000
"""Most tasks in one file."""

RESERVED_INPUTS: Final = frozenset({"run_id", "round", "requested_by", "request", "retry_of"})
"""Keys of a command's inputs that the orchestrator sets itself."""


class TaskDocument(Struct, frozen=True, kw_only=True):
    """A task as it stands in the file. Any further key is kept and handed to the agents."""

    id: TaskId
    goal: Text
    priority: Count = 0
    expected_outputs: list[ExpectedOutput] = field(default_factory=list)


class TaskSettings(Struct, frozen=True):
    """A task of the program: ``inputs`` is what its commands carry, the goal and every key that has no place here."""

    id: str
    goal: str
    inputs: Object
    priority: int = 0
    expected_outputs: tuple[ExpectedOutput, ...] = ()


def check_tasks(checker: Checker, given: list[Any], paths: list[str]) -> tuple[TaskSettings, ...]:
    """Check tasks, each standing at its path; what is wrong goes to the checker.

    Tasks that are wrong are left out of the result, so look at the checker first.
    """
    tasks: dict[str, TaskSettings] = {}
    first_at: dict[str, str] = {}
    for value, path in zip(given, paths, strict=True):
        task = _check_task(checker, value, path)
        if task is None:
            continue
        if task.id in first_at:
            checker.error(f"{path}.id", f'"{task.id}" is already the id of {first_at[task.id]}; ids are unique')
            continue
        first_at[task.id] = path
        tasks[task.id] = task
    return tuple(tasks.values())


def _check_task(checker: Checker, value: object, path: str) -> TaskSettings | None:
    before = len(checker.errors)
    document: TaskDocument | None = checker.check(TaskDocument, value, path)
    if isinstance(value, dict):
        from lorch_actors.protocol.ijson import is_deeper_than

        for key in sorted(RESERVED_INPUTS.intersection(value)):
            checker.error(f"{path}.{key}", "is set by lorch itself and cannot be given; use another name")
        if is_deeper_than(TASK_MAX_DEPTH, value):
            checker.error(path, f"is nested more than {TASK_MAX_DEPTH} levels deep")
        size_bytes = len(msgspec.json.encode(value))
        if size_bytes > TASK_MAX_BYTES:
            checker.error(
                path,
                f"is {size_bytes} bytes; allowed: at most {TASK_MAX_BYTES}. Put long text into a file under specs/ and "
                "name the file",
            )
    if document is None or not isinstance(value, dict) or len(checker.errors) > before:
        return None
    own = {"id", "priority", "expected_outputs"}
    return TaskSettings(
        id=document.id,
        goal=document.goal,
        inputs={key: item for key, item in value.items() if key not in own and not key.startswith("_")},
        priority=document.priority,
        expected_outputs=tuple(document.expected_outputs),
    )


def parse_tasks(data: bytes, where: str) -> tuple[TaskSettings, ...]:
    """Read tasks from JSON objects, one a line; blank lines are skipped.

    where: the file's name for messages. Raises `ConfigError` that tells every error with its line.
    """
    checker = Checker(open_types=(TaskDocument,))
    given: list[Any] = []
    paths: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            given.append(decode_json(line))
        except ValueError as error:
            checker.error(f"line {number}", str(error))
        else:
            paths.append(f"line {number}: $")
    if len(given) > TASKS_MAX:
        raise ConfigError(f"{len(given)} tasks; at most {TASKS_MAX} are allowed", where=where, remedy="Split the file.")
    tasks = check_tasks(checker, given, paths)
    raise_errors(checker.errors, where)
    if not tasks:
        raise ConfigError("there is no task in it", where=where, remedy='One task a line: {"id": "T-1", "goal": "…"}')
    return tasks


def raise_errors(errors: list[Remark], where: str) -> None:
    """Raise one `ConfigError` that tells all these errors, if there are any; where: the file's name."""
    if not errors:
        return
    head = "1 value is wrong" if len(errors) == 1 else f"{len(errors)} values are wrong"
    lines = "".join(f"\n  {error}" for error in errors)
    raise ConfigError(f"{head}:{lines}", where=where, remedy="Every key is described in docs/CONFIGURATION.md.")
