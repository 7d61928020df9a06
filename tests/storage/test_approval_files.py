"""Answers on their way to a run: the first counts, whole or not at all, and whoever watches is woken."""

import os
import select
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorch_actors.errors import StorageError
from lorch_actors.storage import approvals
from lorch_actors.storage.approvals import Answer, Arrivals

AT = "2026-01-01T00:00:00.000Z"


def answer(decision: str = "allow", name: str = "ap-1", run_id: str = "run-1") -> Answer:
    """Return an answer."""
    return Answer(run_id, name, decision, "because", AT)


def test_of_many_who_answer_at_once_one_has_answered(tmp_path: Path):
    """The others are told that they were late, and nothing is left of theirs."""
    path = tmp_path / "ap-1.json"
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda n: approvals.give(path, answer("allow" if n % 2 else "deny")), range(16)))

    assert first.count(True) == 1
    assert approvals.read(path) == answer("allow" if first.index(True) % 2 else "deny")
    assert [one.name for one in tmp_path.iterdir()] == ["ap-1.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_answer_wakes_whoever_watches(tmp_path: Path):
    """The descriptor can be read when there is one, and not before or after."""
    arrivals = Arrivals(tmp_path)
    try:
        assert select.select([arrivals.fd], [], [], 0)[0] == []
        approvals.give(tmp_path / "ap-1.json", answer())
        assert select.select([arrivals.fd], [], [], 10)[0] == [arrivals.fd]
        arrivals.drain()
        arrivals.drain()
        assert select.select([arrivals.fd], [], [], 0)[0] == []
    finally:
        arrivals.close()


def test_what_is_no_answer_reads_as_none(tmp_path: Path):
    """Whatever somebody put there by hand."""
    path = tmp_path / "ap-1.json"
    assert approvals.read(path) is None
    for content in (b"", b"{", b"\xff", b'{"decision": "perhaps"}', bytes(approvals.ANSWER_MAX_BYTES + 1)):
        path.write_bytes(content)
        assert approvals.read(path) is None
    path.unlink()
    path.mkdir()
    assert approvals.read(path) is None
    approvals.remove_all(tmp_path, "run-1")


def test_at_its_end_a_run_takes_its_own_answers_away(tmp_path: Path):
    """Those to another run, and what is none, stay."""
    approvals.give(tmp_path / "ap-1.json", answer())
    approvals.give(tmp_path / "ap-2.json", answer(run_id="run-2"))
    (tmp_path / "ap-3.json").write_text("?")
    approvals.remove_all(tmp_path, "run-1")

    assert sorted(one.name for one in tmp_path.iterdir()) == ["ap-2.json", "ap-3.json"]


def test_a_directory_that_cannot_be_watched_is_an_error_in_words(tmp_path: Path):
    """It names the place and what to do, and leaves no descriptor open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StorageError, match="cannot watch for answers") as refused:
        Arrivals(tmp_path / "gone")

    assert refused.value.where == str(tmp_path / "gone")
    assert len(os.listdir("/proc/self/fd")) == len(before)
