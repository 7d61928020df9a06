"""What is asked of the snapshotter's worker reaches it as it was meant, and its answer can be written down."""

import os
import subprocess
from pathlib import Path
from typing import Any

from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.snapshotter import SnapshotWorker, TreePlace, _as_message
from lorch_actors.actors.worker import Frame, FrameKind
from lorch_actors.actors.worker_loop import WorkerLoop
from lorch_actors.protocol.documents import ClaimedArtifact
from lorch_actors.protocol.messages import Event
from lorch_actors.protocol.parse import decode
from lorch_actors.workflow.orders import BeginBranch, Capture, Commit, Order, Verify
from lorch_actors.workflow.state import Run

RUN_ID = "run-20260101-000000-0a1b2c3d"
NOT_UTF8 = "d\udcff"
"""As `os.fsdecode` gives it."""


def carry_out(root: Path, *orders: Order) -> list[Event]:
    """Return what the worker answers, orders and answers as frames."""
    sent: list[Frame] = []
    loop = WorkerLoop(SnapshotWorker(TreePlace(root, RUN_ID, ("src",), (), "strict", 1 << 30)), sent.extend)
    for number, order in enumerate(orders, start=1):
        message = _as_message(order, Run(RUN_ID))
        loop.handle(FrameReader().feed(encode_frame(Frame(FrameKind.MESSAGE, number, message))))
    answers = FrameReader().feed(b"".join(map(encode_frame, sent)))
    events = [decode(reply["event"]) for frame in answers if frame.kind is FrameKind.ACK for reply in frame.body]
    return [event for event in events if isinstance(event, Event)]


def git(root: Path, *arguments: str) -> None:
    """Run git as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def test_a_file_is_compared_with_a_claim_of_any_size(tmp_path: Path) -> None:
    """A number that no machine's integer holds is a wrong claim, and no reason to stop the run."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("pass\n")
    claim = ClaimedArtifact(path="src/a.py", sha256=f"sha256:{64 * '0'}", size=2**70)

    (event,) = carry_out(tmp_path, Verify("T-1", "c-1", 7, (claim,), ()))

    assert event.event == "system.artifacts_rejected"


def test_a_tree_too_deep_is_told_whatever_its_names_are(tmp_path: Path) -> None:
    """Names of files are bytes; what is said of them is UTF-8."""
    depth = 300
    os.makedirs(tmp_path / "src" / "/".join([NOT_UTF8] * depth))

    (event,) = carry_out(tmp_path, Capture("T-1", 0))

    assert event.event == "system.snapshot_failed"
    assert "nested more than" in str(event.payload)


def test_what_a_commit_leaves_out_is_told_whatever_its_name_is(tmp_path: Path) -> None:
    """As a manifest writes it."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=first")
    base = (tmp_path / ".git" / "refs" / "heads" / "main").read_text().strip()
    nested = tmp_path / f"vendor{NOT_UTF8}"
    nested.mkdir()
    git(nested, "init", "--quiet")
    git(nested, "commit", "--quiet", "--allow-empty", "--message=theirs")
    branch = f"lorch/{RUN_ID}"
    commit: dict[str, Any] = {"purpose": "task", "title": "t", "reason": "", "branch": branch, "base": ""}

    _, event = carry_out(
        tmp_path, BeginBranch(branch, base), Commit("T-1", intended_at="2026-01-01T00:00:00.000Z", **commit)
    )

    assert event.event == "system.commit_made"
    assert event.payload is not None
    assert event.payload["left_out"] == ["vendord%FF"]
