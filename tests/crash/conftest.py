"""What the tests of this room share."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from planted_tree import copied_tree
from promises import story_of_tasks

MEMORY = Path("/dev/shm")

sys.path.append(str(Path(__file__).parent.parent / "runs"))  # where the bench for whole runs is


@contextmanager
def _in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lorch-crash-", dir=MEMORY if MEMORY.is_dir() else None) as root:
        yield Path(root)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Make a directory in memory, where a sync costs nothing: these tests ask whether it was asked for, and when."""
    with _in_memory() as root:
        yield root


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Make a copy of the program and its tests, which all tests of a process share."""
    with _in_memory() as root:
        yield copied_tree(root / "tree")


@pytest.fixture
def story_for():
    """Return what an undisturbed run of these tasks comes to."""
    return story_of_tasks
