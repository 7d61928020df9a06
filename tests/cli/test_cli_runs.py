"""`status`, `runs`, `show` and `transcript` tell what ledger and receipts say."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
from cli_driving import Lorch

from lorch_actors.errors import ExitCode
from lorch_actors.protocol.documents import Receipt
from lorch_actors.protocol.messages import Event
from lorch_actors.protocol.parse import encode
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY
from lorch_actors.storage.ledger_format import seal
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.payloads import Payload, event_of
from lorch_actors.workflow.system import RunFinished, RunStarted, TaskDeclared, TaskFinished, TaskStarted

OLD, NEW = "run-20260101-000000-00000001", "run-20260102-000000-00000002"


def told(payload: Payload, task_id: str = "run", at: int = 0) -> Event:
    """Return an event of the orchestrator's."""
    return event_of(payload, task_id=task_id, correlation_id="c", now_ms=at * 1000, cause=(payload.name, task_id))


def write_run(workspace: Path, run_id: str, *events: Event) -> str:
    """Write a ledger and return the chain of its first entry."""
    (workspace / "events").mkdir(exist_ok=True)
    chain, data, first = run_id, b"", ""
    for seq, event in enumerate(events, start=1):
        line, chain = seal(encode(event), seq, seq - 1, chain)
        data += line + b"\n"
        first = first or chain
    (workspace / "events" / f"{run_id}.ndjson").write_bytes(data)
    return first


def write_receipt(workspace: Path, step: int, chain: str, path: str) -> None:
    """Write a receipt of task T-1 that stands for the first entry of the ledger with that chain."""
    receipt = Receipt(
        task_id="T-1",
        step=step,
        action="implement",
        idempotency_key=f"ik:{step:064}",
        snapshot_id="snap-000000000000",
        command_message_id="m",
        correlation_id="c",
        artifacts=[{"path": path, "sha256": "sha256:" + "0" * 64, "size": 1434}],
        events=["e"],
        tests={"status": "pass"},
        created_at="2026-01-02T00:00:00.000Z",
        seq=1,
        chain=chain,
    )
    receipt = msgspec.convert(msgspec.to_builtins(receipt), Receipt)
    file = workspace / "receipts" / "T-1" / f"step-{step}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(receipt))


@pytest.fixture
def runs(workspace: Path) -> Path:
    """Make a workspace with a failed run and a newer one that was interrupted."""
    declared = {"id": "T-1", "goal": "do it", "title": "It\x1b[2J"}
    started = told(RunStarted(policy={}, agents={}, task_count=1), at=86_400)
    failure = FailureNote("tests_failed", "two tests\nfail", "builder")
    old = write_run(
        workspace,
        OLD,
        told(RunStarted(policy={}, agents={}, task_count=1), at=0),
        told(TaskDeclared(0, declared), "T-1"),
        told(TaskStarted(1), "T-1"),
        told(TaskFinished("failed", failure), "T-1"),
        told(RunFinished("failed"), at=60),
    )
    new = write_run(workspace, NEW, started, told(TaskDeclared(0, declared), "T-1"), told(TaskStarted(2), "T-1"))
    write_receipt(workspace, 1, old, "src/old.py")
    write_receipt(workspace, 2, new, "src/a.py")
    write_receipt(workspace, 10, new, "src/b.py")
    return workspace


def conforms(name: str, document: object) -> bool:
    """Tell whether a document fits the schema of that name."""
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())
    return jsonschema.Draft202012Validator(schema).is_valid(document)


def test_status_shows_the_newest_run(lorch: Lorch, runs: Path):
    """An interrupted one with the command that goes on."""
    printed = lorch("status")

    assert printed.code == ExitCode.DONE
    assert printed.out.startswith(f"{NEW}  interrupted")
    assert f"lorch resume --run {NEW}" in printed.out


def test_status_of_a_run_that_a_checkpoint_stands_for_loads_nothing_that_folds(lorch: Lorch, runs: Path):
    """Start-up time is a feature: state and place come from the checkpoint, and the ledger ends where it says."""
    assert lorch("rebuild", "--run", NEW).code == ExitCode.DONE
    names = "{m.removeprefix('lorch_actors.') for m in sys.modules if m.startswith('lorch_actors.')}"
    code = f"import sys; from lorch_actors.cli.app import main; main(['status']); print(*{names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())

    assert "records.history" in loaded
    assert loaded.isdisjoint({"workflow.fold", "workflow.projection", "protocol.parse", "storage.ledger", "chaos"})
    assert len(loaded) <= 45


