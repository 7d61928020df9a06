"""Reading a ledger: proved line by line, in bounded memory, changing nothing."""

import json
import os
import random
import tracemalloc

import pytest
from ledger_making import RUN, as_file, end_of, progress, sealed_lines, torn_files, write_ledger

from lorch_actors.errors import LedgerDamaged, StorageError
from lorch_actors.storage import disk, ledger_scan
from lorch_actors.storage.ledger import Inspection, Position, inspect, read_entries, read_lines
from lorch_actors.storage.ledger_format import follows, seal
from lorch_actors.storage.ledger_scan import Walk

DURABLES = (0, 1, 1, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / f"{RUN}.ndjson"


def test_entries_carry_number_chain_and_message(path):
    """Every line comes out as an entry: its number, its chain, and the typed message without our key."""
    lines = write_ledger(path, DURABLES)

    entries = [entry for entry, _ in read_entries(path, RUN)]

    assert [(e.seq, e.chain, e.message.message_id) for e in entries] == [
        (seq, line[-19:-3].decode(), f"m-{seq}") for seq, line in lines
    ]


def test_lines_carry_their_bytes_and_their_place(path):
    """The lower layer hands out each line's bytes, durable mark and offset, and the message as it was sealed."""
    lines = write_ledger(path, DURABLES)

    read = list(read_lines(path, RUN))

    assert [(r.seq, r.raw) for r in read] == lines
    assert [r.durable for r in read] == list(DURABLES)
    assert [r.message_json for r in read] == [progress(seq) for seq in (1, 2, 3, 4)]
    assert [r.end() for r in read] == [end_of(lines[:n]) for n in (1, 2, 3, 4)]
    assert [r.offset for r in read] == [0, *(end_of(lines[:n]).offset for n in (1, 2, 3))]


def numbers_of_entries(*arguments, **settings):
    return [entry.seq for entry, _ in read_entries(*arguments, **settings)]


def numbers_of_lines(*arguments, **settings):
    return [line.seq for line in read_lines(*arguments, **settings)]


@pytest.mark.parametrize("read", [numbers_of_entries, numbers_of_lines])
def test_reading_goes_on_after_a_place_and_stops_at_a_number(path, read):
    """A catch-up reads what lies behind its offset, up to and with the last durable number it was told."""
    lines = write_ledger(path, DURABLES)

    assert read(path, RUN, after=end_of(lines[:1]), upto_seq=3) == [2, 3]
    assert read(path, RUN, after=end_of(lines), upto_seq=4) == []
    assert read(path, RUN, after=Position.start(RUN)) == [1, 2, 3, 4]
    assert read(path, RUN, upto_seq=0) == []


def test_entries_come_with_the_place_after_them(path):
    """From there the next one is read."""
    lines = write_ledger(path, DURABLES)

    places = [end_of(lines[:count]) for count in range(1, len(lines) + 1)]
    assert [place for _, place in read_entries(path, RUN)] == places


def test_reading_after_a_place_does_not_read_what_lies_before(path):
    """Catching up costs what is new, not the whole file."""
    lines = write_ledger(path, DURABLES)
    path.write_bytes(path.read_bytes().replace(b'"m-1"', b'"m-9"'))

    assert [e.seq for e, _ in read_entries(path, RUN, after=end_of(lines[:3]))] == [4]


def test_a_place_with_a_wrong_offset_is_found_by_its_number(path):
    """When the offset does not fit, the ledger is read from its start and the place found by number and chain."""
    lines = write_ledger(path, DURABLES)
    place = end_of(lines[:2])

    assert [e.seq for e, _ in read_entries(path, RUN, after=Position(2, place.chain, 7))] == [3, 4]


def test_a_place_of_another_history_is_damage(path):
    """A reader that saw another line under that number is told so, and gets nothing."""
    write_ledger(path, DURABLES)

    with pytest.raises(LedgerDamaged, match=r"line 2 has the chain .*, a reader saw it with 0123456789abcdef"):
        list(read_entries(path, RUN, after=Position(2, "0123456789abcdef", 7)))


@pytest.mark.parametrize("upto", [None, 5])
def test_a_ledger_that_ends_before_a_known_place_is_damage(path, upto):
    """What was durable once has to be there: a shorter file is refused."""
    lines = sealed_lines((0, 1, 1, 3, 4))
    path.write_bytes(as_file(lines[:3]))

    with pytest.raises(LedgerDamaged, match="ends after line 3, but line"):
        list(read_entries(path, RUN, after=end_of(lines[:4]), upto_seq=upto))


def test_a_durable_number_that_is_torn_is_damage(path):
    """A torn line that was durable once is no unfinished write."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines)[:-30])

    with pytest.raises(LedgerDamaged, match="line 4 is torn"):
        list(read_entries(path, RUN, upto_seq=4))
    assert [e.seq for e, _ in read_entries(path, RUN, upto_seq=3)] == [1, 2, 3]


def test_an_unfinished_write_is_passed_over_at_any_byte(path):
    """A reader beside a working writer sees whole lines only, wherever the writer is, and touches nothing."""
    lines = sealed_lines(DURABLES)
    whole = as_file(lines)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = sum(end_of(lines[:n]).offset <= cut + 1 for n in (1, 2, 3, 4))

        assert len(list(read_lines(path, RUN))) == kept
        assert path.stat().st_size == cut
    assert torn_files(path) == []


def test_every_flipped_bit_is_found(path):
    """No bit can change in what later lines vouch for without the reader naming the line."""
    lines = sealed_lines(DURABLES)
    whole = bytearray(as_file(lines))
    starts = [0, *(end_of(lines[:n]).offset for n in (1, 2, 3))]
    for at in range(end_of(lines[:3]).offset):
        line = sum(start <= at for start in starts)
        bit = 1 << at % 8
        whole[at] ^= bit
        path.write_bytes(whole)
        whole[at] ^= bit

        seen = []
        with pytest.raises(LedgerDamaged) as caught:
            seen.extend(entry for entry, _ in read_entries(path, RUN))
        assert f"line {line}, byte {starts[line - 1]}" in caught.value.where


@pytest.mark.parametrize("numbers", [(1, 3, 4), (1, 1, 2), (2, 3, 4)])
def test_a_right_chain_over_wrong_numbers_is_damage(path, numbers):
    """Lines that chain but are not numbered 1, 2, 3 without a gap were not written by us."""
    chain, content = RUN, b""
    for seq in numbers:
        line, chain = seal(progress(seq), seq, seq - 1, chain)
        content += line + b"\n"
    path.write_bytes(content)

    with pytest.raises(LedgerDamaged):
        list(read_lines(path, RUN, upto_seq=3))


def test_the_fast_walk_agrees_with_the_format(tmp_path):
    """The walk's own loop accepts exactly the lines that the format says follow."""
    chooser = random.Random(7)
    lines = sealed_lines(DURABLES)
    for _ in range(500):
        seq, line = lines[chooser.randrange(4)]
        tampered = bytearray(line)
        for _ in range(chooser.randrange(3)):
            tampered[chooser.randrange(len(tampered))] = chooser.choice(b'0a"{},:')
        before = Position.start(RUN) if seq == 1 else end_of(lines[: seq - 1])
        file = tmp_path / "one-line"
        file.write_bytes(bytes(before.offset) + tampered + b"\n")
        fd = os.open(file, os.O_RDONLY)

        accepted = [raw for *_, raw in Walk(fd, before).lines()]

        os.close(fd)
        expected = [bytes(tampered)] if follows(bytes(tampered), seq, before.chain) else []
        assert accepted == expected


def test_lines_across_block_borders_are_whole(path, monkeypatch):
    """Wherever a block of reading ends, lines come out the same."""
    lines = write_ledger(path, DURABLES)
    for size in (1, 7, 300, len(lines[0][1]), len(lines[0][1]) + 1):
        monkeypatch.setattr(ledger_scan, "BLOCK_BYTES", size)

        assert [(r.seq, r.raw) for r in read_lines(path, RUN)] == lines


def test_a_long_ledger_is_read_in_bounded_memory(path):
    """Reading 16 MiB takes memory for a block or two, not for the file."""
    chain = RUN
    with path.open("wb") as file:
        for seq in range(1, 129):
            line, chain = seal(progress(seq, "x" * 131_072), seq, seq - 1, chain)
            file.write(line + b"\n")
    tracemalloc.start()

    count = sum(1 for _ in read_entries(path, RUN))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 128
    assert peak < 8 * 1024 * 1024


def test_a_garbage_tail_is_read_in_bounded_memory(path):
    """Gigabytes without a newline behind the last line are passed over, not collected."""
    lines = write_ledger(path, DURABLES)
    with path.open("r+b") as file:
        file.truncate(end_of(lines).offset + 64 * 1024 * 1024)
    tracemalloc.start()

    found = inspect(path, RUN)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.end, found.tail_bytes) == (end_of(lines), 64 * 1024 * 1024)
    assert peak < 24 * 1024 * 1024


