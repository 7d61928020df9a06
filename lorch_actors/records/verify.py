"""Checking what was promised against what lies on disk; every check has a name and a promise (SPEC §4 to §6).

Reads only. A finding names the check that failed, the place, and what is wrong there.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from lorch_actors.errors import LedgerDamaged, LorchError, PathRefused, StorageError
from lorch_actors.protocol.canonical import canonical
from lorch_actors.protocol.documents import Index, Receipt, RunState, RunStatus, SnapshotManifest
from lorch_actors.protocol.ids import snapshot_id
from lorch_actors.protocol.messages import Artifact, Command, Entry, own_event, own_id
from lorch_actors.records.history import age, load_run, vouched
from lorch_actors.records.rebuild import transcript_of
from lorch_actors.storage import disk
from lorch_actors.storage.artifacts import verify_artifacts
from lorch_actors.storage.checkpoint import read_checkpoint
from lorch_actors.storage.ledger import Position, read_entries
from lorch_actors.storage.manifests import read_manifest
from lorch_actors.storage.workspace import OWN_DIRECTORIES, Workspace
from lorch_actors.workflow.fold import fold, is_terminal
from lorch_actors.workflow.keys import idempotency_key
from lorch_actors.workflow.projection import index_row, receipt, run_state
from lorch_actors.workflow.state import Run, Settled

CHECKS: Final[Mapping[str, str]] = {
    "ledger-chain": "each line of a ledger follows from the one before; none was lost, changed, doubled or moved",
    "ledger-covers-projections": "a ledger holds every entry that a projection or checkpoint stands for",
    "command-once": "no command or system message is in a ledger twice under one message id",
    "settled-once": "no command is sent again after it was settled",
    "command-key": "the idempotency key of each command is the one its content has",
    "command-own-key": "two steps never share an idempotency key",
    "receipt": "each settled command has its receipt, and it says what the ledger says",
    "receipt-cause": "each receipt has its command in a ledger",
    "run-state": "state/run.json is what the newest ledger says",
    "index": "state/index.json has a row for each run, and it is what the ledger says",
    "transcript": "a transcript is what the ledger says",
    "snapshot": "the manifest of each snapshot is there and has its id",
    "artifact": "the latest artifact claimed on each path is there as claimed",
    "completed": "a run that is called completed has completed all its tasks",
    "modes": "what was created is readable by its owner only",
}
JSON_MAX_BYTES: Final = 64 * 1024 * 1024
FINDINGS_MAX: Final = 1000


class Finding(Struct, frozen=True):
    """What is wrong: which check says so, where, and what."""

    check: str
    where: str
    what: str


class _Told(Struct):
    """What a ledger told, as far as the checks across files need it. is_whole: it holds all that is vouched for."""

    run: Run
    is_whole: bool = True
    seq: int = 0
    chain: str = ""
    receipts: dict[Path, bytes] = field(default_factory=dict)
    claims: dict[str, Artifact] = field(default_factory=dict)
    manifests: set[str] = field(default_factory=set)


def verify_workspace(workspace: Workspace, run_id: str | None = None) -> list[Finding]:
    """Return what is broken in one run, or in all runs of the workspace; nothing if every promise is kept.

    Nothing else is said of a run whose ledger is damaged. Raises UsageError for a run that is not there.
    """
    if run_id is not None and not workspace.ledger(run_id).exists():
        load_run(workspace, run_id)  # which says what is wrong with that
    found: list[Finding] = []
    told: list[_Told] = []
    for each in workspace.run_ids() if run_id is None else [run_id]:
        one = _Told(Run(each))
        try:
            found += _check_ledger(workspace, one)
        except LedgerDamaged as error:
            found.append(Finding("ledger-chain", error.where, error.what))
            continue
        if not one.is_whole:
            continue
        told.append(one)
        found += _check_snapshots(workspace, one)
        found += _check_transcript(workspace, one)
        if one.run.status is RunStatus.COMPLETED and any(t.status != "completed" for t in one.run.tasks.values()):
            found.append(Finding("completed", str(workspace.ledger(each)), "completed, but a task is not"))
    # a damaged ledger may be what a receipt is of
    found += _check_receipts(workspace, told, every=run_id is None and len(told) == len(workspace.run_ids()))
    found += _check_artifacts(workspace, told)
    found += _check_state(workspace, told, every=run_id is None)
    found += _check_modes(workspace)
    return found[:FINDINGS_MAX]


def _check_ledger(workspace: Workspace, told: _Told) -> Iterator[Finding]:
    path = workspace.ledger(told.run.run_id)
    seen: dict[str, int] = {}
    keys: dict[str, str] = {}
    settled: set[str] = set()
    vouched_for = {place.seq: place.chain for place in _vouched(workspace, told.run.run_id)}
    for entry, _ in read_entries(path, told.run.run_id):
        message = entry.message
        where = f"{path}, line {entry.seq}"
        if vouched_for.pop(entry.seq, entry.chain) != entry.chain:
            told.is_whole = False
            yield Finding("ledger-covers-projections", where, "state/ stands for another entry than this one")
        known = own_id(message)
        if known is not None:
            first = seen.setdefault(known, entry.seq)
            if first != entry.seq:
                yield Finding("command-once", where, f"{known} is already in line {first}")
        if isinstance(message, Command):
            if message.correlation_id in settled:
                yield Finding("settled-once", where, f"{message.message_id} repeats a settled command")
            if entry.chain:  # lorch 1.5 made its keys otherwise
                yield from _check_key(message, keys, where)
        before = told.run.settled_count
        told.run = fold(told.run, entry)
        told.seq, told.chain = entry.seq, entry.chain
        if told.run.settled_count != before and told.run.last_settled is not None:
            settled.add(told.run.last_settled.command.correlation_id)
            _note_settled(workspace, told, told.run.last_settled, entry)
        _note_manifest(told, entry)
    for seq in vouched_for:
        told.is_whole = False
        where = f"{path}, line {told.seq + 1}"
        yield Finding("ledger-covers-projections", where, f"the ledger ends here, but state/ stands for line {seq}")


def _vouched(workspace: Workspace, run_id: str) -> list[Position]:
    checkpoint = read_checkpoint(workspace.checkpoint, run_id)
    return [*vouched(workspace, run_id), *([checkpoint[0]] if checkpoint is not None else [])]


def _check_key(command: Command, keys: dict[str, str], where: str) -> Iterator[Finding]:
    outputs = [output.as_object() for output in command.expected_outputs]
    computed = idempotency_key(command.action, command.task_id, command.version.snapshot_id, command.inputs, outputs)
    if computed != command.idempotency_key:
        yield Finding("command-key", where, f"{command.message_id} has the key {command.idempotency_key}, not its own")
    other = keys.setdefault(command.idempotency_key, command.correlation_id)
    if other != command.correlation_id:
        yield Finding("command-own-key", where, f"{command.message_id} shares its key with the step {other}")


def _note_settled(workspace: Workspace, told: _Told, settled: Settled, entry: Entry) -> None:
    declared = told.run.tasks[settled.task_id].declared
    expected = receipt(settled, declared, entry.seq, entry.chain)
    told.receipts[workspace.receipt(settled.task_id, settled.step)] = msgspec.json.encode(expected)
    for artifact in settled.event.artifacts or ():
        told.claims[artifact.place] = artifact
    assert is_terminal(settled.event)


def _note_manifest(told: _Told, entry: Entry) -> None:
    event = own_event(entry.message)
    if event is not None and event.event == "system.snapshot_captured":
        captured = (event.payload or {}).get("snapshot_id")
        if isinstance(captured, str):
            told.manifests.add(captured)


def _check_snapshots(workspace: Workspace, told: _Told) -> Iterator[Finding]:
    for expected in sorted(told.manifests):
        path = workspace.manifest(expected)
        try:
            manifest = read_manifest(path)
            named, found = msgspec.convert(manifest, SnapshotManifest).snapshot_id, _id_of(manifest)
        except LorchError as error:
            yield Finding("snapshot", str(path), error.what)
            continue
        except msgspec.ValidationError as error:
            yield Finding("snapshot", str(path), f"it is no manifest: {error}")
            continue
        if found != expected:
            yield Finding("snapshot", str(path), f"its files have the id {found}")
        elif named != expected:
            yield Finding("snapshot", str(path), f"it says that it is {named}")


def _id_of(manifest: Mapping[str, Any]) -> str:
    entries_ = [{key: value for key, value in entry.items() if key != "mtime"} for entry in manifest["files"]]
    return snapshot_id(hashlib.sha256(canonical(entries_)).digest())


def _check_transcript(workspace: Workspace, told: _Told) -> Iterator[Finding]:
    path = workspace.transcript(told.run.run_id)
    if told.run.status is RunStatus.RUNNING or not path.exists():
        return
    if path.read_bytes() != transcript_of(workspace, told.run.run_id):
        yield Finding("transcript", str(path), "it is other than the ledger says; `rebuild` writes it again")


def _check_receipts(workspace: Workspace, told: list[_Told], *, every: bool) -> Iterator[Finding]:
    for one in told:
        for path, document in one.receipts.items():
            content = _read(path)
            if content is None:
                if one.run.status is not RunStatus.RUNNING:
                    yield Finding("receipt", str(path), "it is absent; `rebuild` writes it again")
            elif _decoded(content, Receipt) != msgspec.json.decode(document, type=Receipt):
                yield Finding("receipt", str(path), "it is other than the ledger says; `rebuild` writes it again")
    if every and all(one.chain for one in told if one.seq):  # those of lorch 1.5 say no more than its ledgers do
        expected = {path for one in told for path in one.receipts}
        for path in sorted((workspace.root / "receipts").glob("*/step-*.json")):
            if path not in expected:
                yield Finding("receipt-cause", str(path), "no ledger has a command that it could be of")


def _check_artifacts(workspace: Workspace, told: list[_Told]) -> Iterator[Finding]:
    latest: dict[str, Artifact] = {}
    for one in told:
        if one.run.policy.verify_artifacts == "strict" and not _is_elsewhere(workspace, one.run):
            latest |= one.claims
    verdict = verify_artifacts(workspace.root, latest.values(), max_bytes=1 << 62, mode="strict")
    for problem in verdict.problems:
        yield Finding("artifact", problem.path, problem.message)


def _is_elsewhere(workspace: Workspace, run: Run) -> bool:
    """Tell whether the run's work is on a branch that is not checked out, so that its files need not be here."""
    if run.git.mode != "commit":
        return False
    from lorch_actors.storage.git_runner import Git

    head = Git(workspace.root).try_run("symbolic-ref", "--quiet", "HEAD").out.decode("utf-8", "replace").strip()
    failed = any(task.status == "failed" for task in run.tasks.values())
    return failed or head != f"refs/heads/{run.git.branch}"


