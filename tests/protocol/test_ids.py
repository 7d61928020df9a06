"""Identifiers and how they are derived."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.errors import UsageError
from lorch_actors.protocol import ids

PARTS = st.lists(st.text(alphabet="ab-:.~_é", max_size=5), max_size=4)


def test_run_ids_tell_when_the_run_started():
    """A run id is made of the start in UTC and four random bytes."""
    run_id = ids.new_run_id(1_767_225_600_000, b"\x00\x01\xab\xff")

    assert run_id == "run-20260101-000000-0001abff"
    assert re.search(ids.RUN_ID_PATTERN, run_id)


def test_a_run_id_needs_enough_randomness():
    """Fewer than four random bytes are refused rather than repeated."""
    with pytest.raises(ValueError, match="random bytes"):
        ids.new_run_id(0, b"abc")


@pytest.mark.parametrize("text", ["T-0042", "a", "9.x_y-z", "a" * 64])
def test_task_ids_that_can_be_paths_are_accepted(text: str):
    """A good id comes back as it is."""
    assert ids.check_task_id(text) == text


@pytest.mark.parametrize("text", ["", ".", "..", "-a", "_a", "a/b", "../../escape", "a b", "ä", "a\n", "a\0", "a" * 65])
def test_task_ids_that_could_leave_their_directory_are_refused(text: str):
    """Empty, overlong, hidden, parent and nested names are refused where they enter."""
    with pytest.raises(UsageError, match="is not a task id"):
        ids.check_task_id(text)


def test_ids_of_a_step_follow_from_its_key():
    """Correlation and message ids are the same whenever they are computed."""
    correlation = ids.correlation_id("ik:0123456789abcdef0123456789abcdef")

    assert correlation == "c-0123456789abcdef"
    assert ids.command_message_id(correlation, 2) == "cmd-0123456789abcdef-2"


def test_incarnations_are_named_after_their_role():
    """An incarnation id is the role and eight hex digits."""
    assert ids.incarnation_id("builder", b"\x1f\x00\xba\x42") == "builder-1f00ba42"


def test_snapshot_ids_have_twelve_digits():
    """A snapshot id begins with the digest it is made of."""
    assert re.search(ids.SNAPSHOT_ID_PATTERN, ids.snapshot_id(bytes(range(32)))).group() == "snap-000102030405"


def test_short_system_ids_can_be_read():
    """Plain parts stand in the id as they are."""
    assert ids.system_message_id("retry_scheduled", "cmd-0123-2", 7) == "sys-retry_scheduled:cmd-0123-2:7"


def test_where_a_hashed_id_was_cut_matters():
    """Parts that read the same when written one after the other are still different."""
    assert ids.system_message_id("x", "é:", "b") != ids.system_message_id("x", "é", ":b")


@given(PARTS, PARTS)
def test_different_causes_have_different_system_ids(one: list[str], other: list[str]):
    """Parts are not confused, however they are cut and whatever they contain."""
    assert (ids.system_message_id("x", *one) == ids.system_message_id("x", *other)) == (one == other)


@given(st.lists(st.text(max_size=300), max_size=5))
def test_system_ids_are_short_and_plain(parts: list[str]):
    """Whatever the cause, its id fits a line and a terminal."""
    message_id = ids.system_message_id("agent_exited", *parts)

    assert len(message_id) <= 128
    assert re.fullmatch(r"[A-Za-z0-9._:~-]+", message_id)
