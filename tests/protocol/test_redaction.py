"""Secrets and where they must not be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.ijson import decode_object
from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.redaction import Redactor

SECRET = "s3cr3t-välue"
REDACTOR = Redactor({"API_TOKEN": SECRET, "HOME": "/home/someone", "SHORT_KEY": "1234567"})
MARK = "[redacted:API_TOKEN]"


def redact(document: dict[str, Any], redactor: Redactor = REDACTOR) -> dict[str, Any]:
    """Return the document as it comes out, having checked that both results agree."""
    value, compact = decode_object(json.dumps(document).encode())
    redacted, again = redactor.message(value, compact)
    assert json.loads(again) == redacted
    return redacted


@pytest.mark.parametrize("name", ["A_TOKEN", "A_KEY", "A_SECRET", "A_PASSWORD", "_KEY"])
def test_the_four_endings_make_a_secret(name: str):
    """A value of eight characters under such a name is replaced, whatever it is."""
    assert Redactor({name: "abcdefgh"}).text("xabcdefghx") == f"x[redacted:{name}]x"


@pytest.mark.parametrize("name", ["TOKEN", "A_KEYS", "A_TOKEN_FILE", "PATH", ""])
def test_other_names_make_none(name: str):
    """Only the end of the name counts."""
    assert Redactor({name: "abcdefgh"}).text("abcdefgh") == "abcdefgh"


def test_short_values_are_no_secrets():
    """Seven characters could be any word."""
    assert REDACTOR.text("1234567") == "1234567"
    assert REDACTOR.secret_in("1234567") is None


def test_secrets_come_from_several_environments():
    """The orchestrator's and the agents' variables count alike; one value has one name."""
    redactor = Redactor({"B_KEY": "abcdefgh"}, {"A_KEY": "abcdefgh", "B_KEY": "other-value"}, {"C_KEY": "abcdefgh"})

    assert redactor.text("abcdefgh other-value") == "[redacted:A_KEY] [redacted:B_KEY]"


@pytest.mark.parametrize("field", ["payload", "inputs", "fields"])
def test_free_parts_are_redacted_at_any_depth(field: str):
    """Values and names of members lose the secret; everything else stays."""
    document = {"kind": "x", field: {"a": [1, None, {"b": f"<{SECRET}>", SECRET: 2.5}], "c": "fine"}}

    assert redact(document) == {"kind": "x", field: {"a": [1, None, {"b": f"<{MARK}>", MARK: 2.5}], "c": "fine"}}


def test_the_message_of_a_log_is_redacted():
    """``message`` is a string, and free."""
    assert redact({"message": SECRET + SECRET}) == {"message": MARK + MARK}


@pytest.mark.parametrize(
    "document",
    [
        {"status": f"a {SECRET}"},
        {"artifacts": [{"path": f"src/{SECRET}"}]},
        {"from": {"agent_id": SECRET}},
        {"from": {SECRET: 1}},
        {SECRET: {}},
        {"payload": SECRET, "task_id": SECRET},
    ],
)
def test_a_secret_in_any_other_field_makes_the_message_invalid(document: dict[str, Any]):
    """Ids and paths must not be changed, so the message is refused, by the secret's name only."""
    with pytest.raises(InvalidLine, match="API_TOKEN") as caught:
        redact(document)

    assert SECRET not in str(caught.value)


def test_without_a_secret_the_same_objects_come_back():
    """The common case copies nothing."""
    value, compact = decode_object(b'{"payload":{"a":"b"}}')

    assert REDACTOR.message(value, compact) == (value, compact)
    assert REDACTOR.message(value, compact)[1] is compact


@pytest.mark.parametrize("spelling", ["s\\u0033cr\\u0033t-v\\u00e4lue", "s3cr3t-v\\u00E4lue", "s3cr3t\\u002dvälue"])
def test_a_secret_spelled_with_escapes_is_found(spelling: str):
    """The spelling in the raw line makes no difference."""
    value, compact = decode_object(f'{{"payload":{{"a":"{spelling}"}}}}'.encode())

    assert REDACTOR.message(value, compact)[0] == {"payload": {"a": MARK}}


