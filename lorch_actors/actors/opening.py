"""Before the first actor: which run this is, what it starts from, and whether it may start at all.

Whatever is wrong is said here, before anything is begun: an unfinished run, a finished one, a damaged ledger, drift.
The result is the entry with which this orchestrator takes the run over.
"""

import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lorch_actors import __version__, processes
from lorch_actors.errors import ConfigError, ExitCode, InterruptedRun, UsageError
from lorch_actors.protocol.checksums import checksum
from lorch_actors.protocol.configuration import AgentSettings, Configuration, Policy
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import ROLES, Event, Object
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.records.history import Loaded, load_run, newest_unfinished, next_steps
from lorch_actors.storage import disk, git
from lorch_actors.storage.atomic import write_atomic
from lorch_actors.storage.ledger import Position
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.state import LOOP_ROLES, Run
from lorch_actors.workflow.system import FileRef, GitPlan, ProcessRef, RunResumed, RunStarted, event_of

if TYPE_CHECKING:
    from lorch_actors.cli.request import RunRequest
    from lorch_actors.guardian.link import GuardianLink

TASKS_INLINE_BYTES: Final = 128 * 1024
TASKS_FILE_MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Opening:
    """A run that may start. event: the first entry of this orchestrator. loaded: the run so far."""

    run_id: str
    loaded: Loaded
    event: Event
    policy: Policy
    agents: dict[str, AgentSettings]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    redactor: Redactor


@dataclass(frozen=True)
class Settled:
    """There is nothing to do: what to say, and the exit code. ``run``: whose report is to be shown, if any."""

    code: ExitCode
    message: str = ""
    run: Run | None = None


def choose_run(
    request: "RunRequest", link: "GuardianLink", workspace: Workspace, held_before: str | None
) -> str | None:
    """Return the id of the run that is meant, None if nothing is unfinished.

    held_before: the run that the lock file named, which a restarted orchestrator of `resume` goes on with.
    """
    if not request.resume:
        return link.run_id
    if request.run_id is not None:
        return request.run_id
    if link.start > 0 and held_before:
        return held_before
    return newest_unfinished(workspace)


def open_run(
    request: "RunRequest", link: "GuardianLink", workspace: Workspace, run_id: str | None, process: ProcessRef
) -> Opening | Settled:
    """Return how the run starts, or why there is nothing to start. Raises LorchError for what has to be refused."""
    redactor = _redactor(request.configuration)
    if run_id is None:
        return Settled(ExitCode.DONE, "" if request.if_unfinished else "nothing is unfinished here")
    if request.resume or (link.start > 0 and workspace.ledger(run_id).exists()):
        loaded = load_run(workspace, run_id)
        if loaded.run.started:
            return _resumed(request, link, workspace, loaded, process, redactor)
        if request.resume:
            raise UsageError(
                f"run {run_id} was interrupted before its first entry, so there is nothing to resume",
                remedy="Start it again: `python -m lorch_actors run --new …`.",
            )
    return _started(request, workspace, run_id, process, redactor)


# -- a new run ------------------------------------------------------------------------------------------------------


