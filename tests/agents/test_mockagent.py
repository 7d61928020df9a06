"""The mockagent as a process: what it answers, what it remembers, how it misbehaves."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from agent_driving import FIXTURES, ROLE_OF, command, executions, journal, mockagent

from lorch_actors.protocol.invalid import InvalidLine
from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES
from lorch_actors.protocol.parse import parse_message

LORCH_15 = FIXTURES.parents[1] / "shared" / "fixtures-lorch15"
SCRIPTS = FIXTURES / "scripts"
DONE = {"type": "builder.completed", "payload": {"tests": {"status": "pass"}}}


def on_implement(*responses: dict) -> dict:
    return {"responses": {"implement": list(responses)}}


@pytest.mark.parametrize(
    ("action", "event", "status"),
    [
        ("implement", "builder.completed", "success"),
        ("implement_changes", "builder.completed", "success"),
        ("review", "review.completed", "approved"),
        ("update_spec", "spec.updated", "success"),
        ("intake", "orchestration.proposed_tasks", None),
        ("task_discovery", "orchestration.proposed_tasks", None),
    ],
)
def test_without_a_script_everything_is_well(tmp_path: Path, action: str, event: str, status: str | None):
    """The default answers are those of lorch 1.5, and messages of the protocol."""
    with mockagent(tmp_path, ROLE_OF[action]) as agent:
        answer = agent.ask(command(action))

        assert (answer["event"], answer.get("status")) == (event, status)
        assert answer["correlation_id"] == "c-one"
        assert answer["observed_version"] == {"snapshot_id": "snap-0123456789ab"}
        assert agent.finish() == 0
    for line in agent.lines:
        parse_message(line)


@pytest.mark.skipif(not LORCH_15.is_dir(), reason="the scripts of lorch 1.5 are not here")
@pytest.mark.parametrize("path", sorted(LORCH_15.glob("*.json")), ids=lambda path: path.stem)
def test_scripts_of_lorch_15_play_unchanged(tmp_path: Path, path: Path):
    """Each event goes out in order, with type, status, payload and artifacts as they are written."""
    for action, response in json.loads(path.read_bytes())["responses"].items():
        with mockagent(tmp_path, ROLE_OF[action], path) as agent:
            agent.send(command(action, action))
            played = [agent.event() for _ in response["events"]]
            assert agent.finish() == 0
        seen = [{"type": e["event"]} | {k: e[k] for k in ("status", "payload", "artifacts") if k in e} for e in played]
        assert seen == response["events"]
        assert len({e["message_id"] for e in played}) == len(played)


@pytest.mark.parametrize("dash", ["-", "--"])
def test_flags_of_lorch_15_are_understood(tmp_path: Path, dash: str):
    """One dash or two, durations as Go writes them."""
    flags = [f"{dash}heartbeat-interval", "1m30s", f"{dash}review-changes-count", "1", f"{dash}id", "me"]
    with mockagent(tmp_path, "reviewer", None, *flags) as agent:
        first, second = agent.ask(command("review")), agent.ask(command("review", "two"))

        assert (first["status"], second["status"]) == ("changes_requested", "approved")
        assert first["from"] == {"agent_type": "reviewer", "agent_id": "me"}


def test_changes_are_counted_for_each_task(tmp_path: Path):
    """Every task gets its round of spec changes."""
    with mockagent(tmp_path, "spec_maintainer", None, "--spec-changes-count", "1", "--no-heartbeat") as agent:
        events = [
            agent.ask(command("update_spec", key, task_id=task))["event"]
            for key, task in (("a", "T-1"), ("b", "T-1"), ("c", "T-2"), ("d", "T-2"))
        ]

    assert events == ["spec.changes_requested", "spec.updated"] * 2


def test_a_list_goes_on_over_a_restart_and_repeats_get_their_own_answer(tmp_path: Path):
    """The turn comes from the journal: a new process goes on where the old one was."""
    script = on_implement(*({"events": [DONE | {"status": word}]} for word in ("first", "second", "third")))
    statuses = []
    for keys in (["one"], ["two", "one"], ["three", "four", "two"]):
        with mockagent(tmp_path, "builder", script) as agent:
            statuses += [agent.ask(command(key=key))["status"] for key in keys]

    assert statuses == ["first", "second", "first", "third", "third", "second"]
    assert executions(tmp_path) == ["one", "two", "three", "four"]


def test_written_files_are_real_and_their_claims_true(tmp_path: Path):
    """Claims come along with the event that ends the command, beside those of the script."""
    other = {"path": "docs/x", "sha256": "sha256:" + "0" * 64, "size": 1}
    script = on_implement(
        {"events": [{"type": "write", "path": "src/deep/é.py", "content": "é\n"}, DONE | {"artifacts": [other]}]}
    )
    with mockagent(tmp_path, "builder", script) as agent:
        answer = agent.ask(command())

    content = (tmp_path / "src" / "deep" / "é.py").read_bytes()
    assert content == "é\n".encode()
    true = {"path": "src/deep/é.py", "sha256": "sha256:" + hashlib.sha256(content).hexdigest(), "size": 3}
    assert answer["artifacts"] == [other, true]


def test_a_write_that_leaves_the_workspace_is_an_error(tmp_path: Path):
    """The agent says so and lives on; nothing is written."""
    script = on_implement({"events": [{"type": "write", "path": "../escaped", "content": ""}, DONE]})
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with mockagent(workspace, "builder", script) as agent:
        answer = agent.ask(command())

        assert answer["event"] == "error"
        assert "plain relative path" in answer["payload"]["message"]
        assert agent.finish() == 0
    assert not (tmp_path / "escaped").exists()


def test_what_a_command_has_to_leave_behind_is_left_behind(tmp_path: Path):
    """The default answer writes required outputs that are absent, and no other file."""
    (tmp_path / "kept").write_text("mine")
    outputs = [{"path": "reviews/T-1.json", "required": True}, {"path": "kept", "required": True}]
    with mockagent(tmp_path, "reviewer") as agent:
        answer = agent.ask(command("review", expected_outputs=[*outputs, {"path": "optional", "required": False}]))

    assert [claim["path"] for claim in answer["artifacts"]] == ["reviews/T-1.json"]
    assert json.loads((tmp_path / "reviews" / "T-1.json").read_bytes())
    assert (tmp_path / "kept").read_text() == "mine"
    assert not (tmp_path / "optional").exists()


def test_a_changed_file_makes_a_repeat_work_again(tmp_path: Path):
    """The earlier outcome counts only while the files it claims are as claimed."""
    script = on_implement({"events": [{"type": "write", "path": "src/a", "content": "a"}, DONE]})
    with mockagent(tmp_path, "builder", script) as agent:
        agent.ask(command())
        (tmp_path / "src" / "a").write_text("b")
        agent.ask(command())
        agent.ask(command())

    assert executions(tmp_path) == ["one", "one"]
    assert (tmp_path / "src" / "a").read_text() == "a"


@pytest.mark.parametrize("name", ["exit", "kill"])
def test_a_death_on_demand_happens_once_and_leaves_nothing_half_written(tmp_path: Path, name: str):
    """The first execution dies, the second one, in the next process, answers."""
    path = SCRIPTS / f"fail-{name}.json"
    with mockagent(tmp_path, "builder", path) as agent:
        agent.send(command())

        assert agent.wait() == {"exit": 3, "kill": -signal.SIGKILL}[name]
    with mockagent(tmp_path, "builder", path) as agent:
        assert agent.ask(command())["event"] == "builder.completed"
    assert executions(tmp_path) == ["one", "one"]
    assert [p.name for p in (tmp_path / "src").iterdir()] == ["worked.py"]


def test_an_answer_is_remembered_before_it_is_sent(tmp_path: Path):
    """Killed in the moment of the answer, the agent does not do the work a second time."""
    path = SCRIPTS / "fail-kill-after-answer.json"
    with mockagent(tmp_path, "builder", path) as agent:
        assert agent.ask(command())["event"] == "builder.completed"
        assert agent.wait() == -signal.SIGKILL
    with mockagent(tmp_path, "builder", path) as agent:
        assert agent.ask(command())["event"] == "builder.completed"
    assert executions(tmp_path) == ["one"]


@pytest.mark.parametrize(("name", "ends"), [("hang", True), ("hang-stubborn", False)])
def test_a_hanging_agent_beats_on_and_ends_on_sigterm_unless_it_is_stubborn(tmp_path: Path, name: str, ends: bool):
    """It neither answers nor heeds the end of stdin."""
    with mockagent(tmp_path, "builder", SCRIPTS / f"fail-{name}.json", "--heartbeat-interval-s", "0.02") as agent:
        agent.send(command())
        agent.message("heartbeat", status="busy", task_id="T-1")
        agent.process.stdin.close()
        if not ends:
            agent.until_ignored(signal.SIGTERM)
        agent.process.send_signal(signal.SIGTERM)

        if ends:
            assert agent.wait() == 0
        else:
            beat = agent.message("heartbeat")
            while agent.message("heartbeat")["seq"] < beat["seq"] + 25:
                pass
            assert agent.process.poll() is None


def test_heartbeats_cease_on_demand(tmp_path: Path):
    """The agent works on without a sign of life."""
    script = on_implement({"events": [{"type": "stop_heartbeat"}, DONE]})
    with mockagent(tmp_path, "builder", script, "--heartbeat-interval-s", "0.01") as agent:
        agent.message("heartbeat")
        agent.ask(command())
        assert agent.finish() == 0

        assert [m["kind"] for m in agent.rest()] == []


def test_garbage_comes_before_the_answer(tmp_path: Path):
    """Twenty lines that are no messages, then the answer."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-garbage.json") as agent:
        agent.ask(command())

    bad = [line for line in agent.lines if not line.startswith(b"{")]
    assert len(bad) == 20
    with pytest.raises(InvalidLine):
        parse_message(bad[0])


