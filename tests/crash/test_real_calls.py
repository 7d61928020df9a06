"""The storage layer under a whole run, seen from the kernel's side."""

import shutil
from pathlib import Path

import pytest
from bench import Bench
from tracing import WHOLE, Traced, calls_below, deliveries, traced, unsafe, why_not

from lorch_actors.storage.workspace import Workspace

OWN = ("events/", "state/", "receipts/", "snapshots/", "transcripts/")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Make a workspace where a run can be traced."""
    if why_not():
        pytest.skip(why_not())
    return Bench(tmp_path / "w")


def test_nothing_durable_passes_the_storage_layer_by(bench: Bench, tmp_path: Path) -> None:
    """Whatever a run leaves in our own directories was opened by the layer and synced, its name as well."""
    ended = traced(bench.root, tmp_path / "trace", "run", "--all")
    assert ended.returncode == 0, ended

    calls = list(calls_below(bench.root, tmp_path / "trace"))

    assert unsafe(iter(calls), OWN) == []
    written = {call.target for call in calls if call.name == "rename"} | {call.path for call in calls}
    left = {str(path.relative_to(bench.root)) for name in OWN for path in (bench.root / name).rglob("*.json")}
    assert left
    assert left <= written


def test_an_agent_gets_no_command_before_that_is_on_the_disk(bench: Bench, tmp_path: Path) -> None:
    """Written into the ledger and synced comes first, as the kernel sees it."""
    ended = traced(bench.root, tmp_path / "trace", "run", "--all", options=WHOLE)
    assert ended.returncode == 0, ended

    given = list(deliveries(tmp_path / "trace"))

    assert {command for command, _ in given} == {
        line["message_id"] for line in bench.ledger() if line["kind"] == "command"
    }
    assert [command for command, was_durable in given if not was_durable] == []


@pytest.mark.long
@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_disk_that_refuses_to_sync_stops_the_run_resumably(bench: Bench, tmp_path: Path, call: str) -> None:
    """EIO from the kernel itself, from the eighth sync of a process on; when the disk works again, the run goes on."""
    Workspace(bench.root).prepare()  # so that the run has begun by then
    inject = ("-e", f"inject={call}:error=EIO:when=8+")

    ended = traced(bench.root, tmp_path / "trace", "run", "--all", options=inject)

    assert ended.returncode == 5, ended
    assert "the disk reports an input/output error" in ended.stderr
    assert bench.run("resume").code == 0
    assert bench.run("verify").code == 0


def test_the_check_notices_what_is_not_synced() -> None:
    """A rename of unsynced data, a name that is not synced, a write by somebody else."""
    opened = 'AT_FDCWD, "/w/state/x", O_WRONLY|O_CREAT|O_CLOEXEC, 0600'
    calls = [
        Traced(1, "openat", "state/.x.tmp.1.00000000", flags="O_WRONLY|O_CREAT|O_NOFOLLOW"),
        Traced(1, "write", "state/.x.tmp.1.00000000"),
        Traced(1, "rename", "state/.x.tmp.1.00000000", target="state/x.json"),
        Traced(1, "openat", "state/y.json", flags=opened),
        Traced(1, "write", "reviews/T-1.json"),
    ]

    assert unsafe(iter(calls), OWN) == [
        "state/.x.tmp.1.00000000 was renamed with 1 unsynced writes",
        f"state/y.json was opened by somebody else: {opened}",
        "state/.x.tmp.1.00000000 ends with 1 unsynced writes",
        "state/x.json was renamed, and its directory never synced",
        "state/y.json was created, and its directory never synced",
    ]


def test_without_strace_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip says what is missing."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    assert why_not.__wrapped__() == "strace is not installed"