@pytest.mark.parametrize(
    "secret", ['with"quote', "back\\slash", "line\nbreak!", "tab\tand\x01bell", "nul\x00nul!", "🚀rocket🚀🚀"]
)
def test_a_secret_that_json_escapes_is_found(secret: str):
    """Characters that look different inside JSON do not hide a secret."""
    redactor = Redactor({"A_KEY": secret})

    assert redact({"payload": {"a": f"x{secret}y", secret: 1}}, redactor) == {
        "payload": {"a": "x[redacted:A_KEY]y", "[redacted:A_KEY]": 1}
    }


def test_the_longest_secret_wins():
    """A secret inside a longer one goes with the longer one's name."""
    redactor = Redactor({"LONG_KEY": "abcdefghijkl", "SHORT_KEY": "cdefghij"})

    assert redactor.text("abcdefghijkl cdefghij") == "[redacted:LONG_KEY] [redacted:SHORT_KEY]"


def test_overlapping_secrets_leave_nothing_of_either():
    """Where two secrets share characters, both go entirely, under one name."""
    redactor = Redactor({"A_KEY": "0123456789", "B_KEY": "6789abcd"})

    assert redactor.text("-0123456789abcd-") == "-[redacted:A_KEY]-"
    assert redactor.text("-6789abcd-") == "-[redacted:B_KEY]-"
    assert Redactor({"A_KEY": "0123456789", "B_KEY": "abcdef01"}).text("abcdef0123456789") == "[redacted:A_KEY]"
    assert redactor.text("-6789abcd0123456789-") == "-[redacted:B_KEY][redacted:A_KEY]-"


def test_a_secret_that_overlaps_itself_leaves_nothing():
    """Repetitions of a periodic secret are one stretch."""
    assert Redactor({"A_KEY": "abababab"}).text("xababababababx") == "x[redacted:A_KEY]x"


def test_members_that_would_get_one_name_make_the_message_invalid():
    """No member may be lost by redaction."""
    redactor = Redactor({"A_KEY": "abcdefgh"}, {"A_KEY": "ijklmnop"})

    with pytest.raises(InvalidLine, match="same name"):
        redact({"payload": {"abcdefgh": 1, "ijklmnop": 2}}, redactor)


def test_raw_lines_are_redacted_without_being_text():
    """A log line need not be UTF-8; nor need the secret."""
    redactor = Redactor({"A_TOKEN": SECRET, "B_TOKEN": "stray\udcff\udcfebytes"})

    assert redactor.bytes(b"\xff " + SECRET.encode() + b" \x80") == b"\xff [redacted:A_TOKEN] \x80"
    assert redactor.bytes(b"<stray\xff\xfebytes>") == b"<[redacted:B_TOKEN]>"


def test_an_object_is_redacted_wherever_it_came_from():
    """Inputs of our own commands are redacted as objects."""
    assert REDACTOR.object({"goal": f"use {SECRET}", "n": 1}) == {"goal": f"use {MARK}", "n": 1}
    assert REDACTOR.secret_in([{f"use {SECRET}": 1}]) == "API_TOKEN"
    assert Redactor().object({"goal": SECRET}) == {"goal": SECRET}


@given(
    st.dictionaries(
        st.sampled_from(["A_KEY", "B_TOKEN", "C_SECRET"]), st.text(alphabet="abc", min_size=8, max_size=12)
    ),
    st.text(alphabet="abc x", max_size=60),
)
def test_no_secret_survives(environment: dict[str, str], text: str):
    """However secrets overlap, none of them is in the result, as text or as bytes."""
    redactor = Redactor(environment)

    assert redactor.secret_in(redactor.text(text)) is None
    assert redactor.bytes(text.encode()) == redactor.text(text).encode()
