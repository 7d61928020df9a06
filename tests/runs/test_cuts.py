"""A ledger that was cut anywhere, with all that stood for it gone, resumes to the same end; else it is refused.

What is the same after a resume: the tasks and how they ended, the steps in their order, and for every task whose
snapshot stands in what is left of the ledger, each step's key. Whoever keeps a journal of keys does such steps no
second time. A task whose snapshot was cut away is captured anew; if its own steps have changed the tree since, that
is another snapshot with other keys, and its steps are done once more, once each.
"""

from pathlib import Path

import pytest
from cutting import Originals, copy_of, cut, digests, forget, ledger_file, line_of, resumed


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Make room for finished runs."""
    return Originals(tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(
    ("kind", "name", "nth"),
    [
        ("untracked", "system.run_started", 0),
        pytest.param("two tasks", "system.task_finished", 0, marks=pytest.mark.long),
        pytest.param("tracked", "review", 1, marks=pytest.mark.long),
    ],
)
def test_a_ledger_cut_after_a_line_resumes_to_the_same_end(
    runs: Originals, tmp_path: Path, kind: str, name: str, nth: int, *, torn: bool
) -> None:
    """Cut between two lines, or in the middle of one, which is kept aside."""
    resumed(runs[kind], tmp_path / "w", line_of(runs[kind], name, nth), torn=torn)


@pytest.mark.parametrize("left", ["state/run.json", "state/index.json", "state/checkpoint.cbor"])
def test_a_cut_ledger_is_refused_as_long_as_anything_stands_for_the_rest(
    runs: Originals, tmp_path: Path, left: str
) -> None:
    """With the place where it ends, and nothing on disk is changed."""
    there = copy_of(runs["untracked"], tmp_path / "w")
    lines = line_of(there, "review") - 1
    cut(there, lines, torn=True)
    kept = (there.root / left).read_bytes()
    forget(there, receipts=False)
    (there.root / left).write_bytes(kept)
    before = digests(there.root)

    ended = there.run("resume", "--run", there.run_ids[0])

    path = ledger_file(there)
    offset = len(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    assert ended.code == 1, ended
    assert f"{path}, line {lines + 1}, byte {offset}" in ended.err
    assert digests(there.root) == before


@pytest.mark.parametrize("name", ["resume", "status", "verify"])
@pytest.mark.parametrize("left", ["no ledger", "no line", "all but the last line"])
def test_nothing_takes_a_cut_ledger_for_a_whole_one(runs: Originals, tmp_path: Path, left: str, name: str) -> None:
    """Whoever asks for no run in particular hears of the damage as well."""
    there = copy_of(runs["untracked"], tmp_path / "w")
    path = ledger_file(there)
    if left == "no ledger":
        path.unlink()
    else:
        cut(there, 0 if left == "no line" else len(there.ledger()) - 1)
    before = digests(there.root)

    ended = there.run(name)

    assert ended.code == 1, ended
    assert path.stem in ended.err + ended.out
    assert digests(there.root) == before


@pytest.mark.parametrize("content", [b"", b'{"kind":"event","message_id":"sys'])
def test_an_empty_ledger_is_no_completed_run(runs: Originals, tmp_path: Path, content: bytes) -> None:
    """There is nothing in it to resume: it says so and executes nothing."""
    there = copy_of(runs["untracked"], tmp_path / "w")
    executed = there.executions()
    (run_id,) = there.run_ids
    ledger_file(there).write_bytes(content)
    forget(there)

    ended = there.run("resume", "--run", run_id)
    newest = there.run("resume")

    assert ended.code == 2, ended
    assert f"run {run_id} was interrupted before its first entry" in ended.err
    assert newest.code == 0, newest
    assert "nothing is unfinished here" in newest.err
    assert there.executions() == executed
    assert not (there.root / "state" / "run.json").exists()


def test_receipts_of_what_was_cut_away_do_not_count(runs: Originals, tmp_path: Path) -> None:
    """Steps are numbered from the ledger, so that they have no gap, and what was left lying is written over."""
    resumed(runs["untracked"], tmp_path / "w", line_of(runs["untracked"], "implement_changes"), receipts=False)


def test_a_cut_behind_the_end_of_a_run_leaves_it_over(runs: Originals, tmp_path: Path) -> None:
    """The resume has nothing to do but to write down what the ledger says."""
    there = copy_of(runs["untracked"], tmp_path / "w")
    cut(there, line_of(there, "system.run_finished"))
    forget(there)
    left = ledger_file(there).read_bytes()

    ended = there.run("resume")

    assert ended.code == 0, ended
    assert ledger_file(there).read_bytes() == left
    assert there.state()["status"] == "completed"
    assert there.findings() == []
