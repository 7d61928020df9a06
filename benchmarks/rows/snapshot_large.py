"""A snapshot of a few large files: as fast as the machine hashes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import in_child, in_threads, place
from lorch_actors.storage.snapshots import capture

TITLE = "snapshot of large files"
FILES = 8
MIB = 2**20
CHUNK_BYTES = 1 << 20


def measure(*, quick: bool) -> Iterator[Result]:
    points = []
    for total_mib in (64, 256) if quick else (64, 256, 1024):
        with place() as root:
            _fill(root, total_mib)
            seconds, peak = min(in_child(lambda: capture(root, ["src"])) for _ in range(4))
            reference_s = min(in_threads(2, lambda half: _hash_half(root, half)) for _ in range(4))
        points.append((float(total_mib), seconds))
    what = f"{total_mib} MiB in {FILES} files"
    yield Figure(what, seconds * 1000, "ms", "sha256 on two threads", reference_s * 1000, 1.18)
    yield Figure(f"{what}, memory", peak / MIB, "MiB", "limit", 16.0, 1.0)
    yield Growth("snapshot of large files", "MiB", "s", tuple(points))


def _fill(root: Path, total_mib: int) -> None:
    (root / "src").mkdir()
    for number in range(FILES):
        with (root / "src" / f"f{number}").open("wb") as file:
            for part in range(total_mib // FILES):
                file.write((b"%d %d" % (number, part)).ljust(64, b".") * (MIB // 64))


def _hash_half(root: Path, half: int) -> None:
    for number in range(half, FILES, 2):
        digest = hashlib.sha256()
        with (root / "src" / f"f{number}").open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
