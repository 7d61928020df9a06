"""What stands in a command, and what does when it would become too long."""

import hashlib
import json

import pytest
from agent_scripts import APPROVED, PASS, Say, playing
from harness import SNAPSHOT, World, played

from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES
from lorch_actors.protocol.parse import encode, parse_message
from lorch_actors.workflow.keys import idempotency_key
from lorch_actors.workflow.orders import Append

LONG = Say("review.completed", "changes_requested", {"findings": ["ü" * 60_000, "x" * 60_000]})


def file_of(world):
    """Play until a file is asked for and return its order."""
    found = []

    def look(world):
        found.extend(o for o in world.ask().orders if isinstance(o, Append) and o.file is not None)
        return bool(found)

    world.play_until(look)
    return found[0]


def test_every_command_is_valid_on_the_wire():
    """What we send passes the check that we apply to others."""
    for command in played(playing(review=[LONG, APPROVED])).commands():
        line = encode(command)

        assert command == parse_message(line)[0]
        assert len(line) <= MESSAGE_MAX_BYTES


def test_a_long_request_goes_into_a_file_that_the_command_names():
    """Path, checksum and size stand in the inputs; the file holds all of it."""
    order = file_of(World(playing(review=[LONG, APPROVED])).start())
    named = order.message.inputs["request"]

    assert LONG.payload == json.loads(order.file.content)
    assert {
        "path": order.file.path,
        "sha256": f"sha256:{hashlib.sha256(order.file.content).hexdigest()}",
        "size": len(order.file.content),
    } == named
    assert order.file.path.startswith("state/requests/")


def test_different_requests_of_one_round_have_different_files():
    """A task done anew overwrites nothing that an earlier command names."""
    other = Say("review.completed", "changes_requested", {"findings": ["y" * 200_000]})
    paths = {file_of(World(playing(review=[say, APPROVED])).start()).file.path for say in (LONG, other)}

    assert len(paths) == 2


def test_a_short_request_stays_in_the_command():
    """Files are for what does not fit."""
    say = Say("review.completed", "changes_requested", {"findings": ["x" * 100_000]})
    commands = played(playing(review=[say, APPROVED])).commands()

    assert say.payload == commands[2].inputs["request"]


def test_anybody_can_compute_the_key_of_a_command_again():
    """It follows from what stands in the command."""
    tasks = ({"id": "T-1", "goal": "g", "expected_outputs": [{"path": "src/a.py"}], "big": 2**60},)
    for command in played(tasks=tasks).commands():
        outputs = [output.as_object() for output in command.expected_outputs]

        assert command.idempotency_key == idempotency_key(command.action, "T-1", SNAPSHOT, command.inputs, outputs)


def test_further_keys_of_a_task_are_handed_to_its_agents():
    """All but id, priority and expected outputs, which have places of their own."""
    tasks = ({"id": "T-1", "goal": "g", "hints": ["a"], "priority": 3},)
    command = played(tasks=tasks).commands()[0]

    assert ({"goal", "hints", "run_id", "round"}, 3) == (set(command.inputs), command.priority)


@pytest.mark.parametrize(
    ("given", "wait_ms"), [(2.5, 2500), (-1, 600_000), (0, 600_000), (10**30, 600_000), ("9", 600_000)]
)
def test_deadlines_are_those_of_the_agents_settings(given, wait_ms):
    """A configured timeout counts from the delivery; values that make no sense are passed over."""
    world = World(playing(implement=[()]), agent_settings={"builder": {"timeouts_s": {"implement": given}}}).start()
    world.play_until(lambda w: w.commands())

    assert world.ask().wake_after_ms == wait_ms


def test_a_lost_delivery_changes_nothing_but_delivery_attempt_and_deadline():
    """Inputs, outputs, version and priority of a repeat are those of the first time."""
    world = played(playing(implement=[Say("builder.completed"), PASS]))
    first, second = world.commands()[:2]
    same = (
        "correlation_id",
        "idempotency_key",
        "inputs",
        "expected_outputs",
        "version",
        "priority",
        "action",
        "task_id",
    )

    assert [getattr(first, name) for name in same] == [getattr(second, name) for name in same]
