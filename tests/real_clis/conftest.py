"""What the tests of real CLIs share."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "runs"))  # where the bench for whole runs is


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real CLIs are slower than ours."""
    import bench

    monkeypatch.setattr(bench, "DEADLINE_S", 500.0)
