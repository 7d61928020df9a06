"""``fold(run, entry) -> run``: what an entry of the ledger means.

Total over every schema-valid entry: what does not concern the run, comes from an incarnation that no longer counts, or
does not have the shape it should have, changes nothing. A terminal event counts only if it answers the latest
delivery: same task, same correlation, from the role that has the command, while the incarnation it was delivered to is
up (whose events an entry carries follows from where it stands between `agent_started` and `agent_exited`).
"""

from typing import Final

from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.messages import (
    ROLE_OF_ACTION,
    TERMINAL_EVENTS,
    AgentType,
    Command,
    Entry,
    Event,
)
from lorch_actors.workflow import approvals, budget, fold_agents, fold_run
from lorch_actors.workflow.judging import next_after, objection
from lorch_actors.workflow.payloads import Payload, payload_of
from lorch_actors.workflow.state import (
    RECEIPT_EVENTS_MAX,
    RECEIPT_ID_MAX_CHARS,
    STAGE_OF,
    Answer,
    Loss,
    Meaning,
    Pending,
    Run,
    Settled,
    Told,
    with_pending,
    with_task,
)
from lorch_actors.workflow.system import (
    ActorRestarted,
    ArtifactsRejected,
    ArtifactsVerified,
    CommandTimedOut,
    RunResumed,
    RunStarted,
    WorkerStarted,
)

_TIMELESS: Final = (WorkerStarted, ActorRestarted)
"""What may stand before the entry that begins or resumes the run: no work was done until then."""


def fold(run: Run, entry: Entry) -> Run:
    """Return the run after ``entry``."""
    message = entry.message
    if isinstance(message, Command):
        return _fold_command(run, entry, message)
    if not isinstance(message, Event):  # heartbeats and logs
        return run
    if message.sender.agent_type is not AgentType.SYSTEM:
        return _fold_agent_event(run, entry, message)
    if message.event == "error":
        return _fold_objection(run, message)
    known = _SYSTEM.get(message.event)
    if known is None:
        return run
    kind, meaning = known
    note = payload_of(message, kind)
    if note is None:
        return run
    told = Told(message.task_id, message.correlation_id, message.occurred_at, entry.heard_ms)
    if not isinstance(note, _TIMELESS):
        run = budget.ticked(run, message.occurred_at, is_after_pause=_is_after_pause(note))
    return meaning(run, note, told)


def _is_after_pause(note: Payload) -> bool:
    """Tell whether nobody worked on the run before this entry."""
    return isinstance(note, RunStarted) or (isinstance(note, RunResumed) and not note.at_once)


def _fold_command(run: Run, entry: Entry, command: Command) -> Run:
    task = run.task
    if task is None or command.task_id != task.task_id or task.ended:
        return run
    pending = task.pending
    if pending is None:
        pending = Pending(command=command)
    elif pending.command.correlation_id != command.correlation_id:
        return run
    up = run.agent(command.to.agent_type).up
    live = up is not None and up == command.to.agent_id
    pending = replace(
        approvals.delivered_anew(pending),
        deliveries=pending.deliveries + 1,
        deadline=command.deadline,
        delivered_to=up if live else None,
        delivered_ms=entry.heard_ms,
        answer=None,
        loss=None,
        counted=False,
    )
    task = replace(task, pending=pending, stage=STAGE_OF[command.action], attempts=task.attempts + 1)
    return budget.sent(replace(with_task(run, task), last_command_id=command.message_id))


def _fold_agent_event(run: Run, entry: Entry, event: Event) -> Run:
    task = run.task
    pending = task.pending if task is not None else None
    if task is None or task.ended or pending is None or not _is_live(run, pending, event):
        return run
    terminal = is_terminal(event)
    if pending.deaths:
        pending = replace(pending, deaths=0)
    if pending.answer is None and (terminal or event.event == "artifact.produced"):
        known = event.message_id[:RECEIPT_ID_MAX_CHARS]
        pending = replace(pending, event_ids=(*pending.event_ids[-RECEIPT_EVENTS_MAX + 1 :], known))
    run = replace(run, last_event_id=event.message_id)
    if terminal and pending.answer is None and not pending.counted:
        run = budget.told(run, event, pending.event_ids)  # also what comes too late has been paid for
        pending = replace(pending, counted=True)
    if event.event == "approval.requested" and pending.answer is None and pending.loss is None:
        pending = approvals.requested(pending, event, entry)
    if not terminal or pending.answer is not None or pending.loss is not None:
        return run if pending is task.pending else with_task(run, replace(task, pending=pending))
    found = objection(event, pending.command, strict_version=run.policy.strict_version_pinning)
    if event.event == "error":
        # who is asked to go may well complain about it
        loss = found if run.stopped is None else None
        return with_task(run, replace(task, pending=replace(pending, loss=loss)))
    pending = replace(pending, answer=Answer(entry.seq, event, found))
    run = with_task(run, replace(task, pending=pending))
    if found is not None or needs_verification(event, pending.command):
        return run
    return _settle(run, event.occurred_at)


