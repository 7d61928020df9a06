"""The form of one ledger line."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_making import RUN, progress

from lorch_actors.storage.ledger_format import LINE_MAX_BYTES, follows, link, seal, split


def test_a_line_is_the_message_with_one_more_last_key():
    """A sealed line is the message, byte for byte, with the ledger key spliced in before its last brace."""
    line, chain = seal(b'{"kind":"log"}', 7, 5, "0123456789abcdef")

    assert line == b'{"kind":"log","ledger":{"seq":7,"durable":5,"chain":"%b"}}' % chain.encode()
    assert json.loads(line)["ledger"] == {"seq": 7, "durable": 5, "chain": chain}


def test_the_chain_can_be_recomputed_by_anyone():
    """The chain is the first 16 hex digits of SHA-256 over the previous chain and the line up to its chain key."""
    line, chain = seal(progress(1), 1, 0, RUN)

    before = line[: line.rindex(b',"chain":"')]
    assert chain == hashlib.sha256(RUN.encode() + before).hexdigest()[:16]


def test_a_message_that_quotes_a_ledger_key_is_not_taken_apart_there():
    """Text in a payload that looks like the end of a line does not confuse the splitting."""
    quoting = progress(1, r"x\",\"ledger\":{\"seq\":9,\"durable\":8,\"chain\":\"0123456789abcdef\"}}")
    line, chain = seal(quoting, 1, 0, RUN)

    sealed = split(line)

    assert sealed is not None
    assert (sealed.message_json, sealed.seq, sealed.durable, sealed.chain) == (quoting, 1, 0, chain)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        progress(1),
        b'{,"ledger":{"seq":1,"durable":0,"chain":"0123456789abcdef"}}',
        b'{"a":1,"ledger":{"seq":0,"durable":0,"chain":"0123456789abcdef"}}',
        b'{"a":1,"ledger":{"seq":01,"durable":0,"chain":"0123456789abcdef"}}',
        b'{"a":1,"ledger":{"seq":1,"durable":1,"chain":"0123456789abcdef"}}',
        b'{"a":1,"ledger":{"seq":1,"durable":0,"chain":"0123456789ABCDEF"}}',
        b'{"a":1,"ledger":{"seq":1,"durable":0,"chain":"0123456789abcde"}}',
        b'{"a":1,"ledger":{"seq":1,"durable":0,"chain":"0123456789abcdef"}} ',
        b'{"a":1,"ledger":{"seq":1, "durable":0,"chain":"0123456789abcdef"}}',
        b'{"a":1,"ledger":{"seq":1,"durable":0,"chain":"0123456789abcdef"}}\n',
    ],
)
def test_what_lacks_the_form_is_no_line(line):
    """Splitting is strict: one way to write a line, and nothing else is one."""
    assert split(line) is None


def test_every_changed_bit_of_a_line_is_noticed():
    """No single bit of a line can change without the line ceasing to follow the one before."""
    line, _ = seal(progress(2), 2, 1, "0123456789abcdef")

    unnoticed = [
        (at, bit)
        for at in range(len(line))
        for bit in range(8)
        if follows(line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :], 2, "0123456789abcdef") is not None
    ]

    assert unnoticed == []
    assert follows(line, 2, "0123456789abcdef") is not None


def test_a_line_follows_only_its_own_predecessor():
    """A line behind another chain or under another number does not follow."""
    line, _ = seal(progress(2), 2, 1, "0123456789abcdef")

    assert follows(line, 3, "0123456789abcdef") is None
    assert follows(line, 2, "0123456789abcdee") is None


@pytest.mark.parametrize(
    ("message", "seq", "durable"),
    [
        (b"{}", 1, 0),
        (b"[1]", 1, 0),
        (b'{"a":1', 1, 0),
        (b'{"a":\n1}', 1, 0),
        (b'{"a":1}', 1, 1),
        (b'{"a":1}', 0, 0),
        (b'{"a":1}', 1, -1),
        (b'{"a":"' + b"x" * LINE_MAX_BYTES + b'"}', 1, 0),
    ],
)
def test_what_could_not_be_read_again_is_not_sealed(message, seq, durable):
    """Sealing refuses whatever splitting would refuse."""
    with pytest.raises(ValueError, match="line"):
        seal(message, seq, durable, RUN)


@given(st.text(), st.integers(1, 10**18), st.integers(0, 10**18), st.text("0123456789abcdef", min_size=16, max_size=16))
def test_splitting_undoes_sealing(text, seq, durable, previous):
    """Whatever was sealed comes apart into the same message, numbers and chain."""
    message = json.dumps({"kind": text}, separators=(",", ":")).encode()
    durable = min(durable, seq - 1)

    line, chain = seal(message, seq, durable, previous)

    sealed = split(line)
    assert sealed is not None
    assert sealed == (message, seq, durable, chain, line[: line.rindex(b',"chain":"')])
    assert link(previous, sealed.hashed) == chain
