"""Writing a ledger anew after it was changed, so that its chain is right and what it says is wrong."""

import json
from collections.abc import Callable
from typing import Any

from lorch_actors.records.rebuild import rebuild
from lorch_actors.storage.ledger_format import seal
from lorch_actors.storage.workspace import Workspace

Lines = list[dict[str, Any]]


def edit(workspace: Workspace, change: Callable[[Lines], None]) -> None:
    """Change the messages of the only ledger, seal them anew, and let all projections follow."""
    (run_id,) = workspace.run_ids()
    path = workspace.ledger(run_id)
    lines: Lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        del line["ledger"]
    change(lines)
    chain, data = run_id, b""
    for seq, line in enumerate(lines, start=1):
        sealed, chain = seal(json.dumps(line, separators=(",", ":")).encode(), seq, seq - 1, chain)
        data += sealed + b"\n"
    path.write_bytes(data)
    rebuild(workspace, [run_id])


def last(lines: Lines, name: str) -> dict[str, Any]:
    """Return the last event or command of that name."""
    return [line for line in lines if name in (line.get("event"), line.get("action"))][-1]
