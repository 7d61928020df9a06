"""What is asked of the snapshotter's worker reaches it as it was meant."""

from pathlib import Path

from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.snapshotter import SnapshotWorker, TreePlace, _as_message
from lorch_actors.actors.worker import Frame, FrameKind
from lorch_actors.actors.worker_loop import WorkerLoop
from lorch_actors.protocol.documents import ClaimedArtifact
from lorch_actors.protocol.messages import Event
from lorch_actors.protocol.parse import decode
from lorch_actors.workflow.orders import Verify
from lorch_actors.workflow.state import Run

RUN_ID = "run-20260101-000000-0a1b2c3d"


def test_a_file_is_compared_with_a_claim_of_any_size(tmp_path: Path) -> None:
    """A number that no machine's integer holds is a wrong claim, and no reason to stop the run."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("pass\n")
    claim = ClaimedArtifact(path="src/a.py", sha256=f"sha256:{64 * '0'}", size=2**70)
    place = TreePlace(tmp_path, RUN_ID, ("src",), (), "strict", 1 << 30)
    sent: list[Frame] = []
    message = _as_message(Verify("T-1", "c-1", 7, (claim,), ()), Run(RUN_ID))
    frames = FrameReader().feed(encode_frame(Frame(FrameKind.MESSAGE, 1, message)))
    WorkerLoop(SnapshotWorker(place), sent.extend).handle(frames)
    event = decode(sent[-1].body[0]["event"])

    assert isinstance(event, Event)
    assert event.event == "system.artifacts_rejected"
