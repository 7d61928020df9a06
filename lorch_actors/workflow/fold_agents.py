"""What happens to agent processes, as the ledger tells it: started, gone, hung, to be tried again, given up."""

from typing import Final

from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.messages import ROLE_OF_ACTION, AgentRole
from lorch_actors.protocol.times import from_timestamp
from lorch_actors.workflow.accounts import limited
from lorch_actors.workflow.parts import FailureNote, ProcessRef
from lorch_actors.workflow.payloads import Payload
from lorch_actors.workflow.state import (
    Agent,
    Loss,
    Meaning,
    NotBefore,
    Pending,
    Run,
    Told,
    with_agent,
    with_pending,
    with_task,
)
from lorch_actors.workflow.system import (
    ActorRestarted,
    AgentExited,
    AgentHung,
    AgentLost,
    AgentStarted,
    AgentStartFailed,
    CommandFailed,
    RetryScheduled,
    WorkerStarted,
)


def _agent_started(run: Run, note: AgentStarted, _told: Told) -> Run:
    role = note.agent_type
    before = run.agent(role)
    agent = Agent(up=note.agent_id, starts=before.starts + 1, restarts=before.restarts)
    pending = _pending_of(run, role)
    if pending is not None and pending.delivered_to is not None:
        run = with_pending(run, replace(pending, delivered_to=None))
    return with_agent(_with_process(run, role, note.process), role, agent)


def _worker_started(run: Run, note: WorkerStarted, _told: Told) -> Run:
    return _with_process(run, note.actor, note.process)


def _with_process(run: Run, name: str, process: ProcessRef | None) -> Run:
    return run if process is None else replace(run, processes={**run.processes, name: process})


def _agent_start_failed(run: Run, note: AgentStartFailed, _told: Told) -> Run:
    role = note.agent_type
    before = run.agent(role)
    agent = replace(before, up=None, starts=before.starts + 1)
    if note.transient:
        return with_agent(run, role, replace(agent, loss=Loss(FailureCode.AGENT_NOT_STARTABLE, note.message)))
    broken = FailureNote(FailureCode.AGENT_NOT_STARTABLE, note.message, role)
    return with_agent(run, role, replace(agent, broken=broken))


def _agent_exited(run: Run, note: AgentExited, _told: Told) -> Run:
    if run.agent(note.agent_type).up != note.agent_id:
        return run
    role = note.agent_type
    if note.ours:
        return _ended_with_its_actor(run, role)
    before = run.agent(role)
    agent = replace(before, up=None, ending=False)
    pending = _pending_of(run, role)
    crash = Loss(FailureCode.AGENT_CRASHED, f"the {role} {_end_of(note)} before it answered")
    had_it = pending is not None and pending.delivered_to == note.agent_id
    never_read = note.begun is not None and note.begun != run.last_command_id
    if pending is not None and had_it:
        ended_by_us = before.ending or run.stopped is not None
        lost = pending.answer is None and pending.loss is None and not ended_by_us and not never_read
        pending = replace(pending, delivered_to=None, loss=crash if lost else pending.loss)
        run = with_pending(run, pending)
    if (not had_it or never_read) and not before.ending and not before.useful:
        agent = replace(agent, loss=replace(crash, message=f"the {role} {_end_of(note)} before it had done anything"))
    return with_agent(run, role, agent)


def _end_of(note: AgentExited) -> str:
    if note.signal is not None:
        return f"was killed by signal {note.signal}"
    return f"exited with code {note.code}" if note.code is not None else "ended"


def _agent_hung(run: Run, note: AgentHung, _told: Told) -> Run:
    if run.agent(note.agent_type).up != note.agent_id:
        return run
    pending = _pending_of(run, note.agent_type)
    if pending is None or pending.delivered_to != note.agent_id:
        return run
    if pending.answer is not None or pending.loss is not None:
        return run
    return with_pending(run, replace(pending, loss=Loss(note.code, note.message)))


def _agent_lost(run: Run, note: AgentLost, _told: Told) -> Run:
    return run if run.agent(note.agent_type).up is None else _ended_with_its_actor(run, note.agent_type)


def _ended_with_its_actor(run: Run, role: AgentRole) -> Run:
    """Fold a fault of ours: it costs no attempt, but it counts as a restart of the agent, so that there is a bound."""
    before = run.agent(role)
    agent = replace(before, up=None, ending=False)
    pending = _pending_of(run, role)
    if pending is not None and pending.delivered_to == before.up:
        is_lost = pending.answer is None and pending.loss is None and not before.ending and run.stopped is None
        if is_lost:
            agent = replace(agent, loss=Loss(FailureCode.AGENT_CRASHED, f"the {role} was ended with its actor"))
        run = with_pending(run, replace(pending, delivered_to=None))
    return with_agent(run, role, agent)


def _retry_scheduled(run: Run, note: RetryScheduled, told: Told) -> Run:
    role = note.agent_type
    agent = run.agent(role)
    steady_ms = told.heard_ms + note.delay_ms if told.heard_ms else None
    agent = replace(
        agent,
        restarts=agent.restarts if note.waited_ms else agent.restarts + 1,
        ending=agent.up is not None and agent.up == note.agent_id,
        not_before=NotBefore(from_timestamp(note.not_before), steady_ms, note.delay_ms),
        loss=None,
    )
    pending = _pending_of(run, role)
    if pending is not None:
        pending = replace(
            pending,
            attempt=note.attempt,
            waited_ms=pending.waited_ms + note.waited_ms,
            waits=pending.waits + 1 if note.waited_ms else pending.waits,
            delivered_to=None,
            answer=None,
            loss=None,
        )
        run = with_pending(run, pending)
    run = replace(run, restarts={**run.restarts, role: run.restarts.get(role, 0) + 1})
    run = with_agent(run, role, agent)
    return run if note.limit is None else limited(run, role, note.limit, told)


def _command_failed(run: Run, note: CommandFailed, told: Told) -> Run:
    task = run.task
    if task is None or told.task_id != task.task_id or task.ended:
        return run
    task = replace(task, ended=True, failure=note.failure)
    if note.limit is not None and note.failure.agent is not None:
        run = limited(run, note.failure.agent, note.limit, told)
    for role, agent in run.agents.items():
        if agent.up is not None and agent.up == note.agent_id:
            run = with_agent(run, role, replace(agent, ending=True))
    return with_task(run, task)


def _actor_restarted(run: Run, note: ActorRestarted, _told: Told) -> Run:
    return replace(run, restarts={**run.restarts, note.actor: run.restarts.get(note.actor, 0) + 1})


def _pending_of(run: Run, role: str) -> Pending | None:
    pending = run.pending
    return pending if pending is not None and ROLE_OF_ACTION[pending.command.action] == role else None


MEANINGS: Final[dict[type[Payload], Meaning]] = {
    AgentStarted: _agent_started,
    AgentStartFailed: _agent_start_failed,
    AgentExited: _agent_exited,
    AgentHung: _agent_hung,
    AgentLost: _agent_lost,
    RetryScheduled: _retry_scheduled,
    CommandFailed: _command_failed,
    ActorRestarted: _actor_restarted,
    WorkerStarted: _worker_started,
}
