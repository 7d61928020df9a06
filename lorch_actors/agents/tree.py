"""What a command changed in the workspace: the tracked files before and after, compared.

The state before the first execution of a key is kept on disk, so that after a crash the repeated execution also
claims what the killed one had written.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.agents.running import readable
from lorch_actors.protocol.messages import Artifact
from lorch_actors.storage import atomic, disk
from lorch_actors.storage.manifests import TrackedFile
from lorch_actors.storage.snapshots import capture
from lorch_actors.storage.stat_cache import StatCache

_BASELINE_MAX_BYTES: Final = 1 << 30


class Baseline(msgspec.Struct, frozen=True):
    """Checksums of the tracked files before the work of a key began."""

    key: str
    files: dict[str, str]


class Changes(msgspec.Struct, frozen=True):
    """artifacts: files that are new or changed. removed: paths that are gone."""

    artifacts: list[Artifact]
    removed: list[str]


class Tree:
    """The tracked files of a workspace. kept: where the baseline lies."""

    def __init__(self, workspace: Path, include: Sequence[str], exclude: Sequence[str], kept: Path) -> None:
        self._workspace = workspace
        self._include = include
        self._exclude = exclude
        self._kept = kept
        # Kept in memory only: it saves the second reading of what a command left alone.
        self._cache = StatCache(kept.with_suffix(".cbor"))

    def baseline(self, key: str) -> Baseline:
        """Return the state before the work of this key began, taking it now if nobody has; raise SnapshotError."""
        known = self._load()
        if known is not None and known.key == key:
            return known
        baseline = Baseline(key, {path: file.sha256 for path, file in self._files().items()})
        disk.make_directory(self._kept.parent)
        atomic.write_json(self._kept, baseline)
        return baseline

    def changes_since(self, baseline: Baseline) -> Changes:
        """Return what is different now; raise SnapshotError."""
        now = self._files()
        changed = [file for path, file in now.items() if baseline.files.get(path) != file.sha256]
        return Changes(
            artifacts=[Artifact(path=file.path, sha256=file.sha256, size=file.size) for file in changed],
            removed=sorted(baseline.files.keys() - now.keys()),
        )

    def _files(self) -> dict[str, TrackedFile]:
        snapshot = capture(self._workspace, self._include, self._exclude, self._cache)
        # A name that is not UTF-8, or that no message may hold, cannot be claimed: a claim is a path in JSON.
        files = (entry for entry in snapshot.entries if isinstance(entry, TrackedFile) and not entry.encoded)
        return {file.path: file for file in files if readable(file.path.encode()) == file.path}

    def _load(self) -> Baseline | None:
        data = disk.read_file(self._kept, _BASELINE_MAX_BYTES)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=Baseline)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # it is replaced whole or not at all; something else lies there: take a new one
