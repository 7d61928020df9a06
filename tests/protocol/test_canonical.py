"""Canonical JSON."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.canonical import canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_the_canonical_form_means_the_value(value: object):
    """It is JSON for the same value, whatever the order of its members was."""
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(st.text(max_size=4), st.integers(-9, 9), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_members_makes_no_difference(value: dict[str, int], random: object):
    """Equal objects have equal bytes."""
    items = list(value.items())
    random.shuffle(items)

    assert canonical(dict(items)) == canonical(value)


@given(VALUES | st.lists(st.floats(allow_nan=False, allow_infinity=False) | VALUES))
def test_it_is_what_rfc_8785_says(value: object):
    """Whichever way it is made, it is what the library that implements the standard makes of it."""
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("character", [*map(chr, (*range(0x80), 0x80, 0x2028, 0xFB33, 0x1F600))], ids=ascii)
def test_characters_are_escaped_as_rfc_8785_says(character: str):
    """The few that have to be, each in one way."""
    assert canonical([character]) == rfc8785.dumps([character])


@pytest.mark.parametrize(
    "value",
    [{"\ufb33": 1, "\U0001f600": 2}, {"a": [{"b": -0.0}]}, {"a": 1e21}, {"b": True, "a": [None, 2**53 - 1, {"": ""}]}],
)
def test_nothing_is_taken_for_plain_that_is_not(value: object):
    """Names that UTF-16 sorts otherwise and fractions are left to the library, wherever they stand."""
    assert canonical(value) == rfc8785.dumps(value)


def test_members_are_sorted_by_utf16_and_numbers_written_as_ecmascript_does():
    """An astral name comes before U+FB33, which only UTF-16 order says; 1.0 is 1, and 10^21 has an exponent."""
    value = {"\ufb33": 1.0, "\U0001f600": 1e21, "a": [-0.0, 1e-7, 0.000001, 1e20]}

    assert (
        canonical(value)
        == '{"a":[0,1e-7,0.000001,100000000000000000000],"😀":1e+21,"דּ":1}'.replace("דּ", "\ufb33").encode()
    )


def test_integers_beyond_doubles_enter_as_their_digits():
    """The largest exact integer is a number, the next one a string, at any depth."""
    value = {"a": [2**53 - 1, 2**53, -(2**53)], "b": (True, {"c": 10**30})}

    expected = b'{"a":[9007199254740991,"9007199254740992","-9007199254740992"],"b":[true,{"c":"1' + b"0" * 30 + b'"}]}'
    assert canonical(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udc00": 1}, {1: 2}, {"a": {1, 2}}])
def test_what_json_cannot_say_has_no_canonical_form(value: object):
    """NaN, infinities, lone surrogates, names that are not strings and other types raise ValueError."""
    with pytest.raises(ValueError, match="no canonical form"):
        canonical(value)
