r"""The JSON Schemas (draft 2020-12) in ``lorch_actors/schemas/v1``, generated from the types.

``python -m lorch_actors.protocol.schemas`` writes them; a test says that what is committed is what would be written,
others that schemas and types accept the same documents. What no schema can say is checked where a line is decoded:
the depth of nesting, names that occur twice, integers of more than 4,300 digits. Patterns end in ``$(?!\n)``, which
means the end of the text to both Python and ECMA 262.
"""

from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.protocol.configuration import configuration_schema_type
from lorch_actors.protocol.documents import Index, Receipt, RunState, SnapshotManifest
from lorch_actors.protocol.messages import Command, Event, Heartbeat, Log

SCHEMA_DIRECTORY: Final = Path(__file__).parent.parent / "schemas" / "v1"

SCHEMA_TYPES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "command": Command,
    "event": Event,
    "heartbeat": Heartbeat,
    "log": Log,
    "receipt": Receipt,
    "run-state": RunState,
    "index": Index,
    "snapshot-manifest": SnapshotManifest,
    "config": configuration_schema_type,
}
"""The documents that have a schema: its file's name without ``.json``, and the type it comes from."""


def schema_of(name: str, type_: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of one type, with the type itself at the root and its parts under ``$defs``."""
    generated = msgspec.json.schema(type_)
    parts = dict(generated["$defs"])
    root = parts.pop(generated["$ref"].removeprefix("#/$defs/"))
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lorch-actors:schema:v1:{name}",
        **root,
    }
    cleaned: dict[str, Any] = _with_clean_descriptions(schema | ({"$defs": parts} if parts else {}))
    return cleaned


def rendered() -> dict[str, bytes]:
    """Return the content of every schema file by the file's name."""
    return {
        f"{name}.json": msgspec.json.format(msgspec.json.encode(schema_of(name, type_)), indent=2) + b"\n"
        for name, type_ in SCHEMA_TYPES.items()
    }


def _with_clean_descriptions(schema: Any) -> Any:
    """Take the indentation of docstrings out, which differs between versions of Python."""
    if isinstance(schema, dict):
        return {
            key: cleandoc(part) if key == "description" and isinstance(part, str) else _with_clean_descriptions(part)
            for key, part in schema.items()
        }
    return [_with_clean_descriptions(part) for part in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Write all schema files."""
    for name, content in rendered().items():
        (SCHEMA_DIRECTORY / name).write_bytes(content)


if __name__ == "__main__":
    main()
