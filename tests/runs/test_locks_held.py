"""While a run works, everything that only one may write is locked, by whoever writes it."""

from pathlib import Path

import pytest
from bench import Bench

from lorch_actors.errors import ExitCode
from lorch_actors.storage.locks import is_held
from lorch_actors.storage.workspace import Workspace

HANGING = {"builder": {"responses": {"implement": [{"delay_ms": 60_000, "events": []}]}}}


@pytest.fixture
def working(tmp_path: Path):
    """Have a run whose builder is at work."""
    there = Bench(tmp_path / "w", HANGING)
    running = there.start()
    running.until_begun("implement")
    yield there
    running.process.terminate()
    running.wait()


def test_every_lock_is_held_while_a_run_works(working: Bench) -> None:
    """Guardian, orchestrator, ledger writer and run-state keeper each hold their own."""
    workspace = Workspace(working.root)
    (run_id,) = workspace.run_ids()
    locks = {
        "guardian": workspace.guardian_lock,
        "orchestrator": workspace.lock,
        "ledger": workspace.ledger_lock(run_id),
        "run state": workspace.run_state_lock,
    }

    assert {name: is_held(path) for name, path in locks.items()} == dict.fromkeys(locks, True)


def test_nobody_rebuilds_beside_a_run(working: Bench) -> None:
    """`rebuild` takes the run lock, and says who holds it."""
    refused = working.run("rebuild")

    assert refused.code == ExitCode.LOCKED
    assert "held by process" in refused.err