def _started(
    request: "RunRequest", workspace: Workspace, run_id: str, process: ProcessRef, redactor: Redactor
) -> Opening:
    if not request.new:
        unfinished = newest_unfinished(workspace)
        if unfinished is not None and unfinished != run_id:
            raise UsageError(
                f"run {unfinished} is unfinished",
                remedy="`python -m lorch_actors resume` goes on with it; `run --new` leaves it and starts another.",
            )
    configuration = request.configuration
    _require_loop(configuration)
    declared = [redactor.object(_declared(task)) for task in request.tasks]
    plan = _git_plan(workspace.root, run_id, configuration.policy)
    inline, file = _tasks(workspace, run_id, declared)
    agents: Object = {role: _agent_object(configuration.agents.of(role), redactor) for role in ROLES}
    note = RunStarted(
        policy=msgspec.to_builtins(configuration.policy),
        agents=agents,
        task_count=len(declared),
        tasks=inline,
        tasks_file=file,
        snapshot=msgspec.to_builtins(configuration.snapshot),
        on_failure=request.on_failure or ("continue" if plan.mode == "commit" else "stop"),
        git=plan,
        first_steps=next_steps(workspace, (task.id for task in request.tasks)),
        workspace_root=str(workspace.root),
        host=socket.gethostname(),
        command=[redactor.text(word) for word in sys.orig_argv],
        version=__version__,
        process=process,
    )
    return Opening(
        run_id=run_id,
        loaded=Loaded(Run(run_id), Position.start(run_id)),
        event=_event(note, run_id, 0),
        policy=configuration.policy,
        agents={role: configuration.agents.of(role) for role in LOOP_ROLES},
        include=tuple(configuration.snapshot.include),
        exclude=tuple(configuration.snapshot.exclude),
        redactor=redactor,
    )


def _require_loop(configuration: Configuration) -> None:
    disabled = [role for role in LOOP_ROLES if not configuration.agents.of(role).enabled]
    if disabled:
        raise ConfigError(
            f"the loop needs {', '.join(disabled)}, which the configuration disables",
            where="$.agents",
            remedy=f"Set agents.{disabled[0]}.enabled to true.",
        )


def _declared(task: Any) -> Object:
    """Return a task as it is declared in the ledger and stands in the inputs of its commands."""
    declared: Object = {"id": task.id, **task.inputs}
    if task.priority:
        declared["priority"] = task.priority
    if task.expected_outputs:
        declared["expected_outputs"] = [output.as_object() for output in task.expected_outputs]
    return declared


def _tasks(workspace: Workspace, run_id: str, declared: list[Object]) -> tuple[list[Object] | None, FileRef | None]:
    """Return the tasks as the first entry holds them; many of them go into a file that the entry names."""
    content = msgspec.json.encode(declared)
    if len(content) <= TASKS_INLINE_BYTES:
        return declared, None
    path = workspace.requests / f"{run_id}.tasks.json"
    write_atomic(path, content + b"\n")
    relative = str(path.relative_to(workspace.root))
    return None, FileRef(relative, checksum(content + b"\n"), len(content) + 1)


def planned_tasks(workspace: Workspace, run: Run) -> list[Object]:
    """Return the tasks that did not fit into the first entry. Raises ConfigError if their file is not as it was."""
    file = run.tasks_file
    if file is None:
        return run.planned
    content = disk.read_file(workspace.root / file.path, TASKS_FILE_MAX_BYTES)
    if content is None or checksum(content) != file.sha256:
        raise ConfigError(
            "the file with the tasks of this run is absent or was changed",
            where=str(workspace.root / file.path),
            remedy="Put it back; or start anew with `run --new`.",
        )
    tasks: list[Object] = msgspec.json.decode(content)
    return tasks


def _agent_object(settings: AgentSettings, redactor: Redactor) -> Object:
    """Return an agent's settings for the ledger: the names of its variables, never their values."""
    return {
        "enabled": settings.enabled,
        "cmd": [redactor.text(word) for word in settings.cmd],
        "heartbeat_interval_s": settings.heartbeat_interval_s,
        "timeouts_s": dict(settings.timeouts_s),
        "env": sorted(settings.env),
    }


def _git_plan(root: Path, run_id: str, policy: Policy) -> GitPlan:
    if policy.git == "off":
        return GitPlan("off", "policy.git is off")
    found = git.examine(root)
    if found.mode == "off":
        return GitPlan("off", found.reason)
    return GitPlan("commit", "", f"lorch/{run_id}", found.head, found.branch)


# -- a run that is there already ------------------------------------------------------------------------------------


