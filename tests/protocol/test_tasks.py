"""Tasks keep what people write into them, and are refused where they could do harm."""

import json

import msgspec
import pytest

from lorch_actors.errors import ConfigError
from lorch_actors.protocol.configuration import check_configuration, parse_configuration
from lorch_actors.protocol.ijson import decode_object
from lorch_actors.protocol.messages import ExpectedOutput
from lorch_actors.protocol.tasks import RESERVED_INPUTS, TASK_MAX_BYTES, TASK_MAX_DEPTH, parse_tasks


def line(**task: object) -> bytes:
    """Return a task as a line."""
    return json.dumps(task).encode() + b"\n"


def test_unknown_keys_become_inputs():
    """Goal, title, files and whatever else somebody needs reach the agents as they are."""
    (task,) = parse_tasks(line(id="T-1", goal="g", title="t", files=["a", {"b": None}], _note="mine"), "tasks")

    assert task.inputs == {"goal": "g", "title": "t", "files": ["a", {"b": None}]}


def test_known_keys_do_not_become_inputs():
    """Priority and expected outputs have places of their own in a command."""
    (task,) = parse_tasks(line(id="T-1", goal="g", priority=3, expected_outputs=[{"path": "a"}]), "tasks")

    assert (task.id, task.goal, task.priority, task.inputs) == ("T-1", "g", 3, {"goal": "g"})
    assert task.expected_outputs == (ExpectedOutput(path="a"),)


def test_the_same_task_reads_the_same_from_lorch_json():
    """There is one kind of task."""
    given = {"id": "T-1", "goal": "g", "title": "t"}
    configuration, _ = parse_configuration(json.dumps({"tasks": [given]}).encode(), "lorch.json")

    assert configuration.tasks == parse_tasks(line(**given), "tasks")


@pytest.mark.parametrize("key", sorted(RESERVED_INPUTS))
def test_inputs_that_lorch_sets_itself_cannot_be_given(key: str):
    """They enter the idempotency key."""
    with pytest.raises(ConfigError, match="set by lorch itself"):
        parse_tasks(line(id="T-1", goal="g", **{key: 1}), "tasks")


@pytest.mark.parametrize("task_id", ["../../escape", "", "a/b", ".hidden", "x" * 65, "a\n"])
def test_task_id_escape_writes_no_receipts_outside(task_id: str):
    """An id that could become a path elsewhere is refused where it enters."""
    with pytest.raises(ConfigError, match="id"):
        parse_tasks(line(id=task_id, goal="g"), "tasks")


def test_a_task_that_is_too_large_names_the_remedy():
    """It would crowd the command it travels in."""
    with pytest.raises(ConfigError, match="file under specs/"):
        parse_tasks(line(id="T-1", goal="g" * TASK_MAX_BYTES), "tasks")


def test_a_repeated_id_is_an_error_that_names_the_first():
    """Two tasks of one id would share receipts."""
    _, found, _ = check_configuration(
        json.dumps({"tasks": [{"id": "a", "goal": "x"}, {"id": "a", "goal": "y"}]}).encode()
    )

    assert [error.path for error in found] == ["$.tasks[1].id"]
    assert "$.tasks[0]" in found[0].what


def test_all_errors_of_a_task_file_come_at_once_with_their_lines():
    """Blank lines count as lines and are skipped."""
    with pytest.raises(ConfigError) as caught:
        parse_tasks(b"not json\n\n" + line(id="T-1") + line(id="T-2", goal="x", priority=-1), "tasks.ndjson")

    assert "line 1: is not JSON" in caught.value.what
    assert "line 3: $.goal: is missing" in caught.value.what
    assert "line 4: $.priority: -1 is not allowed" in caught.value.what
    assert caught.value.where == "tasks.ndjson"


def test_a_file_without_tasks_is_an_error():
    """Running nothing is hardly what was meant."""
    with pytest.raises(ConfigError, match="no task in it"):
        parse_tasks(b"\n \n", "tasks")


def test_a_misspelt_key_of_an_expected_output_is_an_error():
    """Expected outputs are closed objects: `require` for `required` would silently loosen a promise."""
    with pytest.raises(ConfigError, match="did you mean required"):
        parse_tasks(line(id="T-1", goal="g", expected_outputs=[{"path": "a", "require": True}]), "tasks")


@pytest.mark.parametrize(("levels", "is_fine"), [(TASK_MAX_DEPTH, True), (TASK_MAX_DEPTH + 1, False), (5000, False)])
def test_a_task_is_no_deeper_than_a_message_can_carry(levels: int, *, is_fine: bool):
    """Else its command would break our own protocol, and no agent would ever answer it."""
    given = b'{"id":"T-1","goal":"g","d":%b%b}' % ((levels - 1) * b"[", (levels - 1) * b"]")
    if is_fine:
        (task,) = parse_tasks(given, "tasks")
        decode_object(msgspec.json.encode({"inputs": {"retry_of": [task.inputs]}}))
        return
    with pytest.raises(ConfigError, match="deep"):
        parse_tasks(given, "tasks")