def _check_state(workspace: Workspace, told: list[_Told], *, every: bool) -> Iterator[Finding]:
    index = _decoded(_read(workspace.index), Index)
    rows = {row.run_id: row for row in index.runs} if isinstance(index, Index) else {}
    expected = {one.run.run_id: index_row(one.run, one.seq, one.chain) for one in told}
    known = [row for row in (*rows.values(), *expected.values()) if row is not None]
    newest = max(known, key=age).run_id if known else None
    for one in told:
        run = one.run
        if run.status is RunStatus.RUNNING or run.started_at is None:
            continue
        if rows.get(run.run_id) != expected[run.run_id]:
            yield Finding(
                "index", str(workspace.index), f"the row of {run.run_id} is absent or not what its ledger says"
            )
        if run.run_id == newest:
            state = _decoded(_read(workspace.run_state), RunState)
            if state != run_state(run, one.seq, one.chain):
                yield Finding("run-state", str(workspace.run_state), f"it is not what the ledger of {newest} says")
    if every:
        for run_id in rows.keys() - set(workspace.run_ids()):
            yield Finding("index", str(workspace.index), f"the ledger of {run_id} is gone")


def _check_modes(workspace: Workspace) -> Iterator[Finding]:
    homes = str(workspace.root / "state" / "agents" / "homes")
    for name in OWN_DIRECTORIES:
        if name in {"reviews", "spec_notes"}:
            continue  # their files are written by agents
        # foreign programs write below `homes`; nobody but the owner comes past it
        for path in _tree(str(workspace.root / name), homes):
            try:
                mode = os.lstat(path).st_mode
            except OSError:  # gone meanwhile
                continue
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
                yield Finding("modes", path, "others than its owner may use it")


def _tree(top: str, opaque: str) -> Iterator[str]:
    """Yield what is in a directory, itself first, but nothing below the opaque one."""
    yield top
    for directory, names, files in os.walk(top):
        if directory == opaque:
            names.clear()
            continue
        names.sort()
        yield from (os.path.join(directory, name) for name in sorted([*names, *files]))


def _read(path: Path) -> bytes | None:
    try:
        return disk.read_file(path, JSON_MAX_BYTES)
    except (StorageError, PathRefused):
        return None


def _decoded(content: bytes | None, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(content or b"", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
