"""Who holds a workspace now: what `status` and `doctor` show of the run lock."""

from pathlib import Path

from lorch_actors.cli.run_documents import HolderBody
from lorch_actors.storage.locks import holder_of, is_held


def find_holder(lock: Path) -> HolderBody | None:
    """Return who holds the lock file, from what the holder wrote into it; None when nobody does.

    A held file that is not signed (yet) has a holder of pid 0.
    """
    if not is_held(lock):
        return None
    said = holder_of(lock) or {}
    pid = said.get("pid")
    return HolderBody(
        pid=pid if isinstance(pid, int) else 0,
        run_id=str(said.get("run_id", "")),
        host=str(said.get("host", "")),
        command=str(said.get("command", "")),
    )
