"""Scripts: what may stand in one, and which response is due."""

import json
from pathlib import Path

import msgspec
import pytest
from agent_driving import FIXTURES, command

from lorch_actors.agents.script import Response, load_script, parse_script
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.messages import Command

LORCH_15 = FIXTURES.parents[1] / "shared" / "fixtures-lorch15"


def script(document: object):
    return parse_script(json.dumps(document).encode(), "script.json")


def problems(document: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        script(document)
    assert caught.value.where == "script.json"
    return [line.strip() for line in caught.value.what.splitlines()[1:]]


def due(document: object, turn: int, execution: int = 1, **changes: object) -> str | None:
    """Return the first event of the response that is due."""
    response = script(document).choose(msgspec.convert(command(**changes), Command), turn, execution)
    return response.steps[0].type if response else None


@pytest.mark.parametrize("path", sorted((FIXTURES / "scripts").glob("*.json")), ids=lambda path: path.stem)
def test_our_own_scripts_are_right_and_say_what_they_are_for(path: Path):
    """Every script of the repository loads and carries a comment."""
    load_script(path)

    assert json.loads(path.read_bytes())["comment"]


@pytest.mark.skipif(not LORCH_15.is_dir(), reason="the scripts of lorch 1.5 are not here")
def test_scripts_of_lorch_15_are_right():
    """Each of them loads as it is."""
    for path in LORCH_15.glob("*.json"):
        load_script(path)


def test_all_errors_of_a_script_are_told_at_once_with_their_places():
    """One look at the message is enough to mend the whole file."""
    document = {
        "responses": {
            "implement": [
                {"evnts": []},
                {"events": [{"type": "kil"}, {"type": "write", "path": 1}, {"type": "exit", "code": 256}, {}, 7]},
            ],
            "review": {"match": {"round": 0}, "delay_ms": -1, "error": 5},
            "update_spec": [],
            "revew": {},
        },
        "start": [{"type": "flood"}],
        "respones": {},
    }

    assert problems(document) == [
        (
            "$.responses.implement[0].evnts: unknown; allowed are delay_ms, error, events, match, times "
            "(did you mean 'events'?)"
        ),
        "$.responses.implement[1].events[0].type: 'kil' is neither an event nor an act (did you mean 'kill'?)",
        "$.responses.implement[1].events[1].path: 1 is not a string",
        "$.responses.implement[1].events[1].content: is missing; 'write' needs it",
        "$.responses.implement[1].events[2].code: 256 is not a whole number from 0 to 255",
        (
            "$.responses.implement[1].events[3].type: is missing: the name of an event, or one of "
            "ask, close_stdout, corrupt_artifact, default, duplicate, exit, flood, garbage, hang, kill, "
            "oversize, slow_stdin, stop_heartbeat, write, wrong_correlation"
        ),
        "$.responses.implement[1].events[4]: 7 is not an object",
        "$.responses.review.match.round: 0 is not a whole number from 1 to 1099511627776",
        "$.responses.review.delay_ms: -1 is not a whole number from 0 to 86400000",
        "$.responses.review.error: 5 is neither a message nor the payload of an error event",
        "$.responses.update_spec: the list is empty; it needs at least one response",
        "$.responses.revew: no such action (did you mean 'review'?)",
        (
            "$.start[0].type: 'flood' cannot happen before a command is read; allowed are "
            "close_stdout, exit, garbage, hang, kill, oversize, slow_stdin, stop_heartbeat"
        ),
        "$.respones: unknown; allowed are responses, start (did you mean 'responses'?)",
    ]


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff"], ids=["empty", "cut off", "deep", "not UTF-8"])
def test_what_is_not_json_is_told_with_the_file(data: bytes):
    """The error names the file, and no traceback is seen."""
    with pytest.raises(ConfigError, match="the script is not JSON") as caught:
        parse_script(data, "script.json")

    assert caught.value.where == "script.json"


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path):
    """The error names the file and the flag."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        load_script(tmp_path / "absent.json")

    assert caught.value.where == str(tmp_path / "absent.json")
    assert "--script" in caught.value.remedy


def test_in_a_list_the_turn_chooses_and_the_last_one_repeats():
    """First call, second call, then always the last."""
    document = {"responses": {"implement": [{"events": [{"type": "a.a"}]}, {"events": [{"type": "b.b"}]}]}}

    assert [due(document, turn) for turn in range(4)] == ["a.a", "b.b", "b.b", "b.b"]


def test_a_response_with_times_gives_way_to_the_next_one():
    """The same key gets the next response once the first was used often enough, and the default when none is left."""
    document = {
        "responses": {
            "implement": [{"times": 2, "events": [{"type": "a.a"}]}, {"times": 3, "events": [{"type": "b.b"}]}]
        }
    }

    assert [due(document, 0, execution) for execution in (1, 2, 3, 4)] == ["a.a", "a.a", "b.b", None]


def test_a_fitting_match_goes_before_responses_for_any():
    """Round and task are looked at; both have to fit if both are named."""
    document = {
        "responses": {
            "implement": [
                {"events": [{"type": "any.one"}]},
                {"match": {"round": [2, 3]}, "events": [{"type": "round.two"}]},
                {"match": {"task": "T-9", "round": 1}, "events": [{"type": "task.nine"}]},
            ]
        }
    }

    assert due(document, 0, inputs={"round": 1}) == "any.one"
    assert due(document, 0, inputs={"round": 3}) == "round.two"
    assert due(document, 0, inputs={"round": 1}, task_id="T-9") == "task.nine"
    assert due(document, 0, inputs={}) == "any.one"
    assert due(document, 0, inputs={"round": True}) == "any.one"


def test_an_error_may_be_a_message_or_a_payload():
    """A message becomes an error that is not to be tried again."""
    document = {"responses": {"review": {"error": "no"}, "implement": {"error": {"code": "x", "retryable": True}}}}

    responses = script(document).responses

    assert responses["review"] == (Response(error={"code": "scripted_error", "message": "no", "retryable": False}),)
    assert responses["implement"][0].error == {"code": "x", "retryable": True}
