"""What came of one turn of a foreign CLI: one classification for all of them, and what our protocol says for each."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from lorch_actors.protocol.times import to_timestamp

_MESSAGE_MAX_CHARS: Final = 2000


class Kind(StrEnum):
    """How a turn ended. All but `DONE` are the ``code`` of an `error` event."""

    DONE = "done"
    REFUSED = "refused"  # the model would not do it
    PERMISSION_DENIED = "permission_denied"  # a tool was denied and the agent did not find another way
    AUTHENTICATION = "authentication_failed"
    RATE_LIMITED = "rate_limited"  # too many requests just now
    USAGE_LIMITED = "usage_limited"  # what the account may use is used up
    OVERLOADED = "overloaded"  # the provider failed or cannot be reached
    CONTEXT_TOO_LONG = "context_too_long"
    CRASHED = "cli_crashed"  # no final event, or its parts contradict each other
    HUNG = "cli_hung"  # the time of the command was up, or nothing was heard for too long
    KILLED = "cli_killed"  # ended by a signal that was not ours
    OVER_BUDGET = "over_budget"  # a cap of its own was reached: turns or money


class Rule(Struct, frozen=True):
    """What a kind means for the orchestrator. remedy: what a person can do about it."""

    is_retryable: bool
    remedy: str = ""


RULES: Final[Mapping[Kind, Rule]] = {
    Kind.REFUSED: Rule(is_retryable=False, remedy="Word the task differently, or give it to another model."),
    Kind.PERMISSION_DENIED: Rule(
        is_retryable=False,
        remedy="Allow it (--permissions allow, or a flag of the CLI after `--`), or see that it is not needed.",
    ),
    Kind.AUTHENTICATION: Rule(is_retryable=False, remedy="Log in with the CLI, or set its key in the environment."),
    Kind.RATE_LIMITED: Rule(is_retryable=True),
    Kind.USAGE_LIMITED: Rule(is_retryable=True),
    Kind.OVERLOADED: Rule(is_retryable=True),
    Kind.CONTEXT_TOO_LONG: Rule(is_retryable=True, remedy="Split the task, or give it to a model with more context."),
    Kind.CRASHED: Rule(is_retryable=True),
    Kind.HUNG: Rule(is_retryable=True, remedy="Give it more time with timeouts_s in lorch.json, or split the task."),
    Kind.KILLED: Rule(is_retryable=True),
    Kind.OVER_BUDGET: Rule(is_retryable=False, remedy="Raise the cap that is given after `--`, or split the task."),
}


_ASK_AGAIN_S: Final = {Kind.RATE_LIMITED: 30.0, Kind.USAGE_LIMITED: 900.0}
"""When to ask again where nobody says when a limit ends: our patience, no reset time."""


class Outcome(Struct, frozen=True):
    """What came of a turn. resets_at_ms: since 1970. is_session_lost: its session must not be resumed."""

    kind: Kind
    message: str = ""
    resets_at_ms: int | None = None
    retry_after_s: float | None = None
    is_session_lost: bool = False

    def as_error(self, program: str) -> dict[str, Any]:
        """Return the payload of the `error` event. program: what people call the CLI."""
        rule = RULES[self.kind]
        said = f"{program}: {self.message[:_MESSAGE_MAX_CHARS] or self.kind.value}"
        payload: dict[str, Any] = {
            "code": self.kind.value,
            "message": f"{said}\n  {rule.remedy}" if rule.remedy else said,
            "retryable": rule.is_retryable,
        }
        if self.resets_at_ms is not None:
            payload["resets_at"] = to_timestamp(self.resets_at_ms)
        else:
            retry_after_s = _ASK_AGAIN_S.get(self.kind) if self.retry_after_s is None else self.retry_after_s
            payload |= {} if retry_after_s is None else {"retry_after_s": retry_after_s}
        return payload


DONE: Final = Outcome(Kind.DONE)


class Usage(Struct, frozen=True):
    """What a turn used; what is not known is None, which is not zero. cost_usd: US dollars."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum; what is unknown on both sides stays unknown."""
        return Usage(
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
            _sum(self.cost_usd, other.cost_usd),
        )

    def since(self, counted: "Usage", cumulative: frozenset[str]) -> "Usage":
        """Return what is new against what was counted before, for the fields that go on counting; the others as is."""
        return replace(self, **{name: _rest(getattr(self, name), getattr(counted, name)) for name in cumulative})

    def as_payload(self) -> dict[str, Any]:
        """Return ``payload.usage``: what is known."""
        known = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        known_cost = {} if self.cost_usd is None else {"cost_usd": round(self.cost_usd, 6)}
        return {name: value for name, value in known.items() if value is not None} | known_cost