def test_an_oversize_line_is_one_byte_too_long(tmp_path: Path):
    """And the answer follows on its own line."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-oversize.json") as agent:
        agent.ask(command())

    assert len(agent.lines[0]) == MESSAGE_MAX_BYTES + 2
    assert len(agent.lines) == 2


def test_a_line_without_end_swallows_the_answer(tmp_path: Path):
    """Eight MiB, and no newline before the next message."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-oversize-endless.json") as agent:
        agent.send(command())

        line = agent.line()
        assert len(line) > 8 << 20
        assert line.count(b"builder.completed") == 1


def test_a_closed_stdout_is_closed_and_the_agent_lives(tmp_path: Path):
    """The other end sees the end of the stream; the process still waits for commands."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-close-stdout.json") as agent:
        agent.send(command())

        assert agent.line() is None
        assert agent.process.poll() is None
        assert agent.finish() == 0


@pytest.mark.parametrize("name", ["flood", "flood-stderr"])
def test_a_flood_comes_whole_and_the_answer_after_it(tmp_path: Path, name: str):
    """20,000 things are said."""
    with mockagent(tmp_path, "builder", SCRIPTS / f"fail-{name}.json") as agent:
        agent.ask(command())
        assert agent.finish() == 0

    said = agent.errors.count(b"flood") if name == "flood-stderr" else len(agent.lines) - 1
    assert said == 20_000


def test_an_agent_that_reads_no_stdin_leaves_the_pipe_full(tmp_path: Path):
    """A command longer than the pipe can hold does not get through; the next process reads it."""
    path = SCRIPTS / "fail-slow-stdin.json"
    with mockagent(tmp_path, "builder", path, "--heartbeat-interval-s", "0.02") as agent:
        agent.message("heartbeat", status="ready")
        fd = agent.process.stdin.fileno()
        os.set_blocking(fd, False)
        written = os.write(fd, b"x" * 1_000_000)
        agent.message("heartbeat")
        agent.message("heartbeat")

        with pytest.raises(BlockingIOError):
            os.write(fd, b"x" * 1_000_000)
        assert written <= 65_536
    with mockagent(tmp_path, "builder", path) as agent:
        assert agent.ask(command())["event"] == "builder.completed"


def test_failing_starts_are_counted(tmp_path: Path):
    """Two processes end at once, the third one works."""
    path = SCRIPTS / "fail-at-start.json"
    for _ in range(2):
        with mockagent(tmp_path, "builder", path) as agent:
            assert agent.wait() == 7
    with mockagent(tmp_path, "builder", path) as agent:
        assert agent.ask(command())["event"] == "builder.completed"


def test_duplicates_carry_the_same_id_or_a_fresh_one(tmp_path: Path):
    """The answer comes three times."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-duplicate.json") as agent:
        agent.send(command())
        ids = [agent.event("builder.completed")["message_id"] for _ in range(3)]

    assert ids[0] == ids[1] != ids[2]


