"""The JSON Schemas and the types accept and reject the same documents."""

import copy
import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_cases import AT, CHECKSUM, FULL, mutated, places, valid_for

from lorch_actors.protocol.documents import Index, Receipt, RunState, SnapshotManifest
from lorch_actors.protocol.messages import Command, Event, Heartbeat, Log
from lorch_actors.protocol.parse import InvalidLine, parse_message
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY, SCHEMA_TYPES, rendered, schema_of
from lorch_actors.protocol.typed import decode_typed

MESSAGES = {"command": Command, "event": Event, "heartbeat": Heartbeat, "log": Log}
DOCUMENTS = {"receipt": Receipt, "run-state": RunState, "index": Index, "snapshot-manifest": SnapshotManifest}


def schema(name: str) -> dict[str, Any]:
    """Return a committed schema."""
    return json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())


VALIDATORS = {name: jsonschema.Draft202012Validator(schema(name)) for name in FULL}
VALID = {name: valid_for(schema(name), schema(name)) for name in FULL}
DECODERS = {name: msgspec.json.Decoder(type_) for name, type_ in DOCUMENTS.items()}


def accepted_by_type(name: str, document: object) -> bool:
    """Tell whether the program takes the document for one of that name."""
    data = json.dumps(document).encode()
    try:
        if name in MESSAGES:
            return type(parse_message(data)[0]) is MESSAGES[name]
        decode_typed(DECODERS[name], data)
    except (InvalidLine, msgspec.ValidationError):
        return False
    return True


def test_the_committed_schemas_are_the_generated_ones():
    """Whoever changes a type writes the schemas again: python -m lorch_actors.protocol.schemas."""
    committed = {path.name: path.read_bytes() for path in SCHEMA_DIRECTORY.glob("*.json")}

    assert {name: committed.get(name) for name in rendered()} == rendered()


@pytest.mark.parametrize("name", sorted(SCHEMA_TYPES))
def test_each_schema_is_a_schema(name: str):
    """It is valid by its own draft and says what it is."""
    found = schema(name)

    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$id"] == f"urn:lorch-actors:schema:v1:{name}"
    assert found["title"] == SCHEMA_TYPES[name].__name__
    assert schema_of(name, SCHEMA_TYPES[name]) == found


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_complete_document_is_accepted_by_both(name: str):
    """Every member that there is, at least once."""
    assert list(VALIDATORS[name].iter_errors(FULL[name])) == []
    assert accepted_by_type(name, FULL[name])


@given(
    st.sampled_from(sorted(FULL)).flatmap(lambda name: st.tuples(st.just(name), valid_for(schema(name), schema(name))))
)
def test_what_a_schema_describes_is_accepted_by_both(case: tuple[str, Any]):
    """Documents made from the schema are valid for schema and type."""
    name, document = case

    assert VALIDATORS[name].is_valid(document)
    assert accepted_by_type(name, document)


@settings(max_examples=200)
@given(mutated())
def test_a_changed_document_gets_the_same_verdict_from_both(case: tuple[str, Any]):
    """Whatever is done to a document, schema and type agree on whether it is still one."""
    name, document = case

    assert accepted_by_type(name, document) == VALIDATORS[name].is_valid(document)


@pytest.mark.parametrize("name", sorted(FULL))
def test_every_single_change_gets_the_same_verdict_from_both(name: str):
    """Each place of the document, with each suspicious value in it, one after the other."""
    odd = [None, True, 0, 1.0, 1.5, -1, 10**400, "", "T-1\n", f"{AT}\n", [], {}, [None], {"x": None}]
    for at in range(len(places(FULL[name]))):
        for value in odd:
            document = copy.deepcopy(FULL[name])
            container, key = places(document)[at]
            container[key] = value

            assert accepted_by_type(name, document) == VALIDATORS[name].is_valid(document), (key, value)


@pytest.mark.parametrize("name", sorted(FULL))
def test_every_single_absence_gets_the_same_verdict_from_both(name: str):
    """Each member and item of the document is missed, or not, by both."""
    for at in range(len(places(FULL[name]))):
        document = copy.deepcopy(FULL[name])
        container, key = places(document)[at]
        del container[key]

        assert accepted_by_type(name, document) == VALIDATORS[name].is_valid(document), key


@pytest.mark.parametrize(
    "left_out", ["link", "sha256", "size", "sha256 size", "link sha256", "link size", "link sha256 size", ""]
)
def test_an_entry_of_a_manifest_is_either_a_file_or_a_link(left_out: str):
    """Checksum and size, or the text of the link: neither both nor a part."""
    entry = {"path": "a", "sha256": CHECKSUM, "size": 0, "link": "b", "mtime": AT}
    manifest = FULL["snapshot-manifest"] | {"files": [{k: v for k, v in entry.items() if k not in left_out.split()}]}
    expected = left_out in {"link", "sha256 size"}

    assert accepted_by_type("snapshot-manifest", manifest) == expected
    assert VALIDATORS["snapshot-manifest"].is_valid(manifest) == expected
