"""Idempotency keys: equal work has an equal key, on every machine and after every crash.

The key is the SHA-256 of what defines a step; anybody can compute it again from a command, in any language that has
canonical JSON (RFC 8785).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from lorch_actors.protocol.canonical import canonical


def idempotency_key(
    action: str,
    task_id: str,
    snapshot_id: str,
    inputs: Mapping[str, Any],
    expected_outputs: Sequence[Mapping[str, Any]],
) -> str:
    """Return ``ik:`` and the 64 hex digits that identify this step.

    ``inputs`` and ``expected_outputs`` enter as given: an absent ``required`` is not the same as one spelled out.
    Raises ValueError for what canonical JSON cannot express.
    """
    outputs = [dict(output) for output in expected_outputs]
    text = b"\n".join(
        [*(part.encode() for part in (action, task_id, snapshot_id)), canonical(dict(inputs)), canonical(outputs)]
    )
    return f"ik:{hashlib.sha256(text).hexdigest()}"
