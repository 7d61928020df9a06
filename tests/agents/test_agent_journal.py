"""The agent's journal: what was done is not forgotten, whatever dies."""

from pathlib import Path

import msgspec
import pytest
from agent_driving import command

from lorch_actors.agents import files
from lorch_actors.agents.journal import Journal, Outcome
from lorch_actors.errors import StorageError
from lorch_actors.protocol.messages import Artifact, Command
from lorch_actors.storage import disk

DONE = Outcome(event="review.completed", status="approved", payload={"n": 2**70})


def told(key: str = "one", **changes: object) -> Command:
    return msgspec.convert(command("review", key, **changes), Command)


@pytest.fixture
def opened(tmp_path: Path):
    """Open the journal again and again; close them all."""
    journals = []

    def open_journal() -> Journal:
        journals.append(Journal(tmp_path / "state" / "j.ndjson", lambda: 1000))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


def test_an_outcome_is_found_by_the_next_process(tmp_path: Path, opened):
    """What one process finished, the next one answers."""
    first = opened()
    first.started(told())
    first.finished(told().idempotency_key, DONE)

    assert opened().answer(told().idempotency_key, tmp_path) == DONE
    assert opened().answer(told("other").idempotency_key, tmp_path) is None


def test_work_that_was_begun_but_not_ended_has_no_answer(tmp_path: Path, opened):
    """A killed execution is one more execution, not an outcome."""
    opened().started(told())
    journal = opened()

    assert journal.answer(told().idempotency_key, tmp_path) is None
    assert journal.executions(told().idempotency_key) == 1
    assert journal.started(told()) == 2


def test_an_error_is_no_answer(tmp_path: Path, opened):
    """A repeat after an error does the work again."""
    journal = opened()
    journal.finished(told().idempotency_key, Outcome(event="error", payload={"retryable": True}))

    assert journal.answer(told().idempotency_key, tmp_path) is None


@pytest.mark.parametrize("harm", ["changed", "removed", "replaced by a link"])
def test_an_answer_whose_files_are_no_longer_as_claimed_is_none(tmp_path: Path, opened, harm: str):
    """Then the work has to be done again."""
    claim = files.write(tmp_path, "src/a.py", b"a = 1\n")
    journal = opened()
    journal.finished("k" * 16, Outcome(event="builder.completed", artifacts=[claim]))
    assert journal.answer("k" * 16, tmp_path) is not None

    target = tmp_path / "src" / "a.py"
    if harm == "changed":
        target.write_text("a = 2\n")
    else:
        target.unlink()
    if harm == "replaced by a link":
        (tmp_path / "elsewhere").write_bytes(b"a = 1\n")
        target.symlink_to(tmp_path / "elsewhere")

    assert journal.answer("k" * 16, tmp_path) is None


def test_a_session_is_found_by_the_next_process_until_it_is_given_up(tmp_path: Path, opened):
    """With what it used, counts as counts and money as money."""
    first = opened()
    first.met_session("one", "s-1")
    first.met_session("one", "s-1", {"input_tokens": 7, "cost_usd": 0.5})
    found = opened().session("one")
    first.met_session("one", "")

    assert found is not None
    assert (found.session_id, found.usage) == ("s-1", {"input_tokens": 7, "cost_usd": 0.5})
    assert isinstance(found.usage["input_tokens"], int)
    assert opened().session("one") is None


def test_the_latest_outcome_counts(tmp_path: Path, opened):
    """Work that was done again answers with what it came to last."""
    journal = opened()
    journal.finished("k" * 16, Outcome(event="review.completed", status="approved"))
    journal.finished("k" * 16, DONE)

    assert opened().answer("k" * 16, tmp_path) == DONE


@pytest.mark.parametrize("torn", [b'{"entry":"finished","key":"k', b"\xff\x00", b"null", b'{"entry":"new kind"}'])
def test_open_on_torn_write(tmp_path: Path, opened, torn: bytes):
    """A torn last line stands for nothing, and what is appended after it is read again."""
    opened().started(told())
    path = tmp_path / "state" / "j.ndjson"
    path.write_bytes(path.read_bytes() + torn)

    second = opened()
    second.finished(told().idempotency_key, DONE)

    third = opened()
    assert third.answer(told().idempotency_key, tmp_path) == DONE
    assert third.executions(told().idempotency_key) == 1
    assert path.read_bytes().count(b"\n") == 3


