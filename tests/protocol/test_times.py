"""Timestamps: text and milliseconds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorch_actors.protocol.messages import TIMESTAMP_PATTERN
from lorch_actors.protocol.times import file_timestamp, from_timestamp, to_timestamp

LATEST_MS = 253_402_300_799_999
EARLIEST_MS = -62_135_596_800_000


def test_a_moment_is_written_with_milliseconds_in_utc():
    """Output has exactly three digits of fraction and ends in Z."""
    assert to_timestamp(1_767_225_600_000) == "2026-01-01T00:00:00.000Z"
    assert to_timestamp(-1) == "1969-12-31T23:59:59.999Z"


@given(st.integers(EARLIEST_MS, LATEST_MS))
def test_milliseconds_survive_the_way_to_text_and_back(ms: int):
    """Every moment of the years 1 to 9999 comes back as it went."""
    assert from_timestamp(to_timestamp(ms)) == ms


@given(st.from_regex(re.compile(TIMESTAMP_PATTERN), fullmatch=True))
def test_whatever_the_wire_accepts_can_be_read_and_written(text: str):
    """No accepted timestamp, however odd (February 31, year 0, second 60), raises anything on either way."""
    ms = from_timestamp(text)

    assert re.search(TIMESTAMP_PATTERN, to_timestamp(ms))


@given(st.integers())
def test_moments_beyond_the_calendar_are_written_as_its_ends(ms: int):
    """A wait of 10^300 seconds does not stop the program."""
    assert from_timestamp(to_timestamp(ms)) == min(max(ms, EARLIEST_MS), LATEST_MS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01t00:00:00.1z", 1_767_225_600_100),
        ("2026-01-01T00:00:00.9999999999Z", 1_767_225_600_999),
        ("2026-01-01T00:00:00+00:00", 1_767_225_600_000),
        ("2026-01-01T02:00:00.5+02:00", 1_767_225_600_500),
        ("2025-12-31T16:30:00-07:30", 1_767_225_600_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2026-02-29T00:00:00Z", 1_772_323_200_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ("0001-01-01T00:00:00Z", EARLIEST_MS),
    ],
)
def test_timestamps_are_read_with_fractions_offsets_and_leap_seconds(text: str, expected: int):
    """A fraction is cut to milliseconds, an offset is applied, what the calendar lacks runs over."""
    assert from_timestamp(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00Z\n",
     "٢٠٢٦-01-01T00:00:00Z", "2026-01-01T00:00:00.Z"],
)  # fmt: skip
def test_other_text_is_refused(text: str):
    """What is no timestamp raises ValueError."""
    with pytest.raises(ValueError, match="not an RFC 3339 timestamp"):
        from_timestamp(text)


def test_file_times_keep_their_nanoseconds():
    """Manifests carry nine digits of fraction, also before 1970."""
    assert file_timestamp(1_767_225_600_123_456_789) == "2026-01-01T00:00:00.123456789Z"
    assert file_timestamp(-1) == "1969-12-31T23:59:59.999999999Z"
