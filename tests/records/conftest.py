"""Workspaces with real runs in them: made once, copied for whoever damages one."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "runs"))  # the bench is at home there

from bench import Bench
from cutting import PASSED, finished

from lorch_actors.storage.workspace import Workspace


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make one workspace each with a finished, a failed and an interrupted run."""
    root = tmp_path_factory.mktemp("records")
    error = {"error": {"code": "cannot", "message": "I cannot", "retryable": False}}
    failed = Bench(root / "failed", {"reviewer": {"responses": {"review": error}}})
    assert failed.run().code == 1
    slow = {"responses": {"implement": {"delay_ms": 200, "events": [PASSED]}}}
    interrupted = Bench(root / "interrupted", {"builder": slow})
    running = interrupted.start()
    running.until_begun("implement")
    running.process.terminate()
    assert running.wait().code == 5
    return {
        "finished": finished(root / "finished", "T-1", "T-2", tracked=False).root,
        "failed": failed.root,
        "interrupted": interrupted.root,
    }


@pytest.fixture
def copied(originals: dict[str, Path], tmp_path: Path):
    """Return what copies one of them: by the name of the kind."""

    def copy(kind: str = "finished") -> Workspace:
        shutil.copytree(originals[kind], tmp_path / kind, symlinks=True)
        return Workspace(tmp_path / kind)

    return copy
