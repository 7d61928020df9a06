"""`snapshot`, `verify` and `rebuild`: the files of a workspace, captured, checked and written again."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorch_actors.cli.options import global_options, output, place
from lorch_actors.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lorch_actors.cli.documents import ChangesBody, SnapshotDocument
    from lorch_actors.storage.workspace import Workspace


@click.command("snapshot")
@global_options
def snapshot_command() -> None:
    """Capture the tracked files now: id, files, bytes, time, and what changed since the last capture."""
    from lorch_actors.cli.documents import SkippedLine, SnapshotDocument
    from lorch_actors.cli.loading import load_or_default
    from lorch_actors.protocol.times import to_timestamp
    from lorch_actors.storage.manifests import write_manifest
    from lorch_actors.storage.snapshots import capture
    from lorch_actors.storage.stat_cache import StatCache

    where = place()
    workspace = where.workspace
    configuration, _ = load_or_default(where)
    workspace.prepare()
    before = _newest_manifest(workspace)
    began = time.monotonic()
    cache = StatCache.load(workspace.stat_cache)
    found = capture(workspace.root, configuration.snapshot.include, configuration.snapshot.exclude, cache)
    cache.save()
    manifest = workspace.manifest(found.snapshot_id)
    changes = _changes(before, manifest, found.snapshot_id)
    # an id stands for its content, so a manifest that is there is not written again with another time
    if not manifest.exists():
        write_manifest(manifest, found, to_timestamp(time.time_ns() // 1_000_000), str(workspace.root))
        changes = _changes(before, manifest, found.snapshot_id)
    else:
        os.utime(manifest)  # its time says which capture was the last
    document = SnapshotDocument(
        snapshot_id=found.snapshot_id,
        manifest=str(manifest.relative_to(workspace.root)),
        files=found.files,
        links=found.links,
        size_bytes=found.size_bytes,
        took_s=round(time.monotonic() - began, 3),
        skipped=[SkippedLine(path=one.path, kind=one.kind) for one in found.skipped],
        changes=changes,
    )
    output().result(document, _snapshot_text(document))


def _newest_manifest(workspace: "Workspace") -> Path | None:
    """Return the manifest written last, which is what `changed since` speaks of."""
    found = list(workspace.manifest("x").parent.glob("*.manifest.json"))
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def _changes(before: Path | None, manifest: Path, snapshot_id: str) -> "ChangesBody | None":
    from lorch_actors.cli.documents import ChangesBody
    from lorch_actors.storage.manifests import changes, read_manifest

    if before is None or not manifest.exists():
        return None
    old = read_manifest(before)
    if old["snapshot_id"] == snapshot_id:
        return ChangesBody(since=snapshot_id, added=[], changed=[], removed=[])
    found = changes(old, read_manifest(manifest))
    return ChangesBody(
        since=old["snapshot_id"], added=list(found.added), changed=list(found.changed), removed=list(found.removed)
    )


def _snapshot_text(document: "SnapshotDocument") -> str:
    from lorch_actors.cli.output import one_line
    from lorch_actors.cli.views import size

    links = f", {document.links} links" if document.links else ""
    lines = [
        f"{document.snapshot_id}  {document.files} files{links}, {size(document.size_bytes)}, {document.took_s:.2f} s",
        f"  {document.manifest}",
    ]
    lines += [f"  skipped: {one_line(one.path)} ({one.kind})" for one in document.skipped]
    changes = document.changes
    if changes is None:
        return "\n".join([*lines, "  the first capture of this workspace"])
    marked = [
        (mark, path)
        for mark, paths in (("+", changes.added), ("~", changes.changed), ("-", changes.removed))
        for path in paths
    ]
    lines.append(f"  {len(marked) or 'no'} changes since {changes.since}")
    return "\n".join(lines + [f"    {mark} {one_line(path)}" for mark, path in marked])


@click.command("verify")
@click.option("--run", "run_id", metavar="RUN", help="Only this run; all of them by default.")
@click.option("--list", "listing", is_flag=True, help="List what is checked, and check nothing.")
@global_options
def verify_command(run_id: str | None, *, listing: bool) -> int:
    """Check every promise about ledgers, keys, receipts and artifacts; exit 1 names what is broken."""
    from lorch_actors.cli.documents import CheckLine, ChecksDocument, FindingLine, VerifyDocument
    from lorch_actors.cli.output import visible
    from lorch_actors.records.verify import CHECKS, verify_workspace

    if listing:
        checks = [CheckLine(check=check, promise=promise) for check, promise in CHECKS.items()]
        output().result(ChecksDocument(checks=checks), "\n".join(f"{one.check}\n    {one.promise}" for one in checks))
        return ExitCode.DONE
    workspace = _existing(place().workspace)
    found = verify_workspace(workspace, run_id)
    document = VerifyDocument(
        ok=not found,
        run_id=run_id,
        findings=[FindingLine(check=one.check, where=one.where, what=one.what) for one in found],
    )
    lines = [visible(f"{one.where}: {one.what} [{one.check}]") for one in document.findings]
    output().result(document, "\n".join([*lines, f"{len(lines)} findings." if lines else "Everything is as promised."]))
    return ExitCode.FAILED if found else ExitCode.DONE


@click.command("rebuild")
@click.option("--run", "run_id", metavar="RUN", help="Only this run; all of them by default.")
@global_options
def rebuild_command(run_id: str | None) -> None:
    """Write run state, index, receipts and transcripts again from the ledger; takes the run lock."""
    from lorch_actors.cli.documents import RebuildDocument
    from lorch_actors.protocol.times import to_timestamp
    from lorch_actors.records.rebuild import rebuild
    from lorch_actors.storage import locks

    workspace = _existing(place().workspace)
    run_ids = workspace.run_ids() if run_id is None else [run_id]
    with locks.hold(workspace.lock, locks.this_process("", to_timestamp(time.time_ns() // 1_000_000))):
        written = [str(path.relative_to(workspace.root)) for path in rebuild(workspace, run_ids)]
    document = RebuildDocument(run_id=run_id, written=written)
    output().result(document, "\n".join([*written, f"{len(written)} files written."]))


def _existing(workspace: "Workspace") -> "Workspace":
    from lorch_actors.records.history import read_index

    if not workspace.run_ids() and not read_index(workspace).runs:
        raise UsageError(
            "there are no runs in this workspace", where=str(workspace.root), remedy="Name another --workspace."
        )
    return workspace