def test_two_processes_may_append_to_one_journal(tmp_path: Path, opened):
    """An incarnation that is still dying does not make the next one misread its own entries."""
    old, new = opened(), opened()
    old.started(told("old"))
    new.finished("k" * 16, DONE)

    assert new.answer("k" * 16, tmp_path) == DONE


def test_a_key_keeps_its_position(opened):
    """Turns are counted by distinct keys, in the order in which they were begun first."""
    journal = opened()
    for key in ("one", "two", "one"):
        journal.started(told(key))
    reopened = opened()

    positions = [reopened.position(told(key).idempotency_key, lambda _: True) for key in ("one", "two", "three")]

    assert positions == [0, 1, 2]
    assert reopened.position(told("three").idempotency_key, lambda entry: entry.key.endswith("two")) == 1


def test_an_entry_is_synced_before_it_counts(opened, monkeypatch: pytest.MonkeyPatch):
    """When the disk refuses to sync, the work is not begun."""

    def refuse(_fd: int) -> None:
        raise StorageError("cannot sync")

    journal = opened()
    monkeypatch.setattr(disk, "sync_data", refuse)

    with pytest.raises(StorageError):
        journal.started(told())
    assert journal.executions(told().idempotency_key) == 0


def test_files_are_private(tmp_path: Path, opened):
    """The directory is 0700, the journal 0600."""
    opened()

    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "j.ndjson").stat().st_mode & 0o777 == 0o600


def test_claims_tell_size_and_checksum(tmp_path: Path):
    """The claim on a written file is the claim on the file as it is."""
    claim = files.write(tmp_path, "a/b.txt", b"x" * 3_000_000)

    assert claim == files.claim(tmp_path, "a/b.txt")
    assert isinstance(claim, Artifact)
    assert claim.size == 3_000_000


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a//b", "./a", "a/", "a\0b", "out/x"])
def test_paths_that_leave_the_workspace_are_refused(tmp_path: Path, path: str):
    """By their text, or because a link in them leads out."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "out").symlink_to(tmp_path)

    with pytest.raises(files.PathRefused):
        files.write(workspace, path, b"")
    assert [entry.name for entry in tmp_path.iterdir()] == ["workspace"]
    assert not files.exists(workspace, path)


def test_a_written_file_keeps_its_mode(tmp_path: Path):
    """The user's own files keep their modes; a link is replaced, not followed."""
    (tmp_path / "tool.sh").write_text("old")
    (tmp_path / "tool.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("tool.sh")

    files.write(tmp_path, "tool.sh", b"new")
    files.write(tmp_path, "link", b"own")

    assert (tmp_path / "tool.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tool.sh").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_what_a_disk_refused_in_the_middle_spoils_no_other_entry(tmp_path: Path, opened, monkeypatch):
    """Half a line may be there; the next one is not glued to it."""
    journal = opened()
    write = disk.write

    def refuse(fd: int, data: bytes) -> None:
        write(fd, data[: len(data) // 2])
        raise StorageError("the disk is full")

    monkeypatch.setattr(disk, "write", refuse)
    with pytest.raises(StorageError):
        journal.started(told("torn"))
    monkeypatch.setattr(disk, "write", write)
    journal.started(told())
    journal.finished(told().idempotency_key, DONE)

    for again in (journal, opened()):
        assert again.answer(told().idempotency_key, tmp_path) == DONE
        assert again.executions(told().idempotency_key) == 1
        assert again.executions(told("torn").idempotency_key) == 0


def test_a_damaged_byte_costs_its_line_alone(tmp_path: Path, opened):
    """UTF-8 or not: the agent comes up nevertheless."""
    journal = opened()
    journal.started(told())
    path = tmp_path / "state" / "j.ndjson"
    path.write_bytes(b'{"entry":"started","key":"\xff"}\n' + path.read_bytes())

    assert opened().executions(told().idempotency_key) == 1


def test_what_is_begun_anew_has_no_answer_until_it_ends(tmp_path: Path, opened):
    """The claim no longer held; that it holds again while the work is half done proves nothing."""
    journal = opened()
    journal.started(told())
    journal.finished(told().idempotency_key, DONE)
    journal.started(told())

    assert journal.answer(told().idempotency_key, tmp_path) is None
    assert opened().answer(told().idempotency_key, tmp_path) is None
