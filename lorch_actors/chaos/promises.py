"""What must hold after any number of kills, counted from what lies on disk.

Nothing here trusts the run: the agents' journals say what was executed, the outside reader what was acknowledged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from lorch_actors.agents.journal import Entry as JournalEntry
from lorch_actors.agents.journal import Finished, Started
from lorch_actors.chaos.report import BrokenLine
from lorch_actors.errors import LedgerDamaged
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.protocol.messages import Command, own_id
from lorch_actors.protocol.times import from_timestamp
from lorch_actors.records.verify import verify_workspace
from lorch_actors.storage.ledger import read_entries
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.state import Run

SHOWN_MAX: Final = 100
_JOURNAL: Final = msgspec.json.Decoder(JournalEntry)


class Accounts:
    """The books of a workspace after the chaos; `audit` fills them."""

    def __init__(self) -> None:
        self.broken: list[BrokenLine] = []
        self.tasks_completed = 0
        self.steps = 0
        self.entries = 0
        self.lost = 0
        self.doubled = 0
        self.executions = 0
        self.executed_twice = 0
        self.resumed = 0
        self.settled_ms: dict[str, int] = {}  # when the settling event of a key happened
        self.commanded: set[str] = set()

    def breach(self, promise: str, where: object, what: str) -> None:
        """Note a promise that was not kept."""
        if len(self.broken) < SHOWN_MAX:
            self.broken.append(BrokenLine(promise=promise, where=str(where), what=what))


def audit(root: Path, acknowledged: Mapping[str, Mapping[int, str]], *, tasks: int, whole: bool = True) -> Accounts:
    """Count what the workspace below ``root`` says.

    acknowledged: for each run, the chain of each entry by number that an outsider saw acknowledged. tasks: how many
    were handed out. whole: whether all of them had the time to end.
    """
    workspace, accounts = Workspace(root), Accounts()
    for run_id in workspace.run_ids():
        try:
            _count_run(accounts, workspace, run_id, acknowledged.get(run_id, {}), whole=whole)
        except LedgerDamaged as error:
            accounts.lost += 1
            accounts.breach("ledger", error.where, error.what)
    for run_id in acknowledged.keys() - set(workspace.run_ids()):
        accounts.lost += len(acknowledged[run_id])
        accounts.breach("entry-lost", workspace.ledger(run_id), "the ledger is gone")
    for journal in sorted((root / "state" / "agents").glob("*.journal.ndjson")):
        _count_executions(accounts, journal)
    if whole and accounts.tasks_completed != tasks:
        accounts.breach("tasks-completed", root, f"{accounts.tasks_completed} of {tasks} tasks were completed")
    for finding in verify_workspace(workspace):
        if whole or finding.check not in {"artifact", "run-state"}:  # a step under way may have changed its files
            accounts.breach(f"verify {finding.check}", finding.where, finding.what)
    return accounts


def _count_run(
    accounts: Accounts, workspace: Workspace, run_id: str, acknowledged: Mapping[int, str], *, whole: bool
) -> None:
    path = workspace.ledger(run_id)
    run, missing, ids = Run(run_id), dict(acknowledged), Counter[str]()
    for entry, _ in read_entries(path, run_id):
        accounts.entries += 1
        if missing.get(entry.seq) == entry.chain:
            del missing[entry.seq]
        before = run.settled_count
        run = fold(run, entry)
        if run.settled_count != before and run.last_settled is not None:
            settled = run.last_settled
            accounts.settled_ms[settled.command.idempotency_key] = from_timestamp(settled.event.occurred_at)
        if isinstance(entry.message, Command):
            accounts.commanded.add(entry.message.idempotency_key)
        known = own_id(entry.message)
        if known is not None:
            ids[known] += 1
    accounts.steps += run.settled_count
    accounts.resumed += run.resumes
    accounts.tasks_completed += sum(task.status == "completed" for task in run.tasks.values())
    _judge(accounts, path, missing, ids)
    # a run that was killed before its first entry was never one, and was started again under another id
    if whole and run.started and run.status is not RunStatus.COMPLETED:
        accounts.breach("run-completed", path, f"the run is {run.status}")


def _judge(accounts: Accounts, path: Path, missing: Iterable[int], ids: Mapping[str, int]) -> None:
    lost = list(missing)
    accounts.lost += len(lost)
    for seq in lost[:SHOWN_MAX]:
        accounts.breach("entry-lost", path, f"entry {seq} was acknowledged, and is absent or another one now")
    for message_id, count in ids.items():
        if count > 1:
            accounts.doubled += count - 1
            accounts.breach("entry-doubled", path, f"{message_id} is there {count} times")


def _count_executions(accounts: Accounts, journal: Path) -> None:
    """Hold a journal against the ledgers: every key was commanded, and none executed after it was settled."""
    unknown: dict[str, None] = {}
    for raw in journal.read_bytes().splitlines():
        try:
            entry = _JOURNAL.decode(raw)
        except msgspec.DecodeError:  # torn by a kill, and passed over by the agent as well
            continue
        if isinstance(entry, Started | Finished) and entry.key not in accounts.commanded:
            unknown[entry.key] = None
        if isinstance(entry, Started):
            accounts.executions += 1
            settled_ms = accounts.settled_ms.get(entry.key)
            if settled_ms is not None and entry.at > settled_ms:
                accounts.executed_twice += 1
                accounts.breach("executed-once", journal, f"{entry.key} was executed again after its answer")
    accounts.lost += len(unknown)
    for key in unknown:
        accounts.breach("entry-lost", journal, f"{key} was carried out, but no ledger has its command")
