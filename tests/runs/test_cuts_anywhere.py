"""A ledger that was cut after any line at all, not only at chosen ones; what holds then is said in `test_cuts`."""

from pathlib import Path

import pytest
from cutting import Originals, check_commits, line_of, resumed


@pytest.fixture
def runs(tmp_path: Path) -> Originals:
    """Make room for finished runs."""
    return Originals(tmp_path / "finished")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("torn", [False, True])
def test_a_ledger_cut_after_any_line_resumes_to_the_same_end(runs: Originals, tmp_path: Path, *, torn: bool) -> None:
    """Every line of a task's ledger, and the middle of every line but the first."""
    original = runs["tracked"]
    for lines in range(1, len(original.ledger()) + (not torn)):
        resumed(original, tmp_path / f"w{lines}", lines, torn=torn)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_ledger_cut_in_its_second_task_resumes_to_the_same_end(runs: Originals, tmp_path: Path) -> None:
    """Every line from the end of the first task on: between two lines and in the middle of one, in turns."""
    original = runs["two tasks"]
    for lines in range(line_of(original, "system.task_finished"), len(original.ledger())):
        resumed(original, tmp_path / f"w{lines}", lines, torn=lines % 2 == 1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_ledger_cut_while_it_commits_resumes_to_the_same_end(runs: Originals, tmp_path: Path) -> None:
    """Every line about git and the one before it, and every fifth of the others."""
    original = runs["in git"]
    about = {"system.branch_created", "system.commit_intended", "system.commit_made"}
    gits = {line["ledger"]["seq"] for line in original.ledger() if line.get("event") in about}
    chosen = gits | {seq - 1 for seq in gits} | {*range(1, len(original.ledger()), 5)}
    for lines in sorted(chosen):
        check_commits(resumed(original, tmp_path / f"w{lines}", lines))
