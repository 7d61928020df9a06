"""Starting a new run: what its first entry says, so that nothing else is needed to resume it."""

import socket
import sys
from pathlib import Path
from typing import Final

import msgspec

from lorch_actors import __version__
from lorch_actors.actors.opening import Opening, agent_object, opening_event
from lorch_actors.actors.request import RunRequest
from lorch_actors.errors import ConfigError, UsageError
from lorch_actors.protocol.checksums import checksum
from lorch_actors.protocol.configuration import Policy
from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.messages import ROLES, Object
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.protocol.tasks import TaskSettings
from lorch_actors.records.history import Loaded, newest_unfinished, next_steps
from lorch_actors.storage import disk
from lorch_actors.storage.atomic import write_atomic
from lorch_actors.storage.ledger import Position
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.parts import FileRef, GitPlan, ProcessRef
from lorch_actors.workflow.state import LOOP_ROLES, Run
from lorch_actors.workflow.system import RunStarted

TASKS_INLINE_BYTES: Final = 128 * 1024
TASKS_FILE_MAX_BYTES: Final = 1 << 30


def start_run(
    request: RunRequest, workspace: Workspace, run_id: str, process: ProcessRef, redactor: Redactor
) -> Opening:
    """Return how a new run starts. Raises UsageError while another is unfinished, ConfigError, StorageError."""
    if not request.new:
        unfinished = newest_unfinished(workspace)
        if unfinished is not None and unfinished != run_id:
            raise UsageError(
                f"run {unfinished} is unfinished",
                remedy="`lorch resume` goes on with it; `lorch run --new` leaves it and starts another.",
            )
    configuration = request.configuration
    source = request.from_file or request.config
    declared = [_declared(task, redactor, f"{source}, task {nth}") for nth, task in enumerate(request.tasks, start=1)]
    plan = _git_plan(workspace.root, run_id, configuration.policy)
    inline, file = _tasks(workspace, run_id, declared)
    agents: Object = {role: agent_object(configuration.agents.of(role), redactor) for role in ROLES}
    note = RunStarted(
        policy=msgspec.to_builtins(configuration.policy),
        agents=agents,
        task_count=len(declared),
        tasks=inline,
        tasks_file=file,
        snapshot=msgspec.to_builtins(configuration.snapshot),
        on_failure=request.on_failure or ("continue" if plan.mode == "commit" else "stop"),
        git=plan,
        configured_budget=msgspec.to_builtins(request.configured_budget),
        first_steps=next_steps(workspace, (task.id for task in request.tasks)),
        workspace_root=str(workspace.root),
        host=socket.gethostname(),
        command=[redactor.text(word) for word in sys.orig_argv],
        version=__version__,
        process=process,
    )
    return Opening(
        run_id=run_id,
        loaded=Loaded(Run(run_id, planned=[] if file is None else declared), Position.start(run_id)),
        event=opening_event(note, run_id, 0),
        policy=configuration.policy,
        agents={role: configuration.agents.of(role) for role in LOOP_ROLES},
        include=tuple(configuration.snapshot.include),
        exclude=tuple(configuration.snapshot.exclude),
        redactor=redactor,
    )


def _declared(task: TaskSettings, redactor: Redactor, where: str) -> Object:
    """Return a task as it is declared in the ledger and stands in the inputs of its commands, without secrets.

    Raises ConfigError for a secret in what must not be changed: ids and paths name things.
    """
    outputs = [output.as_object() for output in task.expected_outputs]
    for key, value in (("id", task.id), ("expected_outputs", outputs)):
        secret = redactor.secret_in(value)
        if secret is not None:
            raise ConfigError(
                f"{key} holds the value of the variable {secret}, which counts as a secret and would be written down",
                where=where,
                remedy=f"Choose another {key}; or, if it is no secret, run without {secret} in the environment.",
            )
    try:
        declared: Object = {"id": task.id, **redactor.object(task.inputs)}
    except InvalidLine as error:
        raise ConfigError(error.reason, where=where, remedy="Name them otherwise.") from None
    if task.priority:
        declared["priority"] = task.priority
    return declared | {"expected_outputs": outputs} if outputs else declared


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


def _git_plan(root: Path, run_id: str, policy: Policy) -> GitPlan:
    if policy.git == "off":
        return GitPlan("off", "policy.git is off")
    from lorch_actors.storage import git

    found = git.examine(root)
    if found.mode == "off":
        return GitPlan("off", found.reason)
    return GitPlan("commit", "", f"lorch/{run_id}", found.head, found.branch)
