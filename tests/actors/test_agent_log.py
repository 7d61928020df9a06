"""An agent's log keeps what it wrote for people, up to a limit, and says where it stops."""

import json
from pathlib import Path

from lorch_actors.actors.agent_log import AgentLog
from lorch_actors.protocol.redaction import Redactor

LIMIT_BYTES = 2000


def test_a_log_is_never_longer_than_its_limit(tmp_path: Path) -> None:
    """However much an agent writes, and however often its actor begins anew."""
    path = tmp_path / "logs" / "run.ndjson"
    for _ in range(3):
        log = AgentLog(path, Redactor(), limit_bytes=LIMIT_BYTES)
        for number in range(100):
            log.stderr("builder-1", f"line {number}\n".encode(), 0)
        log.note("builder-1", {"exit": {"code": 0}}, 0)
        log.close()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    full = [line for line in lines if "reason" in line]

    assert path.stat().st_size < LIMIT_BYTES + 500
    assert lines[0]["line"] == "line 0"
    assert full[0]["reason"].startswith("this log is full")
    assert lines[-1] == full[-1]
