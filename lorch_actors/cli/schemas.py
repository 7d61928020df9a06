"""Write the JSON Schemas of what ``--json`` prints: ``python -m lorch_actors.cli.schemas``.

A test says that what is committed is what would be written.
"""

import msgspec

from lorch_actors.cli.documents import SCHEMA_TYPES
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY, schema_of


def rendered() -> dict[str, bytes]:
    """Return the content of every schema file by the file's name."""
    return {
        f"{name}.json": msgspec.json.format(msgspec.json.encode(schema_of(name, kind)), indent=2) + b"\n"
        for name, kind in SCHEMA_TYPES.items()
    }


def main() -> None:
    """Write all schema files."""
    for name, content in rendered().items():
        (SCHEMA_DIRECTORY / name).write_bytes(content)


if __name__ == "__main__":
    main()
