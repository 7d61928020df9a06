"""A ledger that was cut anywhere, with all that stood for it gone, resumes to the same end; else it is refused.

What is the same after a resume: the tasks and how they ended, the steps in their order, and for every task whose
snapshot stands in what is left of the ledger, each step's key. Whoever keeps a journal of keys does such steps no
second time. A task whose snapshot was cut away is captured anew; if its own steps have changed the tree since, that
is another snapshot with other keys, and its steps are done once more, once each.
"""

import json
from collections import Counter
from pathlib import Path

import pytest
from bench import Bench
from cutting import (
    ROUNDS,
    captured_within,
    check_resumed,
    copy_of,
    cut,
    digests,
    finished,
    forget,
    git,
    keys_of,
    ledger_file,
    steps,
)

KINDS = ("untracked", "tracked", "two tasks", "in git")


class Originals:
    """One finished run of each kind, made when it is asked for first; they are copied, never changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Bench] = {}

    def __getitem__(self, kind: str) -> Bench:
        """Return the workspace with the run of that kind."""
        if kind not in self._made:
            tasks = ["T-1"] if kind in {"untracked", "tracked"} else ["T-1", "T-2"]
            root = self._root / kind.replace(" ", "-")
            self._made[kind] = finished(root, *tasks, tracked=kind != "untracked", in_git=kind == "in git")
        return self._made[kind]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Make room for finished runs."""
    return Originals(tmp_path_factory.mktemp("finished"))


def line_of(there: Bench, name: str, nth: int = 0) -> int:
    """Return the number of the nth line that is an event or a command of that name."""
    found = [line for line in there.ledger() if name in (line.get("event"), line.get("action"))]
    return int(found[nth]["ledger"]["seq"])


def resumed(original: Bench, root: Path, lines: int, *, torn: bool = False, receipts: bool = True) -> Bench:
    """Cut a copy after so many lines, remove every projection, resume, and check what has to hold after any cut."""
    there = copy_of(original, root)
    before = there.ledger()
    left = ledger_file(there).read_bytes().splitlines(keepends=True)[:lines]
    half = cut(there, lines, torn=torn)
    forget(there, receipts=receipts)
    over = any(line.get("event") == "system.run_finished" for line in before[:lines])

    ended = there.run("resume", "--run", there.run_ids[0])

    check_resumed(there, ended, before)
    now = ledger_file(there).read_bytes().splitlines(keepends=True)
    assert now[:lines] == left
    aside = list((there.root / "events").glob("*.torn-*"))
    assert [path.read_bytes() for path in aside] == ([half] if half and not over else [])
    # nobody writes into the ledger of a run that is over, so half a line behind its end stays where it is
    check_steps(there, before, [json.loads(line) for line in now if line.endswith(b"\n")], lines)
    return there


def check_steps(there: Bench, before: list[dict], after: list[dict], lines: int) -> None:
    """Every step once: with the key it had where its snapshot is left, and with another one where it is not."""
    then, now = keys_of(before), keys_of(after)
    assert list(now.values()) == list(then.values())
    captured = captured_within(before[:lines])
    kept = {key: step for key, step in then.items() if step.split()[0] in captured}
    assert {key: step for key, step in now.items() if step.split()[0] in captured} == kept
    assert Counter(there.finished_keys()) == Counter({**then, **now}.keys())
    assert there.executions() == dict.fromkeys({**then, **now}, 1)
    for task_id in {step.split()[0] for step in then.values()}:
        assert steps(there, task_id) == list(range(1, len(ROUNDS) + 1))


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


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "torn"), [("tracked", False), ("in git", False), ("two tasks", False), ("two tasks", True)]
)
def test_a_ledger_cut_after_any_line_resumes_to_the_same_end(
    runs: Originals, tmp_path: Path, kind: str, *, torn: bool
) -> None:
    """Every line of the ledger, and the middle of every line but the first."""
    original = runs[kind]
    for lines in range(1, len(original.ledger()) + (not torn)):
        there = resumed(original, tmp_path / f"w{lines}", lines, torn=torn)
        if kind == "in git":
            check_commits(there)


def check_commits(there: Bench) -> None:
    """One commit for each task, on the branch of the run, and a clean tree."""
    (run_id,) = there.run_ids
    assert git(there, "symbolic-ref", "HEAD") == f"refs/heads/lorch/{run_id}"
    assert git(there, "rev-list", "--count", f"main..lorch/{run_id}") == "2"
    assert git(there, "status", "--porcelain") == ""


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
