"""Idempotency keys, against vectors that were not computed by this program."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import lorch_actors
from lorch_actors.protocol.canonical import canonical
from lorch_actors.protocol.ids import IDEMPOTENCY_KEY_PATTERN
from lorch_actors.workflow.keys import idempotency_key

ROOT = Path(__file__).parents[2]
VECTOR_FILES = [ROOT / "fixtures/vectors/idempotency.json", ROOT / "../shared/vectors/idempotency.json"]


def vectors() -> list[Any]:
    """Return every vector of the files that are there."""
    return [
        pytest.param(vector, id=f"{number}-{vector['name']}")
        for number, path in enumerate(VECTOR_FILES)
        if path.exists()
        for vector in json.loads(path.read_bytes())["vectors"]
    ]


def key_of(vector: dict[str, Any], **other: object) -> str:
    """Return the key of a vector's step, changed in some way."""
    parts = {name: vector[name] for name in ("action", "task_id", "snapshot_id", "inputs", "expected_outputs")}
    return idempotency_key(**parts | other)


@pytest.mark.parametrize("vector", vectors())
def test_keys_are_what_others_compute(vector: dict[str, Any]):
    """Canonical texts and key are those of the vector."""
    assert canonical(vector["inputs"]).decode() == vector["inputs_canonical"]
    assert canonical(vector["expected_outputs"]).decode() == vector["expected_outputs_canonical"]
    assert key_of(vector) == vector["idempotency_key"]


def test_every_part_of_a_step_changes_its_key():
    """Action, task, snapshot, inputs, outputs and the order of outputs all matter."""
    step = {
        "action": "review",
        "task_id": "T-1",
        "snapshot_id": "snap-0123456789ab",
        "inputs": {"round": 1},
        "expected_outputs": [{"path": "a"}, {"path": "b"}],
    }
    keys = [
        key_of(step),
        key_of(step, action="implement"),
        key_of(step, task_id="T-2"),
        key_of(step, snapshot_id="snap-0123456789ac"),
        key_of(step, inputs={"round": 2}),
        key_of(step, inputs={"round": "1"}),
        key_of(step, expected_outputs=[{"path": "b"}, {"path": "a"}]),
        key_of(step, expected_outputs=[{"path": "a"}]),
    ]

    assert len(set(keys)) == len(keys)


def test_the_key_is_public_and_looks_like_one():
    """The package offers the function; a key is ``ik:`` and 64 hex digits."""
    key = lorch_actors.idempotency_key("intake", "T", "snap-0123456789ab", {}, [])

    assert re.search(IDEMPOTENCY_KEY_PATTERN, key)


def test_inputs_that_json_cannot_express_have_no_key():
    """A NaN raises instead of giving a key that nobody else computes."""
    with pytest.raises(ValueError, match="no canonical form"):
        idempotency_key("intake", "T", "s", {"n": float("nan")}, [])
