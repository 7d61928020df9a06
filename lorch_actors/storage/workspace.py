"""Where everything lies in a workspace (SPEC §2).

One object knows every path, so that no other module puts one together. Task ids, run ids and agent names enter paths
here: each is checked again, whoever checked it before.
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

from lorch_actors.errors import StorageError, StorageRefused, UsageError
from lorch_actors.storage import atomic, disk

OWN_DIRECTORIES: Final = ("events", "state", "receipts", "snapshots", "logs", "transcripts", "reviews", "spec_notes")
"""The directories at the workspace root that are ours: made by us, 0700, left out of snapshots and of git."""

_COMPONENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _component(name: str) -> str:
    """Return the name if it may be one component of a path; raise UsageError otherwise."""
    if not _COMPONENT.fullmatch(name):
        raise UsageError(f"{name!r} cannot be part of a path", remedy="Use letters, digits, '.', '_' and '-'.")
    return name


class Workspace:
    """The paths below one workspace root. Nothing is touched on disk except by `prepare` and `remove_leftovers`.

    Raises UsageError for a root whose name no JSON file could hold.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise UsageError(
                "the path of the workspace is not valid UTF-8, so no file could name it",
                where=ascii(str(self.root)),
                remedy="Move the workspace, or rename the directories above it.",
            ) from None
        self.events = self.root / "events"
        self.state = self.root / "state"
        self.requests = self.state / "requests"
        self.approvals = self.state / "approvals"
        self.config_file = self.root / "lorch.json"
        self.run_state = self.state / "run.json"
        self.run_state_lock = self.state / "run.json.lock"
        self.index = self.state / "index.json"
        self.lock = self.state / "lorch.lock"
        self.guardian_lock = self.state / "guardian.lock"
        self.checkpoint = self.state / "checkpoint.cbor"
        self.transcript_mark = self.state / "transcript.cbor"
        self.stat_cache = self.state / "stat_cache.cbor"

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    def ledger(self, run_id: str) -> Path:
        """Return the ledger of a run."""
        return self.events / f"{_component(run_id)}.ndjson"

    def ledger_lock(self, run_id: str) -> Path:
        """Return the lock that the one writer of that ledger holds."""
        return self.events / f"{_component(run_id)}.ndjson.lock"

    def receipts(self, task_id: str) -> Path:
        """Return the directory of a task's receipts."""
        return self.root / "receipts" / _component(task_id)

    def receipt(self, task_id: str, step: int) -> Path:
        """Return the receipt of one step, counted from 1."""
        return self.receipts(task_id) / f"step-{step}.json"

    def manifest(self, snapshot_id: str) -> Path:
        """Return the manifest of a snapshot."""
        return self.root / "snapshots" / f"{_component(snapshot_id)}.manifest.json"

    def log(self, agent: str, run_id: str) -> Path:
        """Return the log of one agent in one run."""
        return self.root / "logs" / _component(agent) / f"{_component(run_id)}.ndjson"

    def transcript(self, run_id: str) -> Path:
        """Return the console transcript of a run."""
        return self.root / "transcripts" / f"{_component(run_id)}.txt"

    def approval(self, approval_id: str) -> Path:
        """Return where a person's answer to a request lies until it is in the ledger."""
        return self.approvals / f"{_component(approval_id)}.json"

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a ledger here, in the order of their names. Raises StorageError."""
        suffix = ".ndjson"
        names = disk.names_in(self.events)
        return sorted(n.removesuffix(suffix) for n in names if n.endswith(suffix) and _COMPONENT.fullmatch(n))

    @property
    def is_untouched(self) -> bool:
        """Whether there is neither a ledger here nor anything that stands for one."""
        return not any(os.path.lexists(path) for path in (self.events, self.index, self.run_state))

    def prepare(self) -> None:
        """Make our own directories, 0700; tighten those that are ours and looser.

        Raises UsageError if the root is no directory, StorageError if it cannot be written or something else stands
        where a directory of ours belongs: a link there could lead our files out of the workspace.
        """
        if not self.root.is_dir():
            raise UsageError(
                "the workspace is not a directory",
                where=str(self.root),
                remedy="Create it, or name another --workspace.",
            )
        for name in OWN_DIRECTORIES:
            _prepare_directory(self.root / name)
        _prepare_directory(self.requests)
        _prepare_directory(self.approvals)

    def remove_leftovers(self) -> list[Path]:
        """Remove what dead processes left of unfinished writes in our own directories; return what was removed."""
        removed = atomic.remove_leftovers(self.root)
        for name in OWN_DIRECTORIES:
            for directory, _, _ in os.walk(self.root / name):
                removed += atomic.remove_leftovers(Path(directory))
        return removed


def _prepare_directory(path: Path) -> None:
    disk.make_directory(path)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(
            "a symbolic link stands where a directory of ours belongs",
            where=str(path),
            remedy="Replace it by a directory.",
        )
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
        disk.tighten(path)
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageRefused(
            "the workspace cannot be written",
            where=str(path),
            remedy="Check owner and mode, or name another --workspace.",
        )