def test_status_of_a_failed_run_says_what_failed_and_why(lorch: Lorch, runs: Path):
    """On one line, whatever the message holds."""
    printed = lorch("status", "--run", OLD)

    assert printed.out.startswith(f"{OLD}  failed")
    assert "tests_failed (builder): two tests fail" in printed.out
    assert "\x1b" not in printed.out


def test_status_tells_a_run_under_way_from_an_interrupted_one(lorch: Lorch, runs: Path):
    """Who holds the run lock is at work."""
    (runs / "state").mkdir()
    lock = runs / "state" / "lorch.lock"
    lock.write_text(json.dumps({"pid": 4242, "run_id": NEW, "host": "h", "command": "lorch run"}))
    fd = os.open(lock, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    held = lorch("status", "--json").json
    os.close(fd)

    assert (held["active"], held["holder"]["pid"]) == (True, 4242)
    assert lorch("status", "--json").json["holder"] is None


@pytest.mark.parametrize(
    ("argv", "schema"),
    [
        (["status"], "cli-status"),
        (["runs"], "cli-runs"),
        (["show", NEW], "cli-show"),
        (["status", "--run", "x"], "cli-error"),
    ],
)
def test_documents_fit_their_schemas(lorch: Lorch, runs: Path, argv: list[str], schema: str):
    """What scripts are promised."""
    assert conforms(schema, lorch(*argv, "--json").json)


def test_runs_are_listed_oldest_first(lorch: Lorch, runs: Path):
    """With how many of their tasks are done."""
    assert [line.split()[:2] for line in lorch("runs").out.splitlines()] == [[OLD, "failed"], [NEW, "running"]]


def test_no_runs_yet_is_no_error_of_runs(lorch: Lorch):
    """An empty list is an answer."""
    assert lorch("runs", "--json").json["runs"] == []
    assert lorch("runs").out == "No runs yet.\n"


def test_show_tells_the_steps_of_that_run_only(lorch: Lorch, runs: Path):
    """In the order of their numbers, not of their names."""
    steps = lorch("show", NEW, "--json").json["steps"]

    assert [(step["step"], step["artifacts"][0]["path"]) for step in steps] == [(2, "src/a.py"), (10, "src/b.py")]
    assert "src/a.py (1.4 KiB)" in lorch("show", NEW).out


def test_without_a_run_the_newest_is_shown(lorch: Lorch, runs: Path):
    """It is the one that was meant most of the time."""
    (runs / "transcripts").mkdir()
    (runs / "transcripts" / f"{NEW}.txt").write_text("[lorch] DONE T-1\n")

    assert lorch("show", "--json").json["run_id"] == NEW
    assert lorch("transcript", "--json").json["run_id"] == NEW


def test_show_of_an_unknown_task_lists_the_known_ones(lorch: Lorch, runs: Path):
    """Exit code 2."""
    printed = lorch("show", NEW, "--task", "T-9")

    assert printed.code == ExitCode.USAGE
    assert "Its tasks are: T-1." in printed.err


def test_a_damaged_receipt_is_named_with_the_remedy(lorch: Lorch, runs: Path):
    """It is a projection: it can be written again."""
    (runs / "receipts" / "T-1" / "step-2.json").write_text("{")

    printed = lorch("show", NEW)

    assert printed.code == ExitCode.FAILED
    assert "step-2.json" in printed.err
    assert "lorch rebuild" in printed.err


@pytest.mark.parametrize(
    "argv", [["status"], ["show"], ["transcript"], ["show", OLD], ["transcript", OLD], ["status", "--run", "../x"]]
)
def test_a_run_that_is_not_there_is_a_usage_error(lorch: Lorch, argv: list[str]):
    """Exit code 2 with what to do."""
    assert lorch(*argv).code == ExitCode.USAGE


def test_a_transcript_is_printed_with_control_characters_made_visible(lorch: Lorch, runs: Path):
    """As lines with --json."""
    (runs / "transcripts").mkdir()
    (runs / "transcripts" / f"{NEW}.txt").write_bytes(
        "[builder] a→b\n[builder] \x1b[2J\xff\n".encode("latin-1", "replace")
    )
    (runs / "transcripts" / f"{OLD}.txt").write_text("[lorch] DONE T-1\n")

    assert "\x1b" not in lorch("transcript", NEW).out
    assert lorch("transcript", OLD, "--json").json == {"run_id": OLD, "lines": ["[lorch] DONE T-1"]}


def test_a_missing_transcript_of_a_known_run_can_be_written_again(lorch: Lorch, runs: Path):
    """The message says how."""
    assert f"lorch rebuild --run {OLD}" in lorch("transcript", OLD).err
