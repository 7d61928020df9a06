"""Identifiers: how they look, and how they are derived.

Ids of commands and system messages follow from their cause, so that whoever repeats a step after a crash arrives at
the same id and the repetition is noticed. Ids of runs and of agent processes are fresh; their randomness comes in.
"""

import hashlib
import re
from typing import Final

from lorch_actors.errors import UsageError
from lorch_actors.protocol.messages import TASK_ID_PATTERN
from lorch_actors.protocol.times import to_timestamp

RUN_ID_PATTERN: Final = r"^run-[0-9]{8}-[0-9]{6}-[0-9a-f]{8}$(?!\n)"
SNAPSHOT_ID_PATTERN: Final = r"^snap-[0-9a-f]{12}$(?!\n)"
IDEMPOTENCY_KEY_PATTERN: Final = r"^ik:[0-9a-f]{64}$(?!\n)"

_TASK_ID: Final = re.compile(TASK_ID_PATTERN)
_PLAIN_PART: Final = re.compile(r"[A-Za-z0-9._-]+")
_SYSTEM_ID_MAX_CHARS: Final = 120
_READABLE_CHARS: Final = 64
_ENTROPY_BYTES: Final = 4


def new_run_id(ms_since_epoch: int, entropy: bytes) -> str:
    """Return ``run-YYYYMMDD-HHMMSS-<8 hex>`` for a run that starts now; at least four random bytes are needed."""
    day, clock = to_timestamp(ms_since_epoch)[:19].split("T")
    return f"run-{day.replace('-', '')}-{clock.replace(':', '')}-{_hex(entropy)}"


def incarnation_id(role: str, entropy: bytes) -> str:
    """Return the id of one process of a role, such as ``builder-1f00ba42``."""
    return f"{role}-{_hex(entropy)}"


def snapshot_id(digest: bytes) -> str:
    """Return the id of the snapshot whose canonical list of files has this SHA-256."""
    return f"snap-{digest.hex()[:12]}"


def approval_id(cause: str) -> str:
    """Return the id of a request for leave: too long for two to be made alike, since an answer counts for all such."""
    return f"ap-{hashlib.sha256(cause.encode()).hexdigest()[:32]}"


def shown_approval_id(approval: str) -> str:
    """Return as much of a request's id as people are shown and type, which most often means one request."""
    return approval[: len("ap-") + 8]


def check_task_id(text: str) -> str:
    """Return the task id as it is. Raises UsageError if it could not become a path."""
    if _TASK_ID.search(text) is None:
        raise UsageError(
            f"{text[:80]!r} is not a task id",
            remedy="Task ids are 1 to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit.",
        )
    return text


def correlation_id(idempotency_key: str) -> str:
    """Return the id that ties a step's deliveries and answers together: it follows from the step's key."""
    return f"c-{idempotency_key.removeprefix('ik:')[:16]}"


def command_message_id(correlation: str, delivery: int) -> str:
    """Return the id of one delivery of a step; deliveries count from 1."""
    return f"cmd-{correlation.removeprefix('c-')}-{delivery}"


def system_message_id(cause: str, *parts: str | int) -> str:
    """Return the id of a message of our own, which follows from its cause.

    Different causes have different ids: what is not plain, or too long to read, is shortened and ends in a hash of
    the whole, which `~` keeps apart from plain ids.
    """
    texts = [cause, *map(str, parts)]
    readable = ":".join(texts)
    if len(readable) <= _SYSTEM_ID_MAX_CHARS and all(_PLAIN_PART.fullmatch(text) for text in texts):
        return f"sys-{readable}"
    whole = "".join(f"{len(text)}:{text}" for text in texts)
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"sys-{re.sub(r'[^A-Za-z0-9._:-]', '_', readable)[:_READABLE_CHARS]}~{digest}"


def _hex(entropy: bytes) -> str:
    if len(entropy) < _ENTROPY_BYTES:
        raise ValueError(f"{_ENTROPY_BYTES} random bytes are needed, not {len(entropy)}")
    return entropy[:_ENTROPY_BYTES].hex()
