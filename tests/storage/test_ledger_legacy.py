"""Ledgers written by lorch 1.5."""

import pytest
from ledger_making import RUN, as_file, progress, sealed_lines

from lorch_actors.errors import LedgerDamaged
from lorch_actors.storage.ledger import Position, inspect, read_entries, read_lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "20250101-any-id.ndjson"


def test_messages_without_our_key_are_numbered_here(path):
    """A ledger whose first line has no ledger key is read: blank and null lines count for nothing, chains are empty."""
    path.write_bytes(b"\nnull\n" + progress(1) + b"\n\nnull\n \n" + progress(2) + b"\n")

    entries = [entry for entry, _ in read_entries(path, RUN)]

    assert [(e.seq, e.chain, e.message.message_id) for e in entries] == [(1, "", "m-1"), (2, "", "m-2")]


@pytest.mark.parametrize("end", [b"", b'{"kind":"ev', b"null", b"nul"])
def test_a_torn_last_line_ends_a_legacy_ledger(path, end):
    """A last line that lorch 1.5 was still writing when it died does not make the ledger unreadable."""
    path.write_bytes(progress(1) + b"\n" + progress(2) + b"\n" + end)

    assert [e.seq for e, _ in read_entries(path, RUN)] == [1, 2]


def test_a_last_line_without_newline_is_read(path):
    """A whole last message that lacks only its newline counts."""
    path.write_bytes(progress(1) + b"\n" + progress(2))

    assert [e.seq for e, _ in read_entries(path, RUN)] == [1, 2]


def test_legacy_lines_carry_their_place(path):
    """The lower layer gives raw lines with offsets, and reading goes on after any of them."""
    path.write_bytes(b"null\n" + progress(1) + b"\n" + progress(2) + b"\n")

    first, second = read_lines(path, RUN)

    assert (first.seq, first.durable, first.chain, first.offset, first.raw) == (1, 0, "", 5, progress(1))
    assert first.message_json == progress(1)
    assert list(read_lines(path, RUN, after=first.end())) == [second]
    assert [e.seq for e, _ in read_entries(path, RUN, after=first.end())] == [2]
    assert [e.seq for e, _ in read_entries(path, RUN, upto_seq=1)] == [1]
    assert [r.seq for r in read_lines(path, RUN, upto_seq=1)] == [1]


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"kind":"poem"}', b"x" * 5_000_000])
def test_a_broken_line_inside_is_named(path, broken):
    """A line that is no message and not the unfinished last one is damage, with its place."""
    path.write_bytes(progress(1) + b"\n" + broken + b"\n" + progress(2) + b"\n")

    with pytest.raises(LedgerDamaged, match="line 2 is no message") as caught:
        list(read_entries(path, RUN))

    assert caught.value.where == f"{path}, line 2, byte {len(progress(1)) + 1}"


def test_a_sealed_line_in_a_legacy_ledger_is_damage(path):
    """A ledger of ours whose first line was replaced does not pass for one of lorch 1.5."""
    lines = sealed_lines((0, 1, 2))
    path.write_bytes(progress(1) + b"\n" + as_file(lines[1:]))

    with pytest.raises(LedgerDamaged, match="line 2 is no message: sealed"):
        list(read_entries(path, RUN))


def test_no_flipped_byte_makes_one_of_our_ledgers_a_legacy_one(path):
    """A ledger whose first line was damaged in any byte stays one of ours, and damaged."""
    lines = sealed_lines((0, 1))
    whole = bytearray(as_file(lines))
    for at in range(len(lines[0][1])):
        whole[at] ^= 1 << at % 8
        path.write_bytes(whole)
        whole[at] ^= 1 << at % 8
        with pytest.raises(LedgerDamaged, match="the ledger is damaged"):
            inspect(path, RUN)


def test_inspect_says_that_a_ledger_is_legacy(path):
    """Inspection counts a legacy ledger's messages and says what it is."""
    path.write_bytes(progress(1) + b"\nnull\n" + progress(2) + b"\n")

    found = inspect(path, RUN)

    assert (found.legacy, found.end.seq, found.durable) == (True, 2, 0)
    assert found.end == Position(2, "", len(path.read_bytes()))


@pytest.mark.parametrize("content", [b"", b"\n\nnull\n", b'{"kind":"ev', b"\0\0\0\0"])
def test_a_ledger_that_says_nothing_is_not_legacy(path, content):
    """Without any message there is nothing that could decide for lorch 1.5: the ledger is empty, or torn."""
    path.write_bytes(content)

    assert inspect(path, RUN).legacy is False
    assert list(read_entries(path, RUN)) == []
