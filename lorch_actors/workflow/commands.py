"""Making the command for a step: the same step gives the same key, correlation and inputs, however often it is made."""

from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lorch_actors.protocol.canonical import canonical
from lorch_actors.protocol.checksums import checksum
from lorch_actors.protocol.configuration import DEFAULT_TIMEOUTS_S
from lorch_actors.protocol.ids import command_message_id, correlation_id
from lorch_actors.protocol.messages import (
    MESSAGE_MAX_BYTES,
    ROLE_OF_ACTION,
    Command,
    ExpectedOutput,
    Object,
    Recipient,
    Retry,
    Version,
)
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.workflow import budget
from lorch_actors.workflow.keys import idempotency_key
from lorch_actors.workflow.state import Moment, Run, Step, Task

OWN_TASK_KEYS: Final = frozenset({"id", "priority", "expected_outputs"})
REQUEST_ROOM_BYTES: Final = MESSAGE_MAX_BYTES // 2
"""A request longer than this, as canonical JSON, goes into a file: the rest of the command needs room as well."""

TIMEOUT_MAX_S: Final = 31_536_000


class RequestFile(Struct, frozen=True):
    """A file that has to be there before the command is sent: path below the workspace, and its content."""

    path: str
    content: bytes


def timeout_s(run: Run, role: str, action: str) -> float:
    """Return how long that agent has for that action, in seconds."""
    given = run.agent_settings.get(role, {}).get("timeouts_s")
    found = given.get(action) if isinstance(given, dict) else None
    return float(found) if isinstance(found, int | float) and 0 < found <= TIMEOUT_MAX_S else DEFAULT_TIMEOUTS_S[action]


def first_delivery(
    run: Run, task: Task, step: Step, now: Moment, incarnation: str
) -> tuple[Command, RequestFile | None]:
    """Return the command for a step that was never sent, and the file its request went into, if it is a long one."""
    assert task.snapshot_id is not None
    inputs, spilled = _inputs(run, task, step)
    outputs = _expected_outputs(task)
    key = idempotency_key(
        step.action, task.task_id, task.snapshot_id, inputs, [output.as_object() for output in outputs]
    )
    correlation = correlation_id(key)
    role = ROLE_OF_ACTION[step.action]
    priority = task.declared.get("priority")
    command = Command(
        message_id=command_message_id(correlation, 1),
        correlation_id=correlation,
        task_id=task.task_id,
        idempotency_key=key,
        to=Recipient(role, incarnation),
        action=step.action,
        inputs=inputs,
        expected_outputs=outputs,
        version=Version(task.snapshot_id),
        deadline=_deadline(run, task, role, step.action, now),
        retry=Retry(0, run.policy.retry.max_attempts),
        priority=priority if isinstance(priority, int) and priority >= 0 else 0,
        budget=budget.reserved(run, task, now),
    )
    return command, spilled


def next_delivery(run: Run, task: Task, now: Moment, incarnation: str) -> Command:
    """Return the pending command once more: same key and correlation, for the incarnation that is up now."""
    pending = task.pending
    assert pending is not None
    command = pending.command
    role = command.to.agent_type
    return replace(
        command,
        message_id=command_message_id(command.correlation_id, pending.deliveries + 1),
        to=Recipient(role, incarnation),
        deadline=_deadline(run, task, role, command.action, now),
        retry=Retry(pending.attempt, command.retry.max_attempts),
        budget=budget.reserved(run, task, now),
    )


def _deadline(run: Run, task: Task, role: str, action: str, now: Moment) -> str:
    limit_ms = round(timeout_s(run, role, action) * 1000)
    left_ms = budget.left_ms(run, task, now)
    return to_timestamp(now.wall_ms + (limit_ms if left_ms is None else min(limit_ms, left_ms)))


def _inputs(run: Run, task: Task, step: Step) -> tuple[Object, RequestFile | None]:
    inputs: dict[str, Any] = {key: value for key, value in task.declared.items() if key not in OWN_TASK_KEYS}
    inputs |= {"run_id": run.run_id, "round": step.round}
    if step.retry_of is not None:
        inputs["retry_of"] = step.retry_of
    if step.requested_by is None:
        return inputs, None
    inputs["requested_by"] = step.requested_by
    request, spilled = _request(run, task, step)
    inputs["request"] = request
    return inputs, spilled


def _request(run: Run, task: Task, step: Step) -> tuple[Object, RequestFile | None]:
    """Return what was asked for, as it goes into the inputs; a long request is named there by path and checksum."""
    text = canonical(step.request)
    if len(text) <= REQUEST_ROOM_BYTES:
        whole: Object = msgspec.json.decode(text)
        return whole, None
    content = text + b"\n"
    sha256 = checksum(content)
    path = f"state/requests/{run.run_id}.{task.task_id}.round-{step.round}.{sha256[7:15]}.json"
    return {"path": path, "sha256": sha256, "size": len(content)}, RequestFile(path, content)


def _expected_outputs(task: Task) -> list[ExpectedOutput]:
    declared = task.declared.get("expected_outputs")
    if not declared:
        return []
    try:
        return msgspec.convert(declared, list[ExpectedOutput])
    except msgspec.ValidationError:
        return []