def test_wrong_answers_differ_in_one_field_and_are_no_outcome(tmp_path: Path):
    """Another correlation, another task, another role; then the right one, which alone is remembered."""
    with mockagent(tmp_path, "builder", SCRIPTS / "fail-wrong-correlation.json") as agent:
        agent.send(command())
        events = [agent.event("builder.completed") for _ in range(4)]

    heads = [(e["correlation_id"], e["task_id"], e["from"]["agent_type"]) for e in events]
    right = ("c-one", "T-1", "builder")
    assert [sum(a != b for a, b in zip(head, right, strict=True)) for head in heads] == [1, 1, 1, 0]
    assert len({*heads}) == 4
    assert [entry["entry"] for entry in journal(tmp_path)] == ["started", "finished"]


@pytest.mark.parametrize("name", ["corrupt-artifact", "missing-artifact"])
def test_a_corrupt_artifact_is_other_than_claimed_once(tmp_path: Path, name: str):
    """The first claim is false, the second execution's true: the false one is not answered from the journal."""
    with mockagent(tmp_path, "builder", SCRIPTS / f"fail-{name}.json") as agent:
        first = agent.ask(command())["artifacts"][0]
        path = tmp_path / first["path"]
        assert not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() not in first["sha256"]

        second = agent.ask(command())["artifacts"][0]
        assert "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == second["sha256"]
    assert executions(tmp_path) == ["one", "one"]


