"""Typed decoding that agrees with the JSON Schemas on what a whole number is.

JSON has one kind of number: to JSON Schema, 2048.0 is an integer. The typed decoder tells the two apart and refuses.
So where it refuses, whole fractions are rewritten as integers and it is asked again; documents that are right at first
pay nothing. Free-form parts of a document are not touched.
"""

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode_typed(decoder: msgspec.json.Decoder[T], data: bytes, free: Collection[str] = ()) -> tuple[T, bytes]:
    """Return the value that these bytes hold and the bytes it was decoded from (other than ``data`` if rewritten).

    free: names of top-level members that stay as they are. Raises msgspec.ValidationError for the wrong shape, and
    msgspec.DecodeError, ValueError or RecursionError for what is not JSON.
    """
    try:
        return decoder.decode(data), data
    except msgspec.ValidationError:
        rewritten = _rewritten(data, free)
        if rewritten == data:
            raise
    return decoder.decode(rewritten), rewritten


def _rewritten(data: bytes, free: Collection[str]) -> bytes:
    document = msgspec.json.decode(data)
    if not isinstance(document, dict):
        return data
    return msgspec.json.encode(
        {name: member if name in free else _with_integers(member) for name, member in document.items()}
    )


def _with_integers(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_integers(member) for name, member in value.items()}
    return value
