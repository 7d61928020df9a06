"""Small ledgers for tests, and ways to damage them."""

from collections.abc import Sequence
from pathlib import Path

from lorch_actors.storage.ledger_format import Position, seal

RUN = "run-20260101-000000-0a1b2c3d"


def progress(number: int, text: str = "working") -> bytes:
    """Return a message in compact JSON."""
    return (
        b'{"kind":"event","message_id":"m-%d","correlation_id":"c-1","task_id":"T-1",'
        b'"from":{"agent_type":"builder","agent_id":"builder-1"},"event":"builder.progress",'
        b'"payload":{"text":"%b"},"occurred_at":"2026-01-01T00:00:00.000Z"}'
    ) % (number, text.encode())


def sealed_lines(durables: Sequence[int], run_id: str = RUN, text: str = "working") -> list[tuple[int, bytes]]:
    """Return numbered lines that follow each other, with these durable marks."""
    lines = []
    chain = run_id
    for seq, durable in enumerate(durables, start=1):
        line, chain = seal(progress(seq, text), seq, durable, chain)
        lines.append((seq, line))
    return lines


def as_file(lines: Sequence[tuple[int, bytes]]) -> bytes:
    """Return what a file with these lines holds."""
    return b"".join(line + b"\n" for _, line in lines)


def write_ledger(path: Path, durables: Sequence[int]) -> list[tuple[int, bytes]]:
    """Write a ledger and return its lines."""
    lines = sealed_lines(durables)
    path.write_bytes(as_file(lines))
    return lines


def end_of(lines: Sequence[tuple[int, bytes]]) -> Position:
    """Return the place after these lines."""
    seq, line = lines[-1]
    return Position(seq, line[-19:-3].decode(), len(as_file(lines)))


def torn_files(path: Path) -> list[bytes]:
    """Return what was copied aside from a ledger, oldest first."""
    return [torn.read_bytes() for torn in sorted(path.parent.glob(f"{path.name}.torn-*"))]