def test_integers_beyond_doubles_survive(path):
    """Integers above 2^53 are the same after the way through the ledger."""
    number = 2**80 + 1
    message = progress(1).replace(b'"text":"working"', b'"n":%d' % number)
    line, _ = seal(message, 1, 0, RUN)
    path.write_bytes(line + b"\n")

    [(entry, _)] = read_entries(path, RUN)

    assert entry.message.payload == {"n": number}


def test_a_checksum_that_was_accepted_with_a_warning_is_read_again(path):
    """What entered the ledger under `verify_artifacts: warn` does not make it unreadable."""
    document = json.loads(progress(1)) | {"artifacts": [{"path": "a", "sha256": "none", "size": 1}]}
    line, _ = seal(json.dumps(document, separators=(",", ":")).encode(), 1, 0, RUN)
    path.write_bytes(line + b"\n")

    [(entry, _)] = read_entries(path, RUN)

    assert [a.sha256 for a in entry.message.artifacts] == ["none"]


def test_a_sealed_line_that_is_no_message_is_named(path):
    """A line whose chain is right but whose content nobody understands is an error with its place."""
    line, _ = seal(b'{"kind":"poem"}', 1, 0, RUN)
    path.write_bytes(line + b"\n")

    with pytest.raises(LedgerDamaged, match="a sealed line is no message") as caught:
        list(read_entries(path, RUN))

    assert caught.value.where == f"{path}, line 1, byte 0"


