"""How an orchestrator takes a run over: the values that a new and a resumed run start from alike."""

import os
import time

from msgspec import Struct

from lorch_actors import processes
from lorch_actors.errors import ExitCode, InterruptedRun
from lorch_actors.protocol.configuration import AgentSettings, Configuration, Policy
from lorch_actors.protocol.messages import ROLES, Event, Object
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.records.history import Loaded
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.state import Run
from lorch_actors.workflow.system import RunResumed, RunStarted


class Opening(Struct, frozen=True):
    """A run that may start. event: the first entry of this orchestrator. loaded: the run so far."""

    run_id: str
    loaded: Loaded
    event: Event
    policy: Policy
    agents: dict[str, AgentSettings]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    redactor: Redactor


class Settled(Struct, frozen=True):
    """There is nothing to do: what to say, and the exit code. ``run``: the one that is over, if one is meant."""

    code: ExitCode
    message: str = ""
    run: Run | None = None


def agent_object(settings: AgentSettings, redactor: Redactor) -> Object:
    """Return an agent's settings for the ledger: the names of its variables, never their values."""
    told: Object = {
        "enabled": settings.enabled,
        "cmd": [redactor.text(word) for word in settings.cmd],
        "heartbeat_interval_s": settings.heartbeat_interval_s,
        "timeouts_s": dict(settings.timeouts_s),
        "env": sorted(settings.env),
        "permissions": settings.permissions,
    }
    return told if settings.account is None else told | {"account": redactor.text(settings.account)}


def redactor_for(configuration: Configuration) -> Redactor:
    """Return what keeps the secrets of our environment and of the agents' out of everything."""
    if not configuration.policy.redact_secrets_in_logs:
        return Redactor()
    return Redactor(os.environ, *(configuration.agents.of(role).env for role in ROLES))


def opening_event(note: RunStarted | RunResumed, run_id: str, nth: int) -> Event:
    """Return the entry with which an orchestrator takes a run over; ``nth``: 0, or the number of the resume."""
    now_ms = time.time_ns() // 1_000_000
    return event_of(note, task_id=run_id, correlation_id=run_id, now_ms=now_ms, cause=(nth,))


def this_process() -> ProcessRef:
    """Return the orchestrator as it can be found again. Raises InterruptedRun if /proc does not tell."""
    identity = processes.identify(os.getpid())
    if identity is None:
        raise InterruptedRun("this system does not tell processes apart", where="/proc", remedy="Mount /proc.")
    return ProcessRef(*identity)
