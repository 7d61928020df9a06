"""What the tests of this room share."""

import gc
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from promises import story_of_tasks

MEMORY = Path("/dev/shm")

sys.path.append(str(Path(__file__).parent.parent / "runs"))  # where the bench for whole runs is


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Make a directory in memory, where a sync costs nothing: these tests ask whether it was asked for, and when."""
    root = Path(tempfile.mkdtemp(prefix="lorch-crash-", dir=MEMORY if MEMORY.is_dir() else None))
    yield root
    shutil.rmtree(root)


@pytest.fixture
def story_for():
    """Return what an undisturbed run of these tasks comes to."""
    return story_of_tasks


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """Have the collector look only at what the test makes: thousands of runs, each a heap of cycles."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
