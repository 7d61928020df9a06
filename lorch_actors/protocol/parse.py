"""One line becomes one typed message, or an InvalidLine that says why not; nothing else comes out.

Three ways in: `parse_message` for what came through a pipe, `decode` for compact bytes that this program has checked
before (a ledger line without its ledger key), `parse_legacy` for ledgers of lorch 1.5.
"""

import json
import re
from typing import Any, Final

import msgspec

from lorch_actors.protocol.ijson import decode_object
from lorch_actors.protocol.invalid import InvalidLine, MessageHead, head_of
from lorch_actors.protocol.messages import (
    EVENT_PATTERN,
    MESSAGE_MAX_BYTES,
    Artifact,
    Command,
    Event,
    Heartbeat,
    Log,
    Message,
    Object,
)
from lorch_actors.protocol.redaction import FREE_FIELDS, Redactor
from lorch_actors.protocol.times import from_timestamp, to_timestamp
from lorch_actors.protocol.typed import decode_typed

__all__ = ["InvalidLine", "MessageHead", "decode", "encode", "parse_legacy", "parse_message"]


class _ClaimedArtifact(Artifact, frozen=True):
    """An artifact whose checksum may be any string."""

    sha256: str


class _LooseEvent(Event, frozen=True, tag="event"):
    """An event whose artifacts may claim any string as a checksum."""

    artifacts: list[_ClaimedArtifact] | None = None  # type: ignore[assignment]


_STRICT: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)
_LOOSE: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Command | _LooseEvent | Heartbeat | Log)
_NO_REDACTION: Final = Redactor()
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


_ID_FIELDS: Final = frozenset({"message_id", "correlation_id"})
_TIME_FIELDS: Final = frozenset({"deadline", "occurred_at", "last_activity_at", "timestamp"})
_LEGACY_COMMAND: Final[Object] = {"inputs": {}, "priority": 0, "retry": {"attempt": 0, "max_attempts": 1}}
_EVENT_NAME: Final = re.compile(EVENT_PATTERN)
_TYPES: Final[tuple[type[msgspec.Struct], ...]] = (Command, Event, Heartbeat, Log)
_FIELDS: Final = {
    type_.__struct_config__.tag: {"kind", *(field.encode_name for field in msgspec.structs.fields(type_))}
    for type_ in _TYPES
}


def parse_message(
    line: bytes, *, any_checksum: bool = False, redactor: Redactor = _NO_REDACTION
) -> tuple[Message, bytes]:
    """Return the message that a line holds and its compact form, both without the redactor's secrets.

    A whole number written as a fraction (``2048.0``) where the protocol has an integer becomes that integer.
    ``any_checksum``: accept any string as the checksum of an artifact (``verify_artifacts: warn``).
    Raises InvalidLine, also for a message that is longer than a line may be once it is compact and redacted.
    """
    _refuse_overlong(line)
    try:
        document, compact = decode_object(line)
    except InvalidLine as error:
        raise InvalidLine(error.reason, _salvage_head(line, redactor)) from None
    try:
        _, compact = redactor.message(document, compact)
        _refuse_overlong(compact)
        return _decode(compact, any_checksum=any_checksum)
    except InvalidLine as error:
        raise InvalidLine(error.reason, _redacted_head(document, redactor)) from None


def decode(compact: bytes) -> Message:
    """Return the message in bytes that came out of `parse_message` or `encode` earlier; any checksum is accepted.

    Cheaper than `parse_message`: not checked for I-JSON. Raises InvalidLine if it is no message.
    """
    return _decode(compact, any_checksum=True)[0]


def encode(message: Message) -> bytes:
    """Return the message as compact JSON, without newline."""
    return msgspec.json.encode(message)


def parse_legacy(line: bytes) -> Message | None:
    """Return the message in a line of a ledger of lorch 1.5; None for a line that means nothing.

    Nothing is meant by a blank line, ``null``, an event of a name that the protocol does not know, and a heartbeat
    that lacks something (those of lorch 1.5 may have no process id, and a sign of life from long ago says nothing).

    What that version wrote differently is brought into today's form: unknown top-level fields are dropped, what is
    ``null`` counts as absent, times get UTC, empty ids become ``-``, a command without ``priority`` has 0, one that
    allowed no attempt at all allowed one. Raises InvalidLine.
    """
    if line.strip() in {b"", b"null"}:
        return None
    document, _ = decode_object(line)
    known = _FIELDS.get(str(document.get("kind")))
    if known is None:
        raise InvalidLine(f"unknown kind {document.get('kind')!r}")
    kept = _modernised({name: value for name, value in document.items() if name in known and value is not None})
    try:
        return decode(msgspec.json.encode(kept))
    except InvalidLine as error:
        if kept["kind"] == "heartbeat" or _is_unknown_event(kept):
            return None
        raise InvalidLine(error.reason, head_of(document)) from None


def _modernised(kept: Object) -> Object:
    for name in _TIME_FIELDS & kept.keys():
        try:
            kept[name] = to_timestamp(from_timestamp(kept[name]))
        except (TypeError, ValueError):
            raise InvalidLine(f"{name} is not a timestamp", head_of(kept)) from None
    for name in _ID_FIELDS & kept.keys():
        kept[name] = kept[name] or "-"
    if kept["kind"] != "command":
        return kept
    retry = kept.get("retry")
    if isinstance(retry, dict) and retry.get("max_attempts") == 0:
        kept["retry"] = retry | {"max_attempts": 1}
    return _LEGACY_COMMAND | kept


def _is_unknown_event(document: Object) -> bool:
    name = document.get("event")
    return isinstance(name, str) and _EVENT_NAME.search(name) is None


def _refuse_overlong(line: bytes) -> None:
    if len(line) > MESSAGE_MAX_BYTES:
        raise InvalidLine(f"{len(line)} bytes long (compact and redacted), {MESSAGE_MAX_BYTES} are allowed")


def _decode(compact: bytes, *, any_checksum: bool) -> tuple[Message, bytes]:
    try:
        return decode_typed(_STRICT, compact, FREE_FIELDS)
    except _UNREADABLE as error:
        if not any_checksum:
            raise InvalidLine(str(error)) from None
    try:
        message, compact = decode_typed(_LOOSE, compact, FREE_FIELDS)
    except _UNREADABLE as error:
        raise InvalidLine(str(error)) from None
    return _as_event(message) if isinstance(message, _LooseEvent) else message, compact


def _as_event(loose: _LooseEvent) -> Event:
    """Return the plain event, so that nobody meets the loose types."""
    fields: dict[str, Any] = {name: getattr(loose, name) for name in Event.__struct_fields__}
    artifacts = [Artifact(path=a.path, sha256=a.sha256, size=a.size) for a in loose.artifacts or ()]
    return Event(**fields | {"artifacts": artifacts})


def _salvage_head(line: bytes, redactor: Redactor) -> MessageHead | None:
    """Return what a line that is almost JSON (a NaN, a repeated name, a stray byte) says of itself."""
    try:
        document = json.loads(line.decode("utf-8", "replace"), parse_int=str)
    except (ValueError, RecursionError):
        return None
    return _redacted_head(document, redactor) if isinstance(document, dict) else None


def _redacted_head(document: Object, redactor: Redactor) -> MessageHead:
    head = head_of(document)
    texts = {name: getattr(head, name) for name in head.__struct_fields__}
    return MessageHead(**{name: redactor.text(text) for name, text in texts.items() if text is not None})
