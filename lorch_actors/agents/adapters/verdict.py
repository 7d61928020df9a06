"""What a reviewer or a spec maintainer answers: one JSON object, found in the model's last words and validated here."""

import re
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Struct, field

_ANSWER_MAX_CHARS: Final = 200_000
_FINDINGS_MAX: Final = 200
_OBJECTS_MAX: Final = 50
_FENCED: Final = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that is to be changed. file, line: where, if it is somewhere."""

    what: str
    file: str | None = None
    line: int | None = None


class Review(Struct, frozen=True):
    """The verdict of a reviewer."""

    verdict: Literal["approved", "changes_requested"]
    summary: str
    findings: list[Finding] = field(default_factory=list)


class SpecVerdict(Struct, frozen=True):
    """The verdict of a spec maintainer. That something was updated is seen in the files, not taken from here."""

    verdict: Literal["updated", "no_changes_needed", "changes_requested"]
    summary: str
    findings: list[Finding] = field(default_factory=list)


Verdict = Review | SpecVerdict


class InvalidVerdict(ValueError):  # noqa: N818 - it is the answer that is wrong
    """An answer without a valid verdict in it; the message says what is wrong, for the model to mend."""


V = TypeVar("V", Review, SpecVerdict)


def parse(answer: str, wanted: type[V]) -> V:
    """Return the verdict in an answer: the whole of it, or the last object in it, fenced or not.

    Raises InvalidVerdict: no JSON, another shape, or changes requested without a word about what.
    """
    if len(answer) > _ANSWER_MAX_CHARS:
        raise InvalidVerdict(f"the answer has {len(answer)} characters, at most {_ANSWER_MAX_CHARS} are read")
    reason = "there is no JSON object in it"
    for text in _candidates(answer):
        try:
            found = msgspec.json.decode(text, type=wanted)
        except msgspec.ValidationError as error:
            reason = str(error)
            continue
        except msgspec.DecodeError:
            continue
        if found.verdict == "changes_requested" and not (found.findings or found.summary.strip()):
            raise InvalidVerdict("changes are requested, but neither summary nor findings say which")
        return found
    raise InvalidVerdict(reason)


def as_payload(verdict: Verdict) -> dict[str, Any]:
    """Return what goes into the event beside the summary."""
    return {"findings": msgspec.to_builtins(verdict.findings[:_FINDINGS_MAX])} if verdict.findings else {}


def schema_of(wanted: type[Verdict]) -> bytes:
    """Return the JSON Schema of a verdict as OpenAI's structured outputs want it: closed, everything required."""
    finding = _closed({"what": {"type": "string"}, "file": _or_null("string"), "line": _or_null("integer")})
    verdicts = [*_literals(wanted)]
    return msgspec.json.encode(
        _closed(
            {
                "verdict": {"type": "string", "enum": verdicts},
                "summary": {"type": "string"},
                "findings": {"type": "array", "items": finding},
            }
        )
    )


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


def _literals(wanted: type[Verdict]) -> tuple[str, ...]:
    found: tuple[str, ...] = get_args(get_type_hints(wanted)["verdict"])
    return found


def _candidates(answer: str) -> Iterator[str]:
    """Return the texts that may be the object, the likeliest first."""
    yield answer.strip()
    fenced = [*_FENCED.finditer(answer)]
    if fenced:  # what stands in fences may be an example; what comes behind is the last word
        yield from _objects(answer[fenced[-1].end() :])
    yield from (found[1].strip() for found in reversed(fenced))
    yield from _objects(answer)


def _objects(answer: str) -> Iterator[str]:
    end = answer.rfind("}") + 1
    start = answer.find("{")
    for _ in range(_OBJECTS_MAX):
        if not 0 <= start < end:
            return
        yield answer[start:end]
        start = answer.find("{", start + 1)
