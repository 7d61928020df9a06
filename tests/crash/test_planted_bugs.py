"""The suites have teeth: each planted bug is found by the one that is there for it."""

import inspect
from pathlib import Path

import pytest
from finding import HARNESSES, ONE, evidence, found_by
from planted import PLANTED, Bug, changed_source, function_of, planted
from planted_tree import IN_THE_TREE, ROOT, told_by_tests

from lorch_actors.storage.ledger import LedgerFile

ALL = (*PLANTED, *IN_THE_TREE)
QUICK = (
    "chains are not compared",
    "no projection vouches",
    "a short write is left short",
    "the backoff has no cap",
)


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.name)
def test_every_bug_can_be_planted(bug: Bug) -> None:
    """Whoever changes a safeguard says here how it would be taken away."""
    source = inspect.getsource(function_of(bug))
    path, _, name = bug.suite.partition("::")

    assert source != changed_source(bug, source)
    assert f"def {name}(" in (ROOT / path).read_text() or not name


@pytest.mark.parametrize("bug", [bug for bug in ALL if bug.name in QUICK], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(scratch: Path, tree: Path, bug: Bug) -> None:
    """Some bugs, each by its suite."""
    assert evidence(bug, scratch, tree)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", [bug for bug in ALL if bug.name not in QUICK], ids=lambda bug: bug.name)
def test_every_planted_bug_is_found(scratch: Path, tree: Path, bug: Bug) -> None:
    """All others, each by its suite."""
    assert evidence(bug, scratch, tree)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("harness", HARNESSES)
def test_without_a_bug_nothing_is_found(scratch: Path, story_for, harness: str) -> None:
    """What the harnesses find is the bugs, not themselves."""
    assert found_by(harness, story_for(ONE), scratch / "sound") == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_without_a_bug_no_test_fails(tree: Path) -> None:
    """What the tests find is the bugs, not the copy of the tree."""
    assert told_by_tests(tree, *sorted({bug.found_by for bug in IN_THE_TREE})) == []


def test_a_bug_is_gone_when_its_time_is_over() -> None:
    """Planting changes code that everybody shares, so it has to be taken back."""
    bug = next(bug for bug in PLANTED if function_of(bug) is LedgerFile.sync)
    sound = LedgerFile.sync.__code__

    with planted(bug):
        assert LedgerFile.sync.__code__ is not sound

    assert LedgerFile.sync.__code__ is sound
