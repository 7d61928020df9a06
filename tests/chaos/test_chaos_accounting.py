"""The accounts have teeth: whatever a run would have lost, doubled or repeated is found."""

import json
import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos_driving import After

from lorch_actors.chaos.promises import Accounts, audit
from lorch_actors.chaos.resources import ZOMBIE_SAMPLES, Life, Resources, Sample
from lorch_actors.processes import identify
from lorch_actors.storage.ledger_format import seal


def audited(after: After, acknowledged: dict[str, dict[int, str]] | None = None) -> Accounts:
    """Return the accounts of a workspace."""
    seen = after.acknowledged() if acknowledged is None else acknowledged
    return audit(after.root, seen, tasks=after.report["tasks"])


def promises(accounts: Accounts) -> set[str]:
    """Return which promises broke."""
    return {line.promise for line in accounts.broken}


def ledger(after: After) -> Path:
    """Return the longest ledger."""
    return max((after.root / "events").glob("*.ndjson"), key=lambda path: path.stat().st_size)


def journal(after: After) -> Path:
    """Return the builder's journal."""
    return after.root / "state" / "agents" / "builder.journal.ndjson"


def append(path: Path, entry: dict[str, Any]) -> None:
    """Append a line."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def test_an_unspoilt_workspace_has_nothing_against_it(spoilt: After):
    """The copy itself breaks no promise, and counts as the report did."""
    found = audited(spoilt)

    assert found.broken == []
    assert (found.entries, found.steps) == (spoilt.report["entries"], spoilt.report["steps"])
    assert found.executions == spoilt.report["executions"]


def test_an_acknowledged_entry_that_is_gone_is_lost(spoilt: After):
    """However well the ledger looks without it."""
    seen = spoilt.acknowledged()
    path = ledger(spoilt)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-10]))
    gone = [seq for seq in seen[path.stem] if seq > len(lines) - 10]

    found = audited(spoilt, seen)

    lost = [line for line in found.broken if line.promise == "entry-lost" and "was acknowledged" in line.what]
    assert len(lost) == len(gone) > 0
    assert found.lost >= len(gone)  # a command that was carried out may be among them, and counts for itself as well


def test_another_entry_under_the_same_number_is_a_lost_one(spoilt: After):
    """What was acknowledged is known by its chain, not by its number."""
    seen = spoilt.acknowledged()
    run_id = ledger(spoilt).stem
    seen[run_id][5] = "0" * 16

    found = audited(spoilt, seen)

    assert (found.lost, promises(found)) == (1, {"entry-lost"})


def test_a_ledger_that_is_gone_is_all_lost(spoilt: After):
    """Every entry that was acknowledged counts."""
    seen = spoilt.acknowledged()
    gone = ledger(spoilt)
    gone.unlink()

    assert audited(spoilt, seen).lost >= len(seen[gone.stem])


def test_a_system_message_that_is_there_twice_is_doubled(spoilt: After):
    """Under a chain that is right, and a number of its own."""
    lines = ledger(spoilt).read_bytes().splitlines()
    last = json.loads(lines[-1])["ledger"]
    first = json.loads(lines[1])
    del first["ledger"]
    line, _ = seal(json.dumps(first, separators=(",", ":")).encode(), last["seq"] + 1, last["seq"], last["chain"])
    ledger(spoilt).write_bytes(b"\n".join(lines) + b"\n" + line.rstrip(b"\n") + b"\n")

    found = audited(spoilt)

    assert found.doubled == 1
    assert "entry-doubled" in promises(found)


def test_an_execution_after_the_answer_was_recorded_is_found(spoilt: After):
    """The agent's own journal says so."""
    started = json.loads(journal(spoilt).read_text().splitlines()[0])
    append(journal(spoilt), started | {"at": started["at"] + 3_600_000})

    found = audited(spoilt)

    assert (found.executed_twice, promises(found)) == (1, {"executed-once"})


