"""What a terminal event says: whether it is a valid answer, and where the task goes from there."""

from typing import Any

import msgspec

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.documents import TaskStatus
from lorch_actors.protocol.messages import Action, Command, Event, Object
from lorch_actors.protocol.times import from_timestamp
from lorch_actors.workflow.accounts import told_account
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.state import Loss, Step, Task

REVIEW_STATUSES = frozenset({"approved", "changes_requested"})
TEST_STATUSES = ("pass", "fail")  # a tuple: what is looked up in it may be anything, also what has no hash
DAY_MS = 86_400_000


def objection(event: Event, command: Command, *, strict_version: bool) -> Loss | None:
    """Return why a terminal event cannot count as the command's answer, or None when it can."""
    if event.event == "error":
        return _loss_of_error(event.payload or {}, event.sender.agent_type)
    observed = event.observed_version.snapshot_id if event.observed_version else None
    if strict_version and observed is not None and observed != command.version.snapshot_id:
        return Loss(
            FailureCode.VERSION_MISMATCH,
            f"{event.event} is about {observed}, the command about {command.version.snapshot_id}",
        )
    if event.event == "builder.completed" and tests_of(event).get("status") not in TEST_STATUSES:
        return Loss(FailureCode.MISSING_TESTS, "builder.completed without payload.tests.status of pass or fail")
    if event.event == "review.completed" and event.status not in REVIEW_STATUSES:
        return Loss(
            FailureCode.INVALID_EVENT,
            f"review.completed with status {event.status!r}; known are approved and changes_requested",
        )
    return None


def tests_of(event: Event) -> Object:
    """Return ``payload.tests``, empty when there is none."""
    tests = (event.payload or {}).get("tests")
    return tests if isinstance(tests, dict) else {}


def _loss_of_error(payload: Object, agent: str) -> Loss:
    code = payload.get("code")
    message = payload.get("message")
    if not isinstance(message, str) or not message:
        message = _told_otherwise(payload) or f"the {agent} reported an error"
    told = [payload[name] for name in ("retryable", "retriable") if isinstance(payload.get(name), bool)]
    loss = Loss(code if isinstance(code, str) and code else FailureCode.AGENT_ERROR, message, fatal=True not in told)
    wait_ms, until_ms = _wish(payload)
    if (told and True not in told) or wait_ms is until_ms is None:
        return loss
    return msgspec.structs.replace(loss, fatal=False, wait_ms=wait_ms, until_ms=until_ms, account=told_account(payload))


def _wish(payload: Object) -> tuple[int | None, int | None]:
    """Return how long, or until when, the agent wants to be left alone; a rate limit is no refusal by itself."""
    after = payload.get("retry_after_s")
    if isinstance(after, int | float) and not isinstance(after, bool) and after >= 0:
        return round(min(after, 3650 * 86_400) * 1000), None
    resets_at = payload.get("resets_at")
    try:
        return None, from_timestamp(resets_at) if isinstance(resets_at, str) else None
    except ValueError:
        return None, None


def _told_otherwise(payload: Object) -> str:
    """Return the words of an error that does not keep to ``message`` (agents written for lorch 1.5)."""
    return ": ".join(str(payload[key]) for key in ("error", "details") if isinstance(payload.get(key), str))


def next_after(task: Task, event: Event, *, test_rounds: int, max_rounds: int) -> Task:
    """Return the task with what follows a settled step: its next step, or its end.

    A task has at most ``max_rounds`` rounds; of these at most ``test_rounds`` are owed to failing tests.
    """
    round_ = task.step.round if task.step else 1
    if event.event == "builder.completed":
        tests = tests_of(event)
        if tests["status"] == "pass" or tests.get("allowed_failures") is True:
            return _with_step(task, Step(Action.REVIEW, round_))
        if task.test_rounds >= test_rounds:
            return _failed(task, FailureCode.TESTS_FAILED, _tests_message(tests, task.test_rounds), "builder")
        if round_ >= max_rounds:
            return _exhausted(task, max_rounds, "tests")
        return msgspec.structs.replace(
            _with_step(task, _changes(round_, "tests", {"tests": tests})), test_rounds=task.test_rounds + 1
        )
    if event.event == "review.completed" and event.status == "approved":
        return _with_step(task, Step(Action.UPDATE_SPEC, round_))
    if event.event in {"spec.updated", "spec.no_changes_needed"}:
        return msgspec.structs.replace(task, step=None, ended=True)
    who = "reviewer" if event.event == "review.completed" else "spec_maintainer"
    if round_ >= max_rounds:
        return _exhausted(task, max_rounds, who)
    return _with_step(task, _changes(round_, who, dict(event.payload or {})))


def _changes(round_: int, requested_by: str, request: dict[str, Any]) -> Step:
    return Step(Action.IMPLEMENT_CHANGES, round_ + 1, requested_by, request)


def _with_step(task: Task, step: Step) -> Task:
    """Return the task with its next step; what follows a step that is done anew is done anew as well."""
    retry_of = task.step.retry_of if task.step else None
    return msgspec.structs.replace(task, step=msgspec.structs.replace(step, retry_of=retry_of))


def _failed(task: Task, code: FailureCode, message: str, agent: str) -> Task:
    assert task.status is TaskStatus.RUNNING
    return msgspec.structs.replace(task, ended=True, failure=FailureNote(code, message, agent))


def _exhausted(task: Task, max_rounds: int, who: str) -> Task:
    message = f"changes were still asked for by {who} in round {max_rounds}, the last that policy.max_rounds allows"
    return _failed(task, FailureCode.ROUNDS_EXHAUSTED, message, "builder" if who == "tests" else who)


def _tests_message(tests: Object, rounds: int) -> str:
    summary = tests.get("summary")
    told = f": {summary}" if isinstance(summary, str) and summary else ""
    return f"the tests still fail after {rounds} rounds of changes for them{told}"
