"""Resuming a run: whether it can go on, and with what; and the end of whatever its dead processes left running."""

import os
import time
from typing import Any

import msgspec

from lorch_actors import processes
from lorch_actors.actors.opening import Opening, Settled, agent_object, opening_event, redactor_for
from lorch_actors.actors.request import RunRequest
from lorch_actors.actors.starting import start_run
from lorch_actors.errors import ConfigError, ExitCode, FailureCode, UsageError
from lorch_actors.guardian.link import GuardianLink
from lorch_actors.processes import ProcessIdentity
from lorch_actors.processes.watermark import watermarked
from lorch_actors.protocol.configuration import AgentSettings, Configuration, with_amounts
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import ROLES, Object
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.records.history import Loaded, load_run, newest_if_failed, newest_unfinished, next_steps
from lorch_actors.storage import disk
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.accounts import not_worth_waiting
from lorch_actors.workflow.budget import exhausted
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.state import LOOP_ROLES, Moment, Run
from lorch_actors.workflow.system import RunResumed


def choose_run(request: RunRequest, link: GuardianLink, workspace: Workspace, held_before: str | None) -> str | None:
    """Return the id of the run that is meant, None if nothing is unfinished.

    held_before: the run that an earlier orchestrator of this guardian had, which its successor goes on with.
    """
    if not request.resume:
        return link.run_id
    if request.run_id is not None:
        return request.run_id
    if link.start > 0 and held_before:
        return held_before
    unfinished = newest_unfinished(workspace)
    return newest_if_failed(workspace) if unfinished is None and request.retry_failed else unfinished


def nothing_there(request: RunRequest, workspace: Workspace) -> Settled:
    """Return what to say where nothing is unfinished. Raises UsageError if a run was named."""
    if request.run_id is not None:
        load_run(workspace, request.run_id)
    failed = ", and the newest run has not failed" if request.retry_failed else ""
    return Settled(ExitCode.DONE, "" if request.if_unfinished else f"nothing is unfinished here{failed}")


def open_run(
    request: RunRequest, link: GuardianLink, workspace: Workspace, run_id: str | None, process: ProcessRef
) -> Opening | Settled:
    """Return how the run starts, or why there is nothing to start. Raises LorchError for what has to be refused."""
    redactor = redactor_for(request.configuration)
    if run_id is None:
        return nothing_there(request, workspace)
    if request.resume or (link.start > 0 and disk.exists(workspace.ledger(run_id))):
        loaded = load_run(workspace, run_id)
        if loaded.run.started:
            return _resumed(request, link, workspace, loaded, process, redactor)
        if loaded.position.seq and not loaded.position.chain:
            raise UsageError(
                f"run {run_id} was made by lorch 1.5: its ledger can be read, not continued",
                where=str(workspace.ledger(run_id)),
                remedy="Start its tasks again: `lorch run --new …`.",
            )
        if request.resume:
            raise UsageError(
                f"run {run_id} was interrupted before its first entry, so there is nothing to resume",
                remedy="Start it again: `lorch run --new …`.",
            )
    return start_run(request, workspace, run_id, process, redactor)


def _resumed(
    request: RunRequest,
    link: GuardianLink,
    workspace: Workspace,
    loaded: Loaded,
    process: ProcessRef,
    redactor: Redactor,
) -> Opening | Settled:
    run = loaded.run
    # What the command asks for the moment was done with the first opening: the guardian goes on with no more than that.
    goes_on = run.process is not None and ProcessIdentity(*msgspec.structs.astuple(run.process)) in link.predecessors
    over = _over(request, run, goes_on=goes_on)
    if over is not None:
        return over
    if request.if_unfinished and not request.budget and _needs_somebody(run):
        return Settled(ExitCode.DONE, "", run)
    if request.strict_drift and not goes_on:
        _refuse_drift(workspace, run)
    changes = _changes(run, request.configuration, redactor)
    note = RunResumed(
        nth=run.resumes + 1,
        first_steps=next_steps(workspace, run.tasks, held=loaded),
        retry_failed=request.retry_failed,
        config_changes=changes,
        budget=_new_budget(run, request),
        no_wait=request.no_wait and not goes_on,
        at_once=goes_on,
        process=process,
    )
    snapshot = run.snapshot_settings
    return Opening(
        run_id=run.run_id,
        loaded=loaded,
        event=opening_event(note, run.run_id, run.resumes + 1),
        policy=run.policy,
        agents={role: _agent_of(run, role, request.configuration, redactor) for role in LOOP_ROLES},
        include=tuple(snapshot.get("include", ())),
        exclude=tuple(snapshot.get("exclude", ())),
        redactor=redactor,
    )


