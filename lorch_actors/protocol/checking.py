"""Check a decoded JSON value against a struct type, and tell all that is wrong with it.

msgspec stops at the first error, which is right for messages and wrong for files that people write. `Checker` walks
struct types field by field; single values are judged by msgspec itself, so that both always agree.
"""

import codecs
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

SHOWN_CHARS = 80
"""How much of a wrong value is repeated in the message."""


def decode_json(data: bytes) -> Any:
    """Return the value that a person has written as JSON. Raises ValueError with what is wrong, as follows a place.

    Stricter than decoders are: a name that occurs twice in one object would be lost without a word.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("begins with a byte order mark; save it without one")
    try:
        data.decode()
        value = msgspec.json.decode(data)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except msgspec.DecodeError as error:
        why = str(error).removeprefix("JSON is malformed: ")
        raise ValueError(f"is not JSON: {_with_line(why, data)}") from None
    if data.count(b":") != msgspec.json.encode(value).count(b":"):  # a member was dropped, or a colon written as escape
        import json

        json.loads(data, object_pairs_hook=_unique)
    return value


def _unique(members: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise ValueError(f"has {name[:SHOWN_CHARS]!r} twice in one object")
        seen.add(name)


def _with_line(message: str, data: bytes) -> str:
    """Say line and column where the decoder says a byte offset."""
    head, mark, tail = message.partition("(byte ")
    if not mark:
        return message
    before = data[: int(tail.rstrip(")"))]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"{head}(line {line}, column {column})"


class Remark(Struct, frozen=True):
    """Something to say about one place of a file: JSON path (``$.policy.concurrency``) and a sentence."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class Checker:
    """Collects ``errors`` and ``warnings`` while it checks values.

    open_types: struct types whose unknown keys carry meaning and are not remarked on. hidden: part of a path below
    which values are never repeated in a message.
    """

    def __init__(self, *, open_types: tuple[type, ...] = (), hidden: str = "") -> None:
        self.errors: list[Remark] = []
        self.warnings: list[Remark] = []
        self._open_types = open_types
        self._hidden = hidden

    def error(self, path: str, what: str) -> None:
        """Note an error."""
        self.errors.append(Remark(path, what))

    def warn(self, path: str, what: str) -> None:
        """Note something that is accepted."""
        self.warnings.append(Remark(path, what))

    def shown(self, path: str, value: object) -> str:
        """Return the value as it may be repeated in a message: cut, and not at all where secrets live."""
        if self._hidden and self._hidden in path:
            return "this value"
        text = msgspec.json.encode(value).decode()
        return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"

    def check(self, kind: Any, value: object, path: str) -> Any:
        """Return the value as that type, or ``None`` after noting what is wrong with it. ``null`` is for the caller."""
        before = len(self.errors)
        base = _base(kind)
        if isinstance(base, type) and issubclass(base, Struct):
            result: Any = self._struct(base, value, path)
        elif get_origin(base) is list:
            result = self._list(kind, value, path)
        elif get_origin(base) is dict:
            result = self._dict(kind, value, path)
        else:
            result = self._leaf(kind, value, path)
        return result if len(self.errors) == before else None

    def _struct(self, kind: type[Struct], value: object, path: str) -> Struct | None:
        if not isinstance(value, dict):
            self._leaf(dict, value, path)
            return None
        found: dict[str, Any] = {}
        fields = msgspec.structs.fields(kind)
        before = len(self.errors)
        for field in fields:
            # Go writes absent objects and lists as null; both mean: not said
            given = value.get(field.encode_name)
            if given is not None:
                found[field.name] = self.check(field.type, given, f"{path}.{field.encode_name}")
            elif field.required:
                self.error(f"{path}.{field.encode_name}", f"is missing; allowed: {allowed(field.type)}")
        if kind not in self._open_types:
            self._unknown(kind, value, path)
        return kind(**found) if len(self.errors) == before else None

    def _unknown(self, kind: type[Struct], value: dict[str, object], path: str) -> None:
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        for key in value:
            if key in known or key.startswith("_"):
                continue
            note = self.error if kind.__struct_config__.forbid_unknown_fields else self.warn
            note(f"{path}.{key}", f"is not a known key{did_you_mean(key, known)}")

    def _list(self, kind: Any, value: object, path: str) -> Any:
        if not isinstance(value, list):
            return self._leaf(kind, value, path)
        (inner,) = get_args(_base(kind))
        most = next((meta.max_length for meta in _metas(kind) if meta.max_length is not None), None)
        if most is not None and len(value) > most:
            self.error(path, f"has {len(value)} entries; allowed: {allowed(kind)}")
            return None
        return [self.check(inner, item, f"{path}[{at}]") for at, item in enumerate(value)]

    def _dict(self, kind: Any, value: object, path: str) -> Any:
        if not isinstance(value, dict):
            return self._leaf(kind, value, path)
        _, inner = get_args(_base(kind))
        return {key: self.check(inner, item, f"{path}.{key}") for key, item in value.items()}

    def _leaf(self, kind: Any, value: object, path: str) -> Any:
        try:
            result = msgspec.convert(value, kind)
        except msgspec.ValidationError:
            wrong = True
        else:
            wrong = any(const != result for const in _constants(kind))
        if wrong:
            self.error(path, f"{self.shown(path, value)} is not allowed; allowed: {allowed(kind)}")
            return None
        return result


