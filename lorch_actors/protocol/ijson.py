"""Strict I-JSON (RFC 7493): one line of bytes becomes one object, or says why it cannot.

Rejected are invalid UTF-8, a byte order mark, lone surrogates, noncharacters, member names that occur twice, more than
64 levels, numbers that no double can hold, and anything that is not one object. Integers are kept exactly up to 4,300
digits (the bound of Python's own conversion, which is quadratic); longer ones are rejected. A fraction is the double
nearest to it: `1E5` comes back as `100000.0`, `-0` as `0`, and what is too small for a double as `0.0`.

Order of members is kept. The price of being strict is one decoding, one encoding and a few searches in C.
"""

import json
import re
from typing import Any, Final

import msgspec

from lorch_actors.protocol.invalid import InvalidLine

__all__ = ["MAX_DEPTH", "InvalidLine", "decode_object", "is_deeper_than"]

MAX_DEPTH: Final = 64
"""Levels of nesting, the outermost object being the first."""

# U+FDD0..U+FDEF and the last two code points of each plane, as UTF-8. In valid UTF-8 a lead byte is never anything
# else, so the pattern cannot match across characters.
_NONCHARACTER: Final = re.compile(
    rb"\xef\xb7[\x90-\xaf]|\xef\xbf[\xbe\xbf]|[\xf0-\xf4][\x8f\x9f\xaf\xbf]\xbf[\xbe\xbf]"
)
_BLANK: Final = b" \t\r\n"
_ESCAPED_COLON: Final = (b"u003a", b"u003A")


def decode_object(line: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the object that the line holds, and the line again in compact form.

    Raises InvalidLine.
    """
    try:
        value = msgspec.json.decode(line)
        compact = msgspec.json.encode(value)
    except RecursionError:
        raise InvalidLine(f"more than {MAX_DEPTH} levels deep") from None
    except UnicodeDecodeError as error:
        raise InvalidLine(f"not UTF-8: {error.reason}") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidLine(_why_malformed(line, str(error))) from None
    if type(value) is not dict:
        raise InvalidLine(f"not an object but {_name_of(value)}")
    if compact.count(b"{") + compact.count(b"[") > MAX_DEPTH and is_deeper_than(MAX_DEPTH, value):
        raise InvalidLine(f"more than {MAX_DEPTH} levels deep")
    if not compact.isascii() and _NONCHARACTER.search(compact):
        raise InvalidLine("contains a noncharacter, which I-JSON forbids")
    if compact != line:
        _refuse_repeated_names(line, compact)
    return value, compact


def _refuse_repeated_names(line: bytes, compact: bytes) -> None:
    """Raise InvalidLine if a member name occurs twice in one object of the line.

    The decoder keeps the last of two members with one name. Every member brings a colon, and colons inside strings
    survive the decoding, so the compact form has fewer of them exactly when a member was dropped. Only a colon that
    was written as an escape upsets the count; then every object is looked at.
    """
    if not any(escape in line for escape in _ESCAPED_COLON):
        if line.count(b":") != compact.count(b":"):
            raise InvalidLine("a member name occurs twice in one object")
        return
    json.loads(line, object_pairs_hook=_unique_members, parse_int=str, parse_float=str)


def _unique_members(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise InvalidLine("a member name occurs twice in one object")


def is_deeper_than(limit: int, value: object) -> bool:
    """Tell whether a value has more levels of arrays and objects than that."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)  # type: ignore[attr-defined]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _why_malformed(line: bytes, error: str) -> str:
    if not line.strip(_BLANK):
        return "blank line"
    if line.startswith(b"\xef\xbb\xbf"):
        return "starts with a byte order mark, which I-JSON forbids"
    return f"not JSON: {error}"


def _name_of(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
