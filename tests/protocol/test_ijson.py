"""Strict I-JSON objects from single lines."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.ijson import MAX_DEPTH, InvalidLine, decode_object

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=["\ufffe", "\uffff"]), max_size=8).filter(
    lambda text: not any(ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF for c in text)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def nested(levels: int) -> bytes:
    """Return an object whose arrays bring it to that many levels."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@given(OBJECTS, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r:  ")]))
def test_any_spelling_of_an_object_gives_its_value_and_one_compact_form(
    value: dict[str, object], ascii_only: bool, separators: tuple[str, str]
):
    """White space and escapes make no difference; the compact form decodes to the same value again."""
    line = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()

    decoded, compact = decode_object(line)

    assert decoded == value
    assert list(decoded) == list(value)
    assert json.loads(compact) == value
    assert decode_object(compact) == (decoded, compact)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank line"),
        (b" \t\r", "blank line"),
        (b"null", "not an object but null"),
        (b"[]", "not an object but an array"),
        (b'"a"', "not an object but a string"),
        (b"1.5", "not an object but a number"),
        (b"true", "not an object but a boolean"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"\xc0\x80":1}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":"\\udc00\\ud800"}', "not JSON"),
        (b'{"\\ud800":1}', "not JSON"),
        (b'{"a":"\\ufdd0"}', "noncharacter"),
        (b'{"a":"\\ufdef"}', "noncharacter"),
        (nested(MAX_DEPTH + 1)[:-1] + b',"b":[]}', "levels deep"),
        (b'{"a":"\xef\xbf\xbe"}', "noncharacter"),
        (b'{"\\uffff":1}', "noncharacter"),
        (b'{"a":"\\ud83f\\udffe"}', "noncharacter"),
        (b'{"a":"\xf4\x8f\xbf\xbf"}', "noncharacter"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b'{"a":1e400}', "out of range"),
        (b'{"a":' + b"1" * 4301 + b"}", "out of range"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":"\x01"}', "not JSON"),
        (b'{"a":1} {}', "not JSON"),
        (b'{"a":1}\x00', "not JSON"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":1, "\\u0061":2}', "twice"),
        (b'{"a":{"b":[{"c":1,"c":":"}]}}', "twice"),
        (b'{"x":"\\u003a","a":1,"a":2}', "twice"),
        (b'{"a\\u003A":1,"a:":"\\u003a"}', "twice"),
        (nested(MAX_DEPTH + 1), "levels deep"),
        (nested(100_000), "levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "levels deep"),
    ],
)  # fmt: skip
def test_what_is_not_strict_ijson_is_refused_with_a_reason(line: bytes, reason: str):
    """Each rule of I-JSON that a line breaks is named."""
    with pytest.raises(InvalidLine, match=reason):
        decode_object(line)


@pytest.mark.parametrize(
    "line",
    [
        nested(MAX_DEPTH),
        nested(MAX_DEPTH)[:-1] + b',"b":[]}',
        b'{"a":[' + b",".join([b"{}"] * 500) + b"]}",
        b'{"a":"' + b"[" * 500 + b'"}',
        b'{"a":{"x":1},"b":{"x":1}}',
        b'{"a":"\\u003a","b":":\\u003A"}',
        b'{"a":"\xef\xb7\x8f\xef\xb7\xb0\xef\xbf\xbd"}',
        b'{"a":"\\u0000"}',
    ],
)
def test_what_only_looks_wrong_is_accepted(line: bytes):
    """64 levels, many brackets side by side or in strings, colons as escapes, and neighbours of noncharacters."""
    assert decode_object(line)[0] == json.loads(line)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63) - 1, 2**64, 10**4299])
def test_large_integers_are_kept_exactly(number: int):
    """An integer beyond 2^53, 64 bits, or a thousand digits comes back digit by digit."""
    line = b'{"n":%d}' % number

    assert decode_object(line) == ({"n": number}, line)


@pytest.mark.parametrize(
    ("written", "compact"),
    [(b"1E5", b"100000.0"), (b"-0", b"0"), (b"1e-400", b"0.0"), (b'"\\/\\u00e9"', b'"/\xc3\xa9"')],
)
def test_other_spellings_of_a_value_are_normalised(written: bytes, compact: bytes):
    """What has the same value may be written differently in the compact form."""
    assert decode_object(b'{"v":' + written + b"}")[1] == b'{"v":' + compact + b"}"


@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda inner: b'{"a":"' + inner + b'"}'))
def test_random_bytes_give_an_object_or_invalid_line(line: bytes):
    """Nothing but InvalidLine is ever raised."""
    with suppress(InvalidLine):
        value, compact = decode_object(line)
        assert json.loads(compact) == value
