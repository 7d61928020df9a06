"""Lines out of a byte stream."""

import time
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.framing import Line, LineReader, OversizeLine
from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES

LIMIT = 8
HEAD = 3


def expected_lines(stream: bytes) -> list[Line | OversizeLine]:
    """Return what a stream holds, computed from the whole of it."""
    lines = stream.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line if len(line) <= LIMIT else OversizeLine(len(line), line[:HEAD]) for line in lines]


def read_all(reader: LineReader, chunks: list[bytes]) -> list[Line | OversizeLine]:
    """Feed all chunks and close."""
    lines = [line for chunk in chunks for line in reader.feed(chunk)]
    return lines + reader.close()


@given(st.lists(st.text(alphabet="ab\n\r", max_size=12).map(str.encode), max_size=20))
def test_any_chunking_gives_the_same_lines(chunks: list[bytes]):
    """Where the stream is cut makes no difference to its lines."""
    assert read_all(LineReader(LIMIT, HEAD), chunks) == expected_lines(b"".join(chunks))


def test_a_line_of_exactly_the_limit_is_delivered_and_one_byte_more_is_dropped():
    """The limit itself is within the limit."""
    exact = b"x" * MESSAGE_MAX_BYTES

    assert LineReader().feed(exact + b"\n") == [exact]
    assert LineReader().feed(exact + b"y\n") == [OversizeLine(MESSAGE_MAX_BYTES + 1, exact[:1024])]


def test_a_carriage_return_stays_part_of_the_line():
    """CRLF ends a line whose last byte is the CR, which counts against the limit."""
    assert LineReader(LIMIT).feed(b"{}\r\n1234567\r\n12345678\r\n") == [
        b"{}\r",
        b"1234567\r",
        OversizeLine(9, b"12345678"),
    ]


def test_the_last_line_needs_no_newline():
    """What stands after the last newline is delivered when the stream closes, once."""
    reader = LineReader()

    assert reader.feed(b"a\nb") == [b"a"]
    assert reader.close() == [b"b"]
    assert reader.close() == []


def test_lines_after_an_oversize_one_are_not_lost():
    """Exactly the line over the limit is dropped."""
    assert read_all(LineReader(LIMIT, HEAD), [b"0123", b"45678", b"9\nok", b"\n"]) == [OversizeLine(10, b"012"), b"ok"]


def test_a_line_that_never_ends_takes_bounded_memory():
    """While a line over the limit goes on, only its length and its head are kept."""
    reader = LineReader()
    chunk = b"z" * 65_536
    tracemalloc.start()
    try:
        for _ in range(2000):
            assert reader.feed(chunk) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MESSAGE_MAX_BYTES
    assert reader.pending_bytes == 2000 * 65_536
    assert reader.close() == [OversizeLine(2000 * 65_536, b"z" * 1024)]


def test_a_line_in_tiny_pieces_takes_linear_time():
    """What has come of a line already makes its next byte no dearer, be it 16 MiB."""
    begun = b"x" * 16 * 1024 * 1024
    reader = LineReader(limit_bytes=2 * len(begun))
    reader.feed(begun)
    started = time.process_time()
    for _ in range(2000):
        reader.feed(b"y")
    took_s = time.process_time() - started

    assert reader.feed(b"\n") == [begun + b"y" * 2000]
    assert took_s < 0.2


def test_twenty_thousand_pieces_of_one_line_are_one_line():
    """However small the pieces, the line is whole."""
    reader = LineReader()
    pieces = [b"%d," % number for number in range(20_000)]

    assert read_all(reader, pieces) == [b"".join(pieces)]