def _sum(a: Any, b: Any) -> Any:
    return a if b is None else b if a is None else a + b


def _rest(a: Any, b: Any) -> Any:
    return a if a is None or b is None else max(0, a - b)


def _status(digits: str) -> str:
    """Return a pattern for an HTTP status that stands by itself, and is no part of another number."""
    return rf"(?<![\d.])(?:{digits})\b(?!\.\d)"


_TELLING: Final = (
    (Kind.CONTEXT_TOO_LONG, r"prompt is too long|context.?(window|length)|input token count .*exceeds"),
    (Kind.USAGE_LIMITED, r"usage limit|insufficient_quota|credit balance|billing|hit your limit"),
    (Kind.USAGE_LIMITED, r"(hour|daily|weekly|monthly) (limit|quota)"),
    (
        Kind.AUTHENTICATION,
        _status("40[13]")
        + r"|unauthori[sz]ed|invalid.{0,3}api.?key|api.?key not valid|authenticat|not logged in|/login",
    ),
    (
        Kind.RATE_LIMITED,
        _status("429") + r"|rate.?limit|too many requests|resource.?exhausted|exceeded your current quota",
    ),
    (
        Kind.OVERLOADED,
        _status(r"5\d\d")
        + r"|overloaded|high demand|unavailable|disconnected|connection|fetch failed|econn|enotfound|etimedout",
    ),
    (Kind.REFUSED, r"usage polic|content policy|\bsafety\b|\brefus"),
)
_STATUSES: Final = {
    401: Kind.AUTHENTICATION,
    403: Kind.AUTHENTICATION,
    402: Kind.USAGE_LIMITED,
    413: Kind.CONTEXT_TOO_LONG,
}


def of_provider(status: int | None, text: str) -> Outcome:
    """Classify an error that a provider sent or a CLI reports, by HTTP status and, within that, by its words.

    text: only what is said to be an error, never what a model answered. What nothing is known about is a crash.
    """
    words = text.lower()
    by_words = next((kind for kind, pattern in _TELLING if re.search(pattern, words)), None)
    kind = by_words or Kind.CRASHED
    if status is not None:
        if status in _STATUSES:
            kind = _STATUSES[status]
        elif status == 429:
            kind = Kind.USAGE_LIMITED if by_words is Kind.USAGE_LIMITED else Kind.RATE_LIMITED
        elif status >= 500:
            kind = Kind.OVERLOADED
    found = Outcome(kind, text.strip() or (f"HTTP status {status}" if status else ""))
    if kind is Kind.CONTEXT_TOO_LONG:
        return replace(found, is_session_lost=True)
    return (
        replace(found, retry_after_s=_retry_after_s(words)) if kind in {Kind.RATE_LIMITED, Kind.OVERLOADED} else found
    )


_UNIT_S: Final = {
    **dict.fromkeys(("ms", "millisecond"), 0.001),
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hr", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86_400.0),
}
_PART: Final = rf"(\d+(?:\.\d+)?)[ -]?({'|'.join(_UNIT_S)})s?(?![a-z])"
_AFTER: Final = re.compile(
    rf"(?:retry|try again|retrydelay\"?)[ :-]*(?:after|in)?[ :]*\"?"
    rf"((?:{_PART}[ ,]*(?:and )?)+|\d+(?:\.\d+)?(?=\s*(?:$|[.,;:)\"\n])))"
)


def _retry_after_s(words: str) -> float | None:
    """Return the wait that is told, such as ``in 1h2m3.5s``, ``after 5 minutes``, or seconds without a unit."""
    found = _AFTER.search(words)
    if found is None:
        return None
    parts = re.findall(_PART, found[1])
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts) if parts else float(found[1])
