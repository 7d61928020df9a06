"""Canonical JSON (RFC 8785), the form in which inputs enter an idempotency key.

RFC 8785 knows only the integers that a double holds exactly; larger ones enter as a string of their digits, so that
two commands that differ in such a number have different keys.
"""

from collections.abc import Mapping
from typing import Any, Final

import rfc8785

_LARGEST: Final = 2**53 - 1


def canonical(value: Any) -> bytes:
    """Return the one byte string that stands for this JSON value.

    Raises ValueError for what JSON cannot express: NaN, infinities, lone surrogates, names that are not strings.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return canonical(_with_digits(value))
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"no canonical form: {error}") from None
    except UnicodeEncodeError:
        raise ValueError("no canonical form: a member name holds a lone surrogate") from None
    except RecursionError:
        raise ValueError("no canonical form: nested too deeply") from None


def _with_digits(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -_LARGEST <= value <= _LARGEST else str(value)
    if isinstance(value, Mapping):
        return {name: _with_digits(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_digits(member) for member in value]
    return value
