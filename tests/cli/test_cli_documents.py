"""Every document of --json has a schema in the package."""

import json

import jsonschema
import pytest

from lorch_actors.cli.documents import SCHEMA_TYPES, ErrorDocument
from lorch_actors.cli.output import one_line, visible
from lorch_actors.cli.schemas import rendered
from lorch_actors.errors import ExitCode, LockedError
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY


def test_the_committed_schemas_of_the_command_line_are_the_generated_ones():
    """Whoever changes a document writes them again: python -m lorch_actors.cli.schemas."""
    committed = {path.name: path.read_bytes() for path in SCHEMA_DIRECTORY.glob("cli-*.json")}

    assert committed == rendered()


@pytest.mark.parametrize("name", sorted(SCHEMA_TYPES))
def test_each_schema_is_closed_and_requires_every_key(name: str):
    """A reader may rely on what is there."""
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())

    jsonschema.Draft202012Validator.check_schema(schema)
    for part in [schema, *schema.get("$defs", {}).values()]:
        assert part["additionalProperties"] is False
        assert sorted(part["required"]) == sorted(part["properties"])


def test_an_error_document_carries_what_the_process_ends_with():
    """Kind, text, place, remedy and exit code."""
    error = ErrorDocument.of(LockedError("held", where="w", remedy="wait"), ExitCode.LOCKED).error

    assert (error.kind, error.what, error.where, error.remedy, error.exit_code) == (
        "LockedError",
        "held",
        "w",
        "wait",
        3,
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[31mb", "a\\x1b[31mb"), ("a\u202eb", "a\\u202eb"), ("tab\there\n", "tab\there\n"), ("ä→", "ä→")],
)
def test_control_characters_are_made_visible(text: str, shown: str):
    """Colours, cursor moves and reversed text take no effect; what is only foreign stays."""
    assert visible(text) == shown


def test_a_long_text_becomes_one_line_with_an_ellipsis():
    """So that a table stays a table."""
    assert one_line("a\n b\t c", 10) == "a b c"
    assert one_line("x" * 20, 10) == "x" * 9 + "…"