def test_an_execution_before_the_answer_was_recorded_is_none_too_many(spoilt: After):
    """A killed agent has to begin again."""
    started = json.loads(journal(spoilt).read_text().splitlines()[0])
    append(journal(spoilt), started)

    assert audited(spoilt).executed_twice == 0


def test_work_that_no_ledger_asked_for_means_a_lost_command(spoilt: After):
    """What an agent has done, somebody must have sent."""
    append(journal(spoilt), {"entry": "finished", "key": "ik:unknown-to-all", "outcome": {"event": "x"}, "at": 0})

    found = audited(spoilt)

    assert (found.lost, promises(found)) == (1, {"entry-lost"})


def test_a_torn_line_of_a_journal_is_passed_over(spoilt: After):
    """As the agent passes it over."""
    with journal(spoilt).open("ab") as file:
        file.write(b'{"entry":"star\n')

    assert audited(spoilt).broken == []


def test_a_task_that_was_not_finished_is_missed(spoilt: After):
    """All that were handed out have to be completed."""
    found = audit(spoilt.root, {}, tasks=spoilt.report["tasks"] + 1)

    assert promises(found) == {"tasks-completed"}


def test_what_verify_finds_is_told(spoilt: After):
    """A receipt that says something else breaks a promise as well."""
    receipt = next((spoilt.root / "receipts").glob("*/step-1.json"))
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"step": 7}))

    assert promises(audited(spoilt)) == {"verify receipt"}


def test_a_zombie_that_nobody_reaps_is_found():
    """Met several times in a row below the guardian."""
    me = identify(os.getpid())
    assert me is not None
    process = subprocess.Popen(["true"])
    child = identify(process.pid)
    handle = os.pidfd_open(process.pid)
    resources = Resources()
    try:
        assert _ended(handle)
        for second in range(ZOMBIE_SAMPLES):
            assert resources.zombies == {}
            resources.sample(me, None, second * 1000.0)
    finally:
        os.close(handle)
        process.wait()

    assert child in resources.zombies


def _ended(handle: int) -> bool:
    return bool(select.select([handle], [], [], 30.0)[0])


@pytest.mark.parametrize(
    ("held", "is_leak"),
    [
        (lambda second: 32 - 9 * (second % 7 == 3), False),  # two agents are down now and then
        (lambda second: 23 + 9 * (second % 20 > 9), False),  # and for longer
        (lambda second: 32 + 2 * second - 9 * (second % 20 > 9), True),  # two stay of whatever happens in a second
        (lambda second: 32 + 60 * (second > 15), True),
    ],
)
def test_descriptors_that_only_grow_are_leaked(held: Callable[[int], int], *, is_leak: bool):
    """What comes and goes with agents and workers is not."""
    samples = [Sample(second * 1000.0, 1 << 20, held(second), 5, 3) for second in range(31)]
    resources = Resources()
    resources._lives[identify(1)] = Life("orchestrator", samples)

    assert (resources.leaked() > 0) == is_leak


def test_what_a_process_holds_for_one_that_was_not_there_before_is_no_leak():
    """Whoever stood still through the first half of a life has its descriptors in the second."""
    missing, whole = Sample(0.0, 1 << 20, 32, 5, 8), Sample(0.0, 1 << 20, 36, 5, 9)
    samples = [(missing if second < 16 else whole)._replace(at_ms=second * 1000.0) for second in range(31)]

    assert Life("orchestrator", samples).leaked() == 0


def test_the_slope_of_memory_is_told_by_the_minute():
    """In bytes, by least squares."""
    samples = [Sample(second * 1000.0, 1000 * second, 20, 5, 3) for second in range(61)]

    line = Life("orchestrator", samples).line()

    assert line is not None
    assert line.resident_slope_bytes_per_minute == pytest.approx(60_000)
    assert (line.descriptors_start, line.descriptors_end) == (20, 20)


def test_what_lived_only_shortly_says_nothing():
    """An orchestrator that was killed after a few seconds is no witness."""
    assert Life("orchestrator", [Sample(0.0, 1, 1, 1, 1), Sample(5000.0, 9, 9, 9, 9)]).line() is None
