"""Keeps secrets out of everything that is kept or shown.

A secret is the value, eight characters or longer, of an environment variable whose name ends in ``_TOKEN``, ``_KEY``,
``_SECRET`` or ``_PASSWORD``. In the free parts of a message (``payload``, ``inputs``, ``fields``, ``message``), names
of members included, it gives way to ``[redacted:NAME]``; anywhere else it makes the message invalid, because ids,
paths and checksums must not be changed.

Where secrets overlap in a text, everything that belongs to any of them goes, under the name of the longest (the first
in the alphabet among equals): no part of a shorter one is left standing beside a longer one.

Raw lines, which may or may not be JSON, are searched for every spelling that JSON has for a secret as well.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from lorch_actors.protocol.invalid import InvalidLine

SECRET_SUFFIXES: Final = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
SECRET_MIN_CHARS: Final = 8
TELLING_MIN_CHARS: Final = 4
"""The beginning of a secret that is cut off by the end of a text counts from this length."""
BACKSLASHES_MAX: Final = 8
"""How many may stand before a character: JSON within JSON within JSON takes seven."""
FREE_FIELDS: Final = frozenset({"payload", "inputs", "fields", "message"})

_T = TypeVar("_T", str, bytes)
_Raw = bytes  # inside the class, `bytes` is the method


class Redactor:
    """Replaces the secrets of the given environments; with none it costs nothing."""

    def __init__(self, *environments: Mapping[str, str]) -> None:
        name_of: dict[str, str] = {}
        for environment in environments:
            for name, value in environment.items():
                if name.endswith(SECRET_SUFFIXES) and len(value) >= SECRET_MIN_CHARS:
                    name_of[value] = min(name, name_of.get(value, name))
        ordered = sorted(name_of.items(), key=lambda item: (-len(item[0]), item[1], item[0]))
        self._secrets = [(value, f"[redacted:{name}]") for value, name in ordered]
        self._raw = [(os.fsencode(value), os.fsencode(mark)) for value, mark in self._secrets]
        self._spelled = [(re.compile(_spelling(value)), os.fsencode(mark)) for value, mark in self._secrets]
        self._in_json = [msgspec.json.encode(value)[1:-1] for value, _ in self._secrets if _is_text(value)]

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        return _replace(text, self._secrets)

    def bytes(self, line: _Raw, *, is_cut: bool = False) -> _Raw:
        """Return raw bytes without secrets (a line of a log, which need not be UTF-8), however JSON spells them.

        is_cut: it is the head of something longer; then a secret may have been cut, and what is left of it goes too.
        """
        line = _replace(line, self._raw, is_cut=is_cut)
        if b"\\" in line:
            for spelled, mark in self._spelled:
                line = spelled.sub(lambda _, mark=mark: mark, line)  # type: ignore[misc]
        return line

    def secret_in(self, value: object) -> str | None:
        """Return the name of a variable whose secret stands in some string of a JSON value, None when there is none."""
        return next((mark[len("[redacted:") : -1] for secret, mark in self._secrets if _occurs(secret, value)), None)

    def object(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return an object with every string in it, names of members included, without secrets.

        Raises InvalidLine if two members of one object would end up with the same name.
        """
        redacted: dict[str, Any] = self._free(value) if self._secrets else value
        return redacted

    def message(self, document: dict[str, Any], compact: _Raw) -> tuple[dict[str, Any], _Raw]:
        """Return a decoded message without secrets, with its compact form.

        ``compact`` is the compact form of ``document`` as `decode_object` makes it; without a secret both come back
        as they are. The result may be longer than a line may be: whoever appends it has to measure it.
        Raises InvalidLine (which does not contain the secret) if a secret stands where it cannot be replaced.
        """
        # A secret in a decoded string is in the compact form in its escaped form, however it was spelled on arrival;
        # the reverse need not hold, so a hit only means to look closer.
        if not any(secret in compact for secret in self._in_json):
            return document, compact
        redacted = {name: self._member(name, value) for name, value in document.items()}
        return redacted, msgspec.json.encode(redacted)

    def _member(self, name: str, value: Any) -> Any:
        if name in FREE_FIELDS:
            return self._free(value)
        secret = self.secret_in({name: value})
        if secret is not None:
            raise InvalidLine(f"the secret {secret} stands outside of payload, inputs, fields and message")
        return value

    def _free(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._free(item) for item in value]
        if isinstance(value, dict):
            redacted = {self.text(name): self._free(member) for name, member in value.items()}
            if len(redacted) != len(value):
                raise InvalidLine("two members of one object have the same name once secrets are redacted")
            return redacted
        return value


def _replace(text: _T, secrets: list[tuple[_T, _T]], *, is_cut: bool = False) -> _T:
    """Replace each stretch that secrets cover by the mark of the longest secret in it; longer secrets come first."""
    spans: list[tuple[int, int, int]] = [
        (start, start + len(value), rank)
        for rank, (value, _) in enumerate(secrets)
        if value in text
        for start in _starts(text, value)
    ]
    if is_cut:
        begun = ((len(text) - _begun(text, value), rank) for rank, (value, _) in enumerate(secrets))
        spans += [(start, len(text), rank) for start, rank in begun if start < len(text)]
    if not spans:
        return text
    spans.sort()
    pieces: list[_T] = []
    done = 0
    begin, end, best = spans[0]
    for start, stop, rank in [*spans[1:], (len(text) + 1, 0, 0)]:
        if start < end:
            end, best = max(end, stop), min(best, rank)
            continue
        pieces.append(text[done:begin])
        pieces.append(secrets[best][1])
        done = end
        begin, end, best = start, stop, rank
    pieces.append(text[done:])
    return text[:0].join(pieces)


def _starts(text: _T, value: _T) -> Iterator[int]:
    start = text.find(value)
    while start >= 0:
        yield start
        start = text.find(value, start + 1)


def _begun(text: _T, value: _T) -> int:
    """Return with how much of the beginning of the value the text ends, 0 if that is too little to matter."""
    for length in range(min(len(value) - 1, len(text)), TELLING_MIN_CHARS - 1, -1):
        if text.endswith(value[:length]):
            return length
    return 0


def _spelling(value: str) -> bytes:
    """Return a pattern for all the ways in which JSON, and JSON within JSON, can spell a text."""
    return b"".join(_spellings_of(char) for char in value)


def _spellings_of(char: str) -> bytes:
    escape = rb"\\{1,%d}" % BACKSLASHES_MAX
    units = char.encode("utf-16-be", "surrogatepass").hex()
    in_digits = b"".join(escape + b"u(?i:" + units[at : at + 4].encode() + b")" for at in range(0, len(units), 4))
    if char == "\\":
        return b"(?:" + in_digits + b"|" + escape + b")"
    short = {"\b": b"b", "\f": b"f", "\n": b"n", "\r": b"r", "\t": b"t"}.get(char)
    if short is not None:
        return b"(?:" + in_digits + b"|" + escape + short + b"|" + re.escape(os.fsencode(char)) + b")"
    return b"(?:" + in_digits + rb"|\\{0,%d}" % BACKSLASHES_MAX + re.escape(os.fsencode(char)) + b")"


def _is_text(value: str) -> bool:
    """Tell whether a value can stand in JSON at all; one that is not UTF-8 in the environment cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _occurs(secret: str, value: object) -> bool:
    if isinstance(value, str):
        return secret in value
    if isinstance(value, list):
        return any(_occurs(secret, item) for item in value)
    if isinstance(value, dict):
        return any(secret in name or _occurs(secret, member) for name, member in value.items())
    return False
