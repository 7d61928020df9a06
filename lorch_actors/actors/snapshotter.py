"""The snapshotter: everything that reads or changes the tree on the orchestrator's behalf.

It captures snapshots, checks the artifacts that agents claim, tells drift, and makes the commits. The front passes
orders on; the worker carries them out in a process of its own and answers with the event that says what came of it,
under an id derived from the order. Every order may be carried out twice.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.ring import LEDGER, MAIN, Append, Broken, Work
from lorch_actors.actors.worker import Worker, WorkerContext
from lorch_actors.actors.worker_records import worker_started
from lorch_actors.errors import FailureCode, GitError, PathRefused, SnapshotError, StorageError
from lorch_actors.processes import ProcessIdentity
from lorch_actors.protocol.messages import Event
from lorch_actors.protocol.parse import decode, encode
from lorch_actors.protocol.times import to_timestamp
from lorch_actors.storage import disk
from lorch_actors.storage.artifacts import Mode, verify_artifacts
from lorch_actors.storage.manifests import drift, manifest, read_manifest, write_manifest, written_name
from lorch_actors.storage.snapshots import capture
from lorch_actors.storage.stat_cache import StatCache
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.orders import BeginBranch, Capture, CheckDrift, Commit, Verify
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.state import Run
from lorch_actors.workflow.system import (
    ArtifactsRejected,
    ArtifactsVerified,
    BranchCreated,
    CommitFailed,
    CommitMade,
    SnapshotCaptured,
    SnapshotFailed,
    WorkspaceDrift,
)

NOTED_MAX: Final = 100
_ORDERS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind for kind in (Capture, CheckDrift, Verify, BeginBranch, Commit)
}

Progress = Callable[[], None]


class TreePlace(Struct, frozen=True):
    """Whose tree, and what of it is tracked."""

    root: Path
    run_id: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    verify: Mode
    artifact_max_bytes: int


class SnapshotWorker(Worker):
    """Carries out orders. A message is ``{"kind", "order", "task_id", "correlation_id"}``; the reply the event."""

    def __init__(self, place: TreePlace) -> None:
        self._place = place
        self._workspace = Workspace(place.root)
        self._cache: StatCache | None = None

    def handle(self, messages: Sequence[Any], context: WorkerContext) -> Iterable[Any]:
        """Carry out the orders one after the other."""
        for message in messages:
            order = msgspec.json.decode(message["order"], type=_ORDERS[message["kind"]])
            try:
                payload = self._carry_out(order, context)
            except StorageError as error:
                yield {"refused": [error.what, error.where, error.remedy]}
                return
            event = event_of(
                payload,
                task_id=message["task_id"],
                correlation_id=message["correlation_id"],
                now_ms=context.clock.wall_ms(),
                cause=(order.key,),
            )
            yield {"event": encode(event)}

    def _carry_out(self, order: Any, context: WorkerContext) -> Payload:
        progress = context.progress
        match order:
            case Capture():
                return self._capture(progress, context.clock.wall_ms())
            case CheckDrift():
                return self._drift(order, progress)
            case Verify():
                return self._verify(order, progress)
            case BeginBranch():
                return self._begin(order, progress)
            case Commit():
                return self._commit(order, progress)
        raise TypeError(f"no such order: {order!r}")

    def _snapshot(self, progress: Progress) -> Any:
        if self._cache is None:
            self._cache = StatCache.load(self._workspace.stat_cache)
        place = self._place
        return capture(place.root, place.include, place.exclude, self._cache, progress)

    def _capture(self, progress: Progress, now_ms: int) -> Payload:
        try:
            snapshot = self._snapshot(progress)
        except (SnapshotError, PathRefused) as error:
            return SnapshotFailed(str(error))
        assert self._cache is not None
        path = self._workspace.manifest(snapshot.snapshot_id)
        if not disk.exists(path):
            write_manifest(path, snapshot, to_timestamp(now_ms), str(self._place.root))
        self._cache.save()
        return SnapshotCaptured(
            snapshot_id=snapshot.snapshot_id,
            files=snapshot.files + snapshot.links,
            size_bytes=snapshot.size_bytes,
            skipped=len(snapshot.skipped),
            manifest=str(path.relative_to(self._workspace.root)),
        )

    def _drift(self, order: CheckDrift, progress: Progress) -> Payload:
        try:
            then = read_manifest(self._workspace.manifest(order.snapshot_id))
            now = manifest(self._snapshot(progress), "", "")
        except (SnapshotError, PathRefused):
            return WorkspaceDrift(count=0)
        found = drift(then, now, order.claimed)
        paths = [*found.added, *found.changed, *found.removed]
        return WorkspaceDrift(count=len(paths), paths=sorted(paths)[:NOTED_MAX])

    def _verify(self, order: Verify, progress: Progress) -> Payload:
        place = self._place
        verdict = verify_artifacts(
            place.root,
            order.artifacts,
            order.expected_outputs,
            max_bytes=place.artifact_max_bytes,
            mode=place.verify,
            on_progress=progress,
        )
        if not verdict.problems:
            warnings = [msgspec.to_builtins(one) for one in verdict.warnings[:NOTED_MAX]]
            return ArtifactsVerified(event_seq=order.event_seq, warnings=warnings)
        first = verdict.problems[0]
        problems = [msgspec.to_builtins(one) for one in verdict.problems[:NOTED_MAX]]
        message = f"{first.path}: {first.message}"
        return ArtifactsRejected(event_seq=order.event_seq, code=first.code, message=message, problems=problems)

    def _begin(self, order: BeginBranch, progress: Progress) -> Payload:
        from lorch_actors.storage import git

        try:
            git.begin(self._place.root, self._place.run_id, order.base, progress)
        except GitError as error:
            return CommitFailed(purpose="branch", message=str(error))
        return BranchCreated(branch=order.branch, base=order.base)

    def _commit(self, order: Commit, progress: Progress) -> Payload:
        from lorch_actors.storage import git

        place = self._place
        try:
            if order.purpose == "set_aside":
                made = git.set_aside(
                    place.root,
                    place.run_id,
                    order.task_id,
                    order.title,
                    order.intended_at,
                    order.reason,
                    order.base or None,
                    progress,
                )
                head = made.parent
            else:
                made = git.commit_task(
                    place.root, place.run_id, order.task_id, order.title, order.intended_at, on_progress=progress
                )
                head = made.commit or made.parent
        except GitError as error:
            return CommitFailed(purpose=order.purpose, message=str(error))
        return CommitMade(
            purpose=order.purpose,
            branch=order.branch,
            commit=made.commit or "",
            files=made.files,
            head=head,
            left_out=[written_name(path) or path for path in made.left_out[:NOTED_MAX]],
        )


class Snapshotter(ProcessActor):
    """The front. See the module."""

    def __init__(self, context: ActorContext, *, place: TreePlace, stall_ms: int = 10_000) -> None:
        super().__init__(context, create=partial(SnapshotWorker, place), stall_ms=stall_ms)
        self._place = place
        self._asked: dict[int, str] = {}  # keys of the orders that the worker has, or is to have

    def on_worker_up(self, identity: ProcessIdentity) -> None:
        """Record who works from now on."""
        worker_started(self, self._place.run_id, identity)

    def receive(self, message: Any) -> None:
        """Pass an order on to the worker, once: after a restart of anybody, all that is open is asked for again."""
        match message:
            case Work(order, run):
                if order.key not in self._asked.values():
                    self._asked[self.send(_as_message(order, run))] = order.key
            case _:
                super().receive(message)

    def on_acked(self, number: int) -> None:
        """Take the orders off that are carried out."""
        self._asked = {each: key for each, key in self._asked.items() if each > number}

    def on_reply(self, reply: Any) -> None:
        """Have the answer appended."""
        if "refused" in reply:
            what, where, remedy = reply["refused"]
            self.tell(MAIN, Broken(FailureCode.STORAGE_FAILED, f"{where}: {what}", remedy))
            return
        event = decode(reply["event"])
        assert isinstance(event, Event)
        self.tell(LEDGER, Append(event, reply["event"]))


def _as_message(order: Any, run: Run) -> dict[str, Any]:
    task_id = getattr(order, "task_id", run.run_id)
    pending = run.pending
    correlation_id = pending.command.correlation_id if pending is not None else task_id
    return {
        "kind": type(order).__name__,
        "order": msgspec.json.encode(order),  # a size that an agent claims may be any number
        "task_id": task_id,
        "correlation_id": correlation_id,
    }