def did_you_mean(word: str, known: list[str]) -> str:
    """Return `` (did you mean …?)`` when one of the known words is close, else nothing."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def allowed(kind: Any) -> str:
    """Describe in words what values a type takes."""
    base, metas = _base(kind), _metas(kind)
    for const in _constants(kind):
        return f"only {msgspec.json.encode(const).decode()}"
    if get_origin(base) is Literal:
        options = [msgspec.json.encode(option).decode() for option in get_args(base)]
        return f"only {options[0]}" if len(options) == 1 else " or ".join(options)
    limits = [limit for meta in metas for limit in _limits(meta)]
    return " ".join([_noun(base), *([f"({', '.join(limits)})"] if limits else [])])


def _constants(kind: Any) -> list[object]:
    schemas = [meta.extra_json_schema or {} for meta in _metas(kind)]
    return [schema["const"] for schema in schemas if "const" in schema]


def _limits(meta: Meta) -> list[str]:
    if meta.ge is not None and meta.ge == meta.le:
        return [f"only {meta.ge}"]
    named = (("more than", meta.gt), ("at least", meta.ge), ("less than", meta.lt), ("at most", meta.le))
    limits = [f"{words} {limit}" for words, limit in named if limit is not None]
    if meta.pattern is not None:
        limits.append(f"matching {meta.pattern.removesuffix('(?!' + chr(92) + 'n)')}")
    if meta.min_length is not None:
        limits.append("not empty")
    if meta.max_length is not None:
        limits.append(f"at most {meta.max_length} long")
    return limits


def _noun(base: Any) -> str:
    nouns = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "an object"}
    if get_origin(base) is list:
        return "a list"
    if get_origin(base) is dict or (isinstance(base, type) and issubclass(base, Struct)):
        return "an object"
    return nouns.get(base, "another kind of value")


def _base(kind: Any) -> Any:
    """Return the type below its annotations, and of what may be absent the type that it has when it is there."""
    kind = _present(kind)
    while get_origin(kind) is Annotated:
        kind = _present(get_args(kind)[0])
    return kind


def _present(kind: Any) -> Any:
    """Return of ``T | UNSET`` and of ``T | None`` the ``T``: null is for the caller."""
    absent = (msgspec.UnsetType, NoneType)
    if not any(arg in absent for arg in get_args(kind)):
        return kind
    return next((arg for arg in get_args(kind) if arg not in absent), kind)


def _metas(kind: Any) -> list[Meta]:
    kind = _present(kind)
    if get_origin(kind) is not Annotated:
        return []
    return [meta for meta in get_args(kind)[1:] if isinstance(meta, Meta)]
