"""The first snapshot of a tree of many small files: everything is read, from a warm cache."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import best_of, in_child, place
from benchmarks.workspaces import fill_files
from lorch_actors.storage.snapshots import capture

TITLE = "first snapshot, files of 2 KiB"
FILE_BYTES = 2048
MIB = 2**20
HASH_ALL = "find src -type f -print0 | xargs -0 -P2 -n512 sha256sum"


def measure(*, quick: bool) -> Iterator[Result]:
    points = []
    with place() as directory:
        for files in (1_000, 5_000) if quick else (1_000, 10_000, 50_000):
            root = directory / str(files)
            fill_files(root, files, FILE_BYTES)
            seconds, peak = min(in_child(lambda: _first(root)) for _ in range(4))  # noqa: B023 - called at once
            points.append((float(files), seconds))
        reference_s = best_of(3, ["sh", "-c", HASH_ALL], root).wall_s
        yield Figure(f"{files:,} files", seconds * 1000, "ms", "find | xargs -P2 sha256sum", reference_s * 1000, 1.8)
        yield Figure(f"{files:,} files, memory", peak / MIB, "MiB", "limit", 120.0, 1.0)
        yield Growth("first snapshot", "files of 2 KiB", "s", tuple(points))
        shutil.rmtree(root)


def _first(root: Path) -> None:
    capture(root, ["src"])
