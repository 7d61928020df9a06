"""Computing an idempotency key: canonical JSON of the inputs, and a hash."""

from collections.abc import Iterator
from typing import Any

import rfc8785

from benchmarks.figures import Figure, Growth, Result
from benchmarks.measuring import best_s
from lorch_actors import idempotency_key

TITLE = "idempotency key"
OUTPUTS = [{"path": "src/work.txt", "required": True}]


def measure(*, quick: bool) -> Iterator[Result]:
    points = []
    times = 50 if quick else 300
    for size_kib, target in ((1, 3.6), (20, 1.4)):
        inputs = _inputs(size_kib * 1024)
        ours = best_s(lambda: idempotency_key("review", "T-1", "snap-0123456789ab", inputs, OUTPUTS), times)  # noqa: B023
        library = best_s(lambda: rfc8785.dumps(inputs), times)  # noqa: B023 - called at once
        points.append((float(size_kib), ours * 1000))
        yield Figure(f"{size_kib} KiB of inputs", ours * 1000, "ms", "rfc8785 alone", library * 1000, target)
    yield Growth("idempotency key", "KiB of inputs", "ms", tuple(points))


def _inputs(size_bytes: int) -> dict[str, Any]:
    """Return inputs as commands have them: names, texts, numbers and lists of objects."""
    issue = {
        "path": "src/module.py",
        "line": 17,
        "severity": "major",
        "text": "name says nothing about what it holds or does",
    }
    count = max(1, size_bytes // 118)
    return {"run_id": "run-20260101-000000-0a1b2c3d", "round": 2, "request": {"issues": [issue] * count}}