def _resumed(
    request: "RunRequest",
    link: "GuardianLink",
    workspace: Workspace,
    loaded: Loaded,
    process: ProcessRef,
    redactor: Redactor,
) -> Opening | Settled:
    run = loaded.run
    over = _over(request, link, run)
    if over is not None:
        return over
    if request.strict_drift:
        _refuse_drift(workspace, run)
    changes = _changes(run, request.configuration, redactor)
    note = RunResumed(
        nth=run.resumes + 1,
        first_steps=next_steps(workspace, run.tasks),
        retry_failed=request.retry_failed,
        config_changes=changes,
        process=process,
    )
    snapshot = run.snapshot_settings
    return Opening(
        run_id=run.run_id,
        loaded=loaded,
        event=_event(note, run.run_id, run.resumes + 1),
        policy=run.policy,
        agents={role: _agent_of(run, role, request.configuration, redactor) for role in LOOP_ROLES},
        include=tuple(snapshot.get("include", ())),
        exclude=tuple(snapshot.get("exclude", ())),
        redactor=redactor,
    )


def _over(request: "RunRequest", link: "GuardianLink", run: Run) -> Settled | None:
    """Return what to say of a run that is over, None if it can go on."""
    if run.status is RunStatus.RUNNING:
        return None
    if run.status is RunStatus.COMPLETED:
        message = "" if request.if_unfinished else f"run {run.run_id} is completed; there is nothing to resume"
        return Settled(ExitCode.DONE, message, run if link.start > 0 else None)
    if link.start > 0:
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
    kept: tuple[str, ...] = ("enabled", "heartbeat_interval_s", "timeouts_s")
    settings: Object = {key: recorded[key] for key in kept if key in recorded}
    names = recorded.get("env", [])
    env = {name: in_force.env[name] for name in names if name in in_force.env}
    whole: Object = {**settings, "cmd": cmd, "env": env}
    return msgspec.convert(whole, AgentSettings)


def _changes(run: Run, configuration: Configuration, redactor: Redactor) -> list[str]:
    """Return what the configuration in force says other than the run, as JSON paths; the run goes on as it was."""
    agents: Object = {role: _agent_object(configuration.agents.of(role), redactor) for role in ROLES}
    now: Object = {
        "policy": msgspec.to_builtins(configuration.policy),
        "agents": agents,
        "snapshot": msgspec.to_builtins(configuration.snapshot),
    }
    then: Object = {
        "policy": msgspec.to_builtins(run.policy),
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


# -- both -----------------------------------------------------------------------------------------------------------


def _redactor(configuration: Configuration) -> Redactor:
    if not configuration.policy.redact_secrets_in_logs:
        return Redactor()
    return Redactor(os.environ, *(configuration.agents.of(role).env for role in ROLES))


def _event(note: RunStarted | RunResumed, run_id: str, nth: int) -> Event:
    now_ms = time.time_ns() // 1_000_000
    return event_of(note, task_id=run_id, correlation_id=run_id, now_ms=now_ms, cause=(nth,))


def this_process() -> ProcessRef:
    """Return the orchestrator as it can be found again. Raises InterruptedRun if /proc does not tell."""
    identity = processes.identify(os.getpid())
    if identity is None:
        raise InterruptedRun("this system does not tell processes apart", where="/proc", remedy="Mount /proc.")
    return ProcessRef(*identity)


def end_leftovers(run: Run, other_run_id: str | None) -> None:
    """End what dead orchestrators left: whatever carries a run's marker, or stands in the ledger and is still alive."""
    run_ids: set[str] = {each for each in (run.run_id, other_run_id) if each}
    recorded = [processes.ProcessIdentity(*msgspec.structs.astuple(ref)) for ref in run.processes.values()]

    def find() -> set[int]:
        found: set[int] = set()
        for run_id in run_ids:
            found |= processes.marked("LORCH_RUN_ID", run_id)
        found |= {identity.pid for identity in recorded if processes.is_alive(identity)}
        for pid in tuple(found):
            found |= processes.descendants(pid)
        return found - {os.getpid(), os.getppid()}

    if find():
        processes.end_all(find, deadline_s=5.0)