@pytest.mark.parametrize("name", ["error-retryable", "error-rate-limited"])
def test_an_error_on_demand_happens_once(tmp_path: Path, name: str):
    """The same key sent again is done again, and well."""
    with mockagent(tmp_path, "builder", SCRIPTS / f"{name}.json") as agent:
        first, second = agent.ask(command()), agent.ask(command())

    assert (first["event"], first["payload"]["retryable"]) == ("error", True)
    assert second["event"] == "builder.completed"


def test_an_outcome_that_breaks_the_protocol_is_sent_but_not_remembered(tmp_path: Path):
    """An unknown review status goes out as scripted; the same key sent again is done again."""
    with mockagent(tmp_path, "reviewer", SCRIPTS / "invalid-review-status.json") as agent:
        statuses = [agent.ask(command("review"))["status"] for _ in range(2)]

    assert statuses == ["looks_good_to_me", "approved"]


def test_rounds_play_in_order(tmp_path: Path):
    """Two review rounds and one spec round, as the script says."""
    path = SCRIPTS / "review-and-spec-rounds.json"
    with mockagent(tmp_path, "reviewer", path) as agent:
        reviews = [agent.ask(command("review", key))["status"] for key in ("a", "b", "c", "d")]
    with mockagent(tmp_path, "spec_maintainer", path) as agent:
        specs = [agent.ask(command("update_spec", key))["event"] for key in ("a", "b")]

    assert reviews == ["changes_requested", "changes_requested", "approved", "approved"]
    assert specs == ["spec.changes_requested", "spec.updated"]


def test_responses_that_match_are_counted_by_themselves(tmp_path: Path):
    """Commands of other tasks do not use up the turns of this one."""
    script = on_implement(
        *({"match": {"task": "T-2"}, "events": [DONE | {"status": word}]} for word in ("t2 first", "t2 second")),
        *({"events": [DONE | {"status": word}]} for word in ("first", "second")),
    )
    with mockagent(tmp_path, "builder", script) as agent:
        statuses = [
            agent.ask(command(key=f"k{n}", task_id=task))["status"] for n, task in enumerate(["T-1", "T-2"] * 2)
        ]

    assert statuses == ["first", "t2 first", "second", "t2 second"]


def test_silence_is_an_answer_too(tmp_path: Path):
    """A response without events says nothing, and the next command is taken."""
    with mockagent(tmp_path, "builder", SCRIPTS / "silent.json") as agent:
        agent.send(command(), command("implement_changes", "two"))

        assert agent.event()["correlation_id"] == "c-two"


def test_a_bad_script_ends_with_2_and_names_file_and_place(tmp_path: Path):
    """Nothing is written to stdout."""
    with mockagent(tmp_path, "builder", {"responses": {"implement": {"event": []}}}) as agent:
        assert agent.wait() == 2
        assert agent.line() is None
    assert "script.json" in agent.errors.decode()
    assert "$.responses.implement.event: unknown" in agent.errors.decode()


def test_an_unknown_role_ends_with_2(tmp_path: Path):
    """The roles there are, are named."""
    with mockagent(tmp_path, "tester") as agent:
        assert agent.wait() == 2
    assert "builder, reviewer, spec_maintainer, orchestration" in agent.errors.decode()