def test_inspect_tells_how_a_ledger_ends(path):
    """Inspection gives the last provable place, the durable mark, and the size and kind of an unfinished tail."""
    lines = write_ledger(path, DURABLES)

    assert inspect(path, RUN) == Inspection(end_of(lines), 3)
    path.write_bytes(as_file(lines) + b'{"kind"')
    assert inspect(path, RUN) == Inspection(
        end_of(lines), 3, tail_bytes=7, tail="line 5 is torn: the file ends in the middle of it"
    )
    path.write_bytes(b"")
    assert inspect(path, RUN) == Inspection(Position.start(RUN), 0)
    path.write_bytes(as_file(lines[1:]))
    with pytest.raises(LedgerDamaged, match="line 1 is missing"):
        inspect(path, RUN)


def test_a_missing_ledger_is_a_storage_error(path):
    """Reading what is not there says so with the path."""
    with pytest.raises(StorageError, match="no such file") as caught:
        list(read_entries(path, RUN))

    assert caught.value.where == str(path)


def test_a_read_error_names_the_file(path, monkeypatch):
    """A broken disk is told as such, not as a damaged ledger."""
    write_ledger(path, DURABLES)
    monkeypatch.setattr(os, "read", _broken)

    with pytest.raises(StorageError, match="input/output error") as caught:
        list(read_lines(path, RUN))

    assert caught.value.where == str(path)


def test_an_abandoned_reader_closes_its_file(path):
    """A reader that is dropped half way leaves no descriptor behind."""
    write_ledger(path, DURABLES)
    before = len(os.listdir("/proc/self/fd"))

    reader = read_entries(path, RUN)
    next(reader)
    reader.close()

    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_a_growing_ledger_sees_every_line_once(path):
    """Lines that arrive while the reader is at work are handed out like the others."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines[:2])[:-20])
    reading = read_lines(path, RUN)
    first = next(reading)
    path.write_bytes(as_file(lines))

    assert [r.seq for r in reading] == [2, 3, 4]
    assert [r.seq for r in read_lines(path, RUN, after=first.end())] == [2, 3, 4]


def test_what_a_writer_adds_during_a_judgement_is_not_held_against_it(path):
    """A line that was being written when the reader came is not damage because it was finished a moment later."""
    lines = sealed_lines(DURABLES)
    path.write_bytes(as_file(lines)[: end_of(lines[:2]).offset + 40])
    fd = disk.open_read(path)
    walk = Walk(fd, Position.start(RUN))
    assert [seq for seq, *_ in walk.lines()] == [1, 2]
    path.write_bytes(as_file(lines))

    judgement = ledger_scan.judge(fd, walk.fault)

    os.close(fd)
    assert judgement.acknowledged == 0


def _broken(*_):
    raise OSError(5, "Input/output error")
