"""Time on the wire: RFC 3339 text in UTC, and whole milliseconds since 1970 everywhere inside.

Both directions are total over what the message types accept, so that no agent can stop the program with a date:
a day that its month does not have runs over into the next month, second 60 is second 0 of the next minute, and what
lies outside the years 1 to 9999 is written as the nearest moment inside.
"""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

_FORM: Final = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - all of this module is in UTC
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAYS_IN_400_YEARS: Final = 146_097
_EARLIEST_MS: Final = -62_135_596_800_000  # 0001-01-01T00:00:00.000Z
_LATEST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def to_timestamp(ms_since_epoch: int) -> str:
    """Return the moment as ``2026-01-01T00:00:00.000Z``."""
    ms = min(max(ms_since_epoch, _EARLIEST_MS), _LATEST_MS)
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"


def from_timestamp(text: str) -> int:
    """Return the moment in milliseconds since 1970, cut (not rounded) to the millisecond.

    Any offset from UTC is understood, which the wire does not allow but ledgers of lorch 1.5 contain.
    Raises ValueError for text that is no RFC 3339 timestamp.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 timestamp: {text[:64]!r}")
    second, fraction, sign, offset_hours, offset_minutes = match.groups()
    minutes = _minute_number(text[:16])
    if sign is not None:
        offset = int(offset_hours) * 60 + int(offset_minutes)
        minutes += offset if sign == "-" else -offset
    return (minutes * 60 + int(second)) * 1000 + int(((fraction or "") + "000")[:3])


def file_timestamp(ns_since_epoch: int) -> str:
    """Return a file's time as RFC 3339 with nanoseconds, as manifests carry it."""
    seconds, nanoseconds = divmod(ns_since_epoch, 1_000_000_000)
    return f"{to_timestamp(seconds * 1000)[:19]}.{nanoseconds:09d}Z"


@lru_cache(maxsize=64)
def _minute_number(text: str) -> int:
    """Return the minutes from 1970 to ``2026-01-01T00:00``. Remembered, for one moment most often follows another."""
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    # `date` knows no year 0; the calendar repeats every 400 years. A day past the month's end simply counts on.
    first = date(year or 400, month, 1).toordinal() - (0 if year else _DAYS_IN_400_YEARS)
    days = first + day - 1 - _EPOCH_DAY
    return (days * 24 + int(text[11:13])) * 60 + int(text[14:16])
