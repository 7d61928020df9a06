"""The transcript's file goes on where it is known to go, and is begun anew where anything does not fit."""

from pathlib import Path

import pytest
from ledger_making import RUN, end_of, write_ledger

from lorch_actors.storage.ledger_format import Position
from lorch_actors.storage.transcript_file import TranscriptFile


class Place:
    """A ledger of five lines, and a transcript that is noted to go up to the third and goes on behind it."""

    def __init__(self, root: Path) -> None:
        self.ledger = root / "ledger.ndjson"
        self.path = root / "transcripts" / "run.txt"
        self.mark = root / "transcript.cbor"
        lines = write_ledger(self.ledger, [0, 1, 2, 3, 4])
        self.third = end_of(lines[:3])
        file = TranscriptFile(self.path, self.mark, RUN)
        assert file.resume(self.ledger, 3) == Position.start(RUN)
        file.write(b"one\ntwo\nthree\n")
        file.sync(self.third)
        file.write(b"four and a half")
        file.close()

    def resumed(self, upto_seq: int = 5) -> tuple[Position, bytes]:
        """Return from where the next writer goes on, and what it has in its file then."""
        file = TranscriptFile(self.path, self.mark, RUN)
        place = file.resume(self.ledger, upto_seq)
        file.close()
        return place, self.path.read_bytes()


@pytest.fixture
def there(tmp_path: Path) -> Place:
    return Place(tmp_path)


ANEW = (Position.start(RUN), b"")


def test_a_transcript_goes_on_from_where_it_is_known_to_go(there: Place) -> None:
    """What is behind that place may be torn, and is written again."""
    assert there.resumed() == (there.third, b"one\ntwo\nthree\n")


def test_what_goes_on_is_known_to_go_further(there: Place) -> None:
    """A transcript that was resumed is noted with all that is in it."""
    file = TranscriptFile(there.path, there.mark, RUN)
    file.resume(there.ledger, 5)
    file.write(b"four\n")
    fifth = Position(5, there.ledger.read_bytes()[-20:-4].decode(), there.ledger.stat().st_size)
    file.sync(fifth)
    file.close()

    assert there.resumed() == (fifth, b"one\ntwo\nthree\nfour\n")


def test_a_transcript_that_somebody_changed_is_begun_anew(there: Place) -> None:
    """A file that is other than it was written stands for nothing."""
    there.path.write_bytes(there.path.read_bytes().replace(b"two", b"2.."))

    assert there.resumed() == ANEW


def test_a_transcript_that_was_cut_is_begun_anew(there: Place) -> None:
    """So is one that lacks what was noted of it."""
    there.path.write_bytes(b"one\n")

    assert there.resumed() == ANEW


def test_a_transcript_that_goes_further_than_the_ledger_is_begun_anew(there: Place) -> None:
    """A ledger that was cut knowingly takes its transcript back as well."""
    assert there.resumed(upto_seq=2) == ANEW


def test_a_transcript_of_another_ledger_is_begun_anew(there: Place) -> None:
    """The line that it goes up to has to be the one it was."""
    write_ledger(there.ledger, [0, 0, 0, 0, 0])

    assert there.resumed() == ANEW


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_mark_that_cannot_be_read_is_none(there: Place, content: bytes) -> None:
    """It is a cache."""
    there.mark.write_bytes(content)

    assert there.resumed() == ANEW
