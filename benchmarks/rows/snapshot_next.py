"""The next snapshot of a tree in which nothing has changed: no file is read again."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import best_of, in_child, place
from benchmarks.rows.snapshot_first import FILE_BYTES, HASH_ALL
from benchmarks.workspaces import fill_files
from lorch_actors.storage.snapshots import capture
from lorch_actors.storage.stat_cache import StatCache

TITLE = "next snapshot, nothing changed"
LONG_AGO_S = 3600


def measure(*, quick: bool) -> Iterator[Result]:
    points = []
    with place() as directory:
        for files in (1_000, 5_000) if quick else (1_000, 10_000, 50_000):
            root = directory / str(files)
            fill_files(root, files, FILE_BYTES)
            _age(root)
            cache = StatCache(root / "cache")
            time.sleep(0.1)  # ctimes of this very moment would be racy
            capture(root, ["src"], (), cache)
            cache.save()
            seconds, _ = min(in_child(lambda: _next(root)) for _ in range(4))  # noqa: B023 - called at once
            points.append((float(files), seconds))
        what = f"{files:,} files"
        yield Figure(what, seconds * 1000, "ms", "git status", _git_status_s(root) * 1000, 1.0)
        hashing_s = best_of(3, ["sh", "-c", HASH_ALL], root).wall_s
        yield Figure(what, seconds * 1000, "ms", "find | xargs -P2 sha256sum", hashing_s * 1000, 0.6)
        yield Growth("next snapshot", "files of 2 KiB", "s", tuple(points))


def _age(root: Path) -> None:
    """Set the times back, so that git does not take the files for racy."""
    then = time.time() - LONG_AGO_S
    for directory, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(directory, name), (then, then))


def _next(root: Path) -> None:
    cache = StatCache.load(root / "cache")
    found = capture(root, ["src"], (), cache)
    cache.save()
    if found.files_read:
        raise RuntimeError(f"{found.files_read} files were read again")


def _git_status_s(root: Path) -> float:
    for words in (["init", "-q"], ["add", "src"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return best_of(3, ["git", "status", "--porcelain"], root).wall_s