def is_terminal(event: Event) -> bool:
    """Tell whether the event ends a command of its sender."""
    return event.sender.agent_type in TERMINAL_EVENTS.get(event.event, ())


def needs_verification(event: Event, command: Command) -> bool:
    """Tell whether there is anything to check on disk before the event settles its command."""
    return bool(event.artifacts) or any(output.required for output in command.expected_outputs)


def _is_live(run: Run, pending: Pending, event: Event) -> bool:
    command = pending.command
    role = ROLE_OF_ACTION[command.action]
    return (
        event.correlation_id == command.correlation_id
        and event.task_id == command.task_id
        and event.sender.agent_type == role
        and pending.delivered_to is not None
        and pending.delivered_to == run.agent(role).up
    )


def _settle(run: Run, settled_at: str) -> Run:
    """Return the run after the pending command's answer has become its outcome."""
    task, pending = run.task, run.pending
    assert task is not None
    assert pending is not None
    assert pending.answer is not None
    event, command = pending.answer.event, pending.command
    role = ROLE_OF_ACTION[command.action]
    settled = Settled(task.task_id, task.next_step, command, event, pending.event_ids, settled_at)
    claims = {**task.claims, **{artifact.place: artifact for artifact in event.artifacts or ()}}
    task = replace(task, pending=None, next_step=task.next_step + 1, claims=claims, last_key=command.idempotency_key)
    task = next_after(task, event, test_rounds=run.policy.test_rounds, max_rounds=run.policy.max_rounds)
    if task.step is not None:
        task = replace(task, rounds=task.step.round, stage=STAGE_OF[task.step.action])
    agent = replace(run.agent(role), restarts=0, useful=True)
    return replace(
        with_task(run, task),
        agents={**run.agents, role: agent},
        terminal_events={**run.terminal_events, role: event.event},
        last_settled=settled,
        settled_count=run.settled_count + 1,
    )


def _artifacts_verified(run: Run, note: ArtifactsVerified, told: Told) -> Run:
    pending = run.pending
    if pending is None or pending.answer is None or pending.answer.seq != note.event_seq:
        return run
    return run if pending.answer.objection else _settle(run, told.occurred_at)


def _artifacts_rejected(run: Run, note: ArtifactsRejected, _told: Told) -> Run:
    pending = run.pending
    if pending is None or pending.answer is None or pending.answer.seq != note.event_seq:
        return run
    return with_pending(run, replace(pending, answer=None, loss=Loss(note.code, note.message)))


def _command_timed_out(run: Run, note: CommandTimedOut, told: Told) -> Run:
    pending = run.pending
    if pending is None or told.correlation_id != pending.command.correlation_id:
        return run
    if pending.deliveries != note.delivery or pending.delivered_to is None or pending.answer is not None:
        return run
    return with_pending(run, replace(pending, loss=Loss(FailureCode.DEADLINE_PASSED, note.message)))


def _fold_objection(run: Run, event: Event) -> Run:
    """Fold an `error` that the orchestrator wrote: its objection to the answer of the command under way."""
    pending = run.pending
    if pending is None or event.correlation_id != pending.command.correlation_id or pending.loss is not None:
        return run
    if pending.delivered_to is None if pending.answer is None else pending.answer.objection is None:
        return run
    found = objection(event, pending.command, strict_version=False)
    return with_pending(run, replace(pending, answer=None, loss=found))


_MEANINGS: Final[dict[type[Payload], Meaning]] = {
    **fold_run.MEANINGS,
    **fold_agents.MEANINGS,
    **approvals.MEANINGS,
    ArtifactsVerified: _artifacts_verified,
    ArtifactsRejected: _artifacts_rejected,
    CommandTimedOut: _command_timed_out,
}
_SYSTEM: Final = {f"system.{kind.name}": (kind, meaning) for kind, meaning in _MEANINGS.items()}