def _needs_somebody(run: Run) -> bool:
    """Tell whether a run stopped for what is still so: then cron would start and stop it all night."""
    now = Moment(wall_ms=time.time_ns() // 1_000_000, steady_ms=0)
    if run.stopped is None or run.stopped.code not in {FailureCode.OVER_BUDGET, FailureCode.WAIT_EXHAUSTED}:
        return False
    at_its_end = Moment(wall_ms=run.ticked_ms, steady_ms=0)
    return exhausted(run, run.task, at_its_end) is not None or not_worth_waiting(run, LOOP_ROLES, now) is not None


def _new_budget(run: Run, request: RunRequest) -> Object | None:
    if not request.budget:
        return None
    found: Object = msgspec.to_builtins(with_amounts(run.policy.budget, request.budget))
    return found


def _over(request: RunRequest, run: Run, *, goes_on: bool) -> Settled | None:
    """Return what to say of a run that is over, None if it can go on."""
    if run.status is RunStatus.RUNNING:
        return None
    if run.status is RunStatus.COMPLETED:
        message = "" if request.if_unfinished else f"run {run.run_id} is completed; there is nothing to resume"
        return Settled(ExitCode.DONE, message, run)
    if goes_on:
        return Settled(ExitCode.FAILED, "", run)
    if request.retry_failed and run.status is RunStatus.FAILED:
        return None
    raise UsageError(
        f"run {run.run_id} is over: {run.status}",
        remedy=f"`resume --run {run.run_id} --retry-failed` does its failed tasks anew; `run` starts another.",
    )


def _agent_of(run: Run, role: str, configuration: Configuration, redactor: Redactor) -> AgentSettings:
    """Return an agent as the run was started with, and the values of its variables from the configuration in force."""
    recorded = run.agent_settings.get(role, {})
    in_force = configuration.agents.of(role)  # type: ignore[arg-type]
    cmd = recorded.get("cmd", [])
    if [redactor.text(word) for word in in_force.cmd] == cmd:
        cmd = in_force.cmd  # the same, with the secrets that the ledger must not hold
    elif any("[redacted:" in word for word in cmd):
        raise ConfigError(
            f"the command of the {role} held a secret when the run was started, and lorch.json has another command now",
            where=f"$.agents.{role}.cmd",
            remedy="Give the agent its former command back, with the same variables in the environment.",
        )
    kept: tuple[str, ...] = ("enabled", "heartbeat_interval_s", "timeouts_s", "permissions", "account")
    settings: Object = {key: recorded[key] for key in kept if key in recorded}
    names = recorded.get("env", [])
    env = {name: in_force.env[name] for name in names if name in in_force.env}
    whole: Object = {**settings, "cmd": cmd, "env": env}
    return msgspec.convert(whole, AgentSettings)


def _changes(run: Run, configuration: Configuration, redactor: Redactor) -> list[str]:
    """Return what the configuration in force says other than the run, as JSON paths; the run goes on as it was."""
    agents: Object = {role: agent_object(configuration.agents.of(role), redactor) for role in ROLES}
    now: Object = {
        "policy": msgspec.to_builtins(configuration.policy),
        "agents": agents,
        "snapshot": msgspec.to_builtins(configuration.snapshot),
    }
    then: Object = {
        "policy": msgspec.to_builtins(run.policy) | {"budget": msgspec.to_builtins(run.configured_budget)},
        "agents": run.agent_settings,
        "snapshot": run.snapshot_settings,
    }
    return sorted(_differences(then, now, "$"))[:50]


def _differences(then: Any, now: Any, path: str) -> list[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        keys: set[str] = {*then, *now}
        return [found for key in keys for found in _differences(then.get(key), now.get(key), f"{path}.{key}")]
    return [] if then == now else [path]


def _refuse_drift(workspace: Workspace, run: Run) -> None:
    from lorch_actors.storage.manifests import drift, manifest, read_manifest
    from lorch_actors.storage.snapshots import capture
    from lorch_actors.storage.stat_cache import StatCache

    task = run.task
    if task is None or task.snapshot_id is None:
        return
    settings = run.snapshot_settings
    cache = StatCache.load(workspace.stat_cache)
    now = capture(workspace.root, settings.get("include", ()), settings.get("exclude", ()), cache)
    found = drift(read_manifest(workspace.manifest(task.snapshot_id)), manifest(now, "", ""), task.claims)
    paths = sorted([*found.added, *found.changed, *found.removed])
    if paths:
        raise UsageError(
            f"{len(paths)} tracked files changed without any step having claimed them: {', '.join(paths[:10])}",
            where=str(workspace.root),
            remedy="Take the changes back, or resume without --strict-drift.",
        )


def end_leftovers(run: Run, other_run_id: str | None) -> None:
    """End what dead orchestrators left: what lives with a run's marker or watermark, or by the ledger."""
    run_ids: set[str] = {each for each in (run.run_id, other_run_id) if each}
    recorded = [ProcessIdentity(*msgspec.structs.astuple(ref)) for ref in run.processes.values()]

    own = os.getpid()

    def find() -> set[int]:
        found: set[int] = set()
        for run_id in run_ids:
            found |= processes.marked("LORCH_RUN_ID", run_id) | watermarked(run_id)
        found |= {identity.pid for identity in recorded if processes.is_alive(identity)}
        for pid in tuple(found):
            found |= processes.descendants(pid)
        return found - {own, os.getppid()} - processes.descendants(own)

    if find():
        processes.end_all(find, deadline_s=5.0)
