"""What agents get wrong, each fault in a whole run: the run notices, says so, and goes on.

One night holds nearly all of it, a task for each fault, played by an agent that shares nothing with the package. So
every fault is also the one that came before the next one.
"""

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, Bench, Ended, Told, gone_within

MIB_KIB = 1024
ROUND = [("implement", 0), ("review", 0), ("update_spec", 0)]
ONCE_MORE = [("implement", 0), ("implement", 1), ("review", 0), ("update_spec", 0)]
ENDING = ("builder.completed", "review.completed", "spec.updated")
SECRET = "tok3n-xy"
ENVIRONMENT = {"API_TOKEN": SECRET, "INHERITED": "from outside"}
ZEROS = "sha256:" + "0" * 64

FAULTS = [
    "killed",
    "answer_and_exit",
    "answer_without_newline_and_exit",
    "closes_stdout",
    "oversize",
    "oversize_answer",
    "endless_line",
    "exact_limit",
    "stderr_line",
    "many_events",
    "many_logs",
    "error_final",
    "error_retryable",
    "error_retriable",
    "always_retryable",
    "retry_after",
    "resets_at",
    "wrong_task",
    "wrong_correlation",
    "wrong_role",
    "wrong_event",
    "poses_as_system",
    "sends_a_command",
    "same_id",
    "doubled",
    "answers_late",
    "goes_on",
    "unknown_field",
    "not_a_number",
    "grows_when_written",
    "grows_when_redacted",
    "bad_lines",
    "missing_tests",
    "other_version",
    "false_once",
    "takes_over_the_terminal",
    "leaves_the_next_unread",
    "tells_where",
    "true_but_outside",
]
LOUD = [f"loud_{number}" for number in range(5)]
OF_REVIEWERS = ["unknown_status", "no_status", "asks_twice", "large_integers", "long_request"]
CLAIMS = {
    "upwards": {"path": "../outside.txt"},
    "absolute": {"path": "/etc/passwd"},
    "through_a_link": {"path": "src/out/outside.txt"},
    "missing": {"path": "src/missing.txt"},
    "directory": {"path": "src"},
    "fifo": {"path": "src/fifo"},
    "false_size": {"path": "specs/goal.md", "size": 9},
    "false_checksum": {"path": "specs/goal.md", "size": 7},
}


class Night:
    """A run that is over, and what it left."""

    def __init__(self, bench: Bench, ended: Ended) -> None:
        self.bench = bench
        self.ended = ended
        self.lines = bench.ledger()
        self.logged = bench.logged("builder")

    def told_of(self, fault: str) -> Told:
        """Return what the ledger says of the task with that fault."""
        return Told([line for line in self.lines if line.get("task_id") == f"T-{fault}"])

    def logs(self, reason: str) -> list[dict[str, Any]]:
        """Return the log messages of the ledger whose reason contains those words."""
        return [
            line for line in self.lines if line["kind"] == "log" and reason in line.get("fields", {}).get("reason", "")
        ]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """One run of a task for each fault, started from outside of the workspace."""
    top = tmp_path_factory.mktemp("night")
    (top / "outside.txt").write_text("outside")
    tasks: list[dict[str, Any]] = [{"id": f"T-{name}", "fault": name} for name in FAULTS]
    tasks += [{"id": f"T-{name}", "fault": name, "role": "reviewer"} for name in OF_REVIEWERS]
    tasks += [{"id": f"T-{name}", "fault": "artifact", "claim": claim} for name, claim in CLAIMS.items()]
    expected = [{"path": "src/sub/expected.txt"}, {"path": "src/never.txt", "required": False}]
    tasks += [{"id": "T-expected_output", "fault": "expected_output", "expected_outputs": expected}]
    tasks += [{"id": f"T-{name}", "fault": "loud_and_gone"} for name in LOUD]
    tasks += [{"id": "T-memory", "fault": "memory"}]
    for task in tasks:
        task["path"] = str(top / "outside.txt")
    agents = {"builder": {"env": {"GIVEN": "by the configuration"}}}
    bench = Bench.raw(top / "w", tasks, agents=agents, policy={"verify_artifacts": "strict"})
    (bench.root / "src" / "out").symlink_to(top)
    os.mkfifo(bench.root / "src" / "fifo")
    running = bench.start(
        "run", "--all", "--on-failure", "continue", "--workspace", str(bench.root), cwd=top, env=ENVIRONMENT
    )
    return Night(bench, running.wait())


# -- the night as a whole ---------------------------------------------------------------------------------------------


def test_every_task_of_the_night_is_finished_or_explained(night: Night) -> None:
    """Whatever the tasks before it did, and each failure with code, agent and words."""
    assert night.ended.code == 1, night.ended
    finished = [line for line in night.lines if line.get("event") == "system.task_finished"]
    failures = {line["task_id"]: line["payload"].get("failure") for line in finished}

    assert len(failures) == len(FAULTS) + len(OF_REVIEWERS) + len(CLAIMS) + len(LOUD) + 2
    failed = {name for name, failure in failures.items() if failure}
    expected = {"error_final", "always_retryable", "unknown_status", "true_but_outside", *CLAIMS}
    assert failed == {f"T-{name}" for name in expected}
    assert all(failures[name]["message"] and failures[name]["agent"] for name in failed)


def test_the_ledger_of_the_night_is_whole(night: Night) -> None:
    """No `null` line, none lost: `verify` reads it all again, also the line of exactly the limit."""
    verified = night.bench.run("verify")

    assert verified.code == 0, verified
    assert list(range(1, len(night.lines) + 1)) == [line["ledger"]["seq"] for line in night.lines]


def test_nobody_of_the_night_is_left_alive(night: Night) -> None:
    """Neither agents nor what they started in sessions of their own."""
    assert gone_within(night.bench, 1.0) == []


# -- FAULTS: agents ---------------------------------------------------------------------------------------------------


def test_agent_killed_while_it_works(night: Night) -> None:
    """Its death is recorded once, the command sent again under the same key with one attempt used up."""
    told = night.told_of("killed")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["agent_crashed"]
    first, second = told.commands[:2]
    for name in ("idempotency_key", "correlation_id", "inputs", "version"):
        assert first[name] == second[name]
    assert first["message_id"] != second["message_id"]
    assert first["to"]["agent_id"] != second["to"]["agent_id"]
    exits = [line["payload"] for line in night.lines if line.get("event") == "system.agent_exited"]
    killed = [note for note in exits if note["agent_id"] == first["to"]["agent_id"]]
    assert [note.get("signal") for note in killed] == [signal.SIGKILL]


@pytest.mark.parametrize("fault", ["answer_and_exit", "answer_without_newline_and_exit"])
def test_terminal_event_and_exit_come_together(night: Night, fault: str) -> None:
    """The last line counts, and the exit costs no attempt."""
    told = night.told_of(fault)

    assert told.attempts == ROUND
    assert told.losses == []


@pytest.mark.long
def test_no_answer_of_forty_is_lost_when_the_agent_exits_with_it(tmp_path: Path) -> None:
    """All three agents end with every answer, fourteen tasks long."""
    tasks = [
        {"id": f"T-{number}", "fault": "answer_and_exit", "role": role}
        for number, role in enumerate(ROLES * 14, start=1)
    ]
    bench = Bench.raw(tmp_path / "w", tasks)
    ended = bench.run()

    assert ended.code == 0, ended
    assert {command["retry"]["attempt"] for command in bench.commands()} == {0}
    assert bench.events("system.retry_scheduled") == []
    answers = [line["correlation_id"] for line in bench.ledger() if line.get("event") in ENDING]
    assert len(answers) == len(set(answers)) == 3 * len(tasks)


@pytest.mark.parametrize("name", LOUD)
def test_last_words_of_an_agent_that_is_gone(night: Night, name: str) -> None:
    """What waited in the pipe when it exited is read to its end, the answer in the last line included."""
    told = night.told_of(name)

    assert (told.attempts, told.losses) == (ROUND, [])
    assert [payload["number"] for payload in told.events("builder.progress")] == list(range(2000))


def test_command_that_a_dying_agent_never_read(night: Night) -> None:
    """It costs no attempt: the next process gets it as if it were the first."""
    assert night.told_of("leaves_the_next_unread").attempts == ROUND
    told = night.told_of("tells_where")

    assert [(command["action"], command["retry"]["attempt"]) for command in told.commands] == [("implement", 0), *ROUND]
    assert told.losses == []


@pytest.mark.parametrize("fault", ["oversize", "oversize_answer"])
def test_stdout_line_over_the_limit(night: Night, fault: str) -> None:
    """Only that line is dropped, its size and its first KiB are in the log."""
    assert night.told_of(fault).attempts == ROUND
    sizes = [note["oversize_bytes"] for note in night.logged if "oversize_bytes" in note]
    heads = [note["head"] for note in night.logged if note.get("oversize_bytes") == 262_145]
    assert sizes.count(262_145) == 2
    assert [len(head) for head in heads] == [1024, 1024]


def test_stdout_line_over_the_limit_whose_newline_never_comes(night: Night) -> None:
    """96 MiB are counted, not kept."""
    assert night.told_of("endless_line").attempts == ONCE_MORE
    long = [note for note in night.logged if note.get("head", "").startswith("e")]
    assert [note["oversize_bytes"] for note in long] == [96 << 20]


def test_stdout_line_of_exactly_the_limit(night: Night) -> None:
    """It is taken, written, and read again."""
    told = night.told_of("exact_limit")

    assert told.attempts == ROUND
    (line,) = [line for line in told.lines if line.get("message_id") == "exactly-this-long"]
    sent = {name: value for name, value in line.items() if name != "ledger"}
    assert len(json.dumps(sent, separators=(",", ":"))) == 262_144


def test_stderr_line_over_a_mebibyte(night: Night) -> None:
    """It is cut in the log, and what comes after it, five MiB, is drained all the same."""
    assert night.told_of("stderr_line").attempts == ROUND
    stderr = [note for note in night.logged if note.get("stream") == "stderr"]
    assert [note["oversize_bytes"] for note in stderr if "oversize_bytes" in note] == [2 << 20]
    assert [note["line"] for note in stderr if "line" in note][:1] == ["after it"]
    assert sum(note.get("line", "").startswith("a short remark") for note in stderr) == 100_000


def test_twenty_thousand_events_at_once(night: Night) -> None:
    """Each is in the ledger, in order, and so is the answer, although the agent was gone long before it was read."""
    told = night.told_of("many_events")

    assert told.attempts == ROUND
    assert told.losses == []
    assert [payload["number"] for payload in told.events("builder.progress")] == list(range(20_000))


def test_twenty_thousand_events_do_not_wait_for_the_sync_of_idle_times(night: Night) -> None:
    """What nobody waits for is synced once a second, but not while its agent is held back."""
    told = night.told_of("many_events")
    started = [line["occurred_at"] for line in told.lines if line.get("event") == "system.task_started"]
    finished = [line["occurred_at"] for line in told.lines if line.get("event") == "system.task_finished"]

    assert seconds_between(started[0], finished[0]) < 15


def test_more_than_fifty_log_messages(night: Night) -> None:
    """None blocks anything, all are in the ledger."""
    assert night.told_of("many_logs").attempts == ROUND
    assert [f"remark {n}" for n in range(200)] == [
        line["message"] for line in night.lines if line["kind"] == "log" and line["message"].startswith("remark")
    ]


def test_memory_of_the_orchestrator_stays_bounded(night: Night) -> None:
    """After all that was too long and too much, as its own child read it in /proc."""
    (answer,) = night.told_of("memory").events("builder.completed")

    assert len(answer["peaks_kib"]) == 6  # guardian, orchestrator, fork server, three workers
    assert max(answer["peaks_kib"]) < 90 * MIB_KIB


def test_error_event_ends_the_task(night: Night) -> None:
    """An error that is not retryable fails it in the agent's own words."""
    told = night.told_of("error_final")

    assert told.attempts == [("implement", 0)]
    assert told.failure == {"code": "no_licence", "message": "the compiler has no licence", "agent": "builder"}


@pytest.mark.parametrize("fault", ["error_retryable", "error_retriable"])
def test_error_event_that_may_be_retried(night: Night, fault: str) -> None:
    """In either spelling it costs one attempt."""
    told = night.told_of(fault)

    assert told.attempts == ONCE_MORE
    assert told.losses == ["agent_error"]


def test_error_event_that_never_stops(night: Night) -> None:
    """When the attempts are used up, the task fails with the agent's last words."""
    told = night.told_of("always_retryable")

    assert told.attempts == [("implement", 0), ("implement", 1), ("implement", 2)]
    assert told.failure is not None
    assert (told.failure["code"], "busy as ever" in told.failure["message"]) == ("busy", True)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong_task", "another command"),
        ("wrong_correlation", "another command"),
        ("wrong_role", "calls itself reviewer"),
        ("wrong_event", "review.completed is not for a builder"),
        ("poses_as_system", "calls itself system"),
    ],
)
def test_wrong_task_id_correlation_or_role(night: Night, fault: str, reason: str) -> None:
    """The event becomes a log entry that quotes it, and is not acted on."""
    assert night.told_of(fault).attempts == ROUND
    quoted = [json.loads(note["fields"]["line"]) for note in night.logs(reason)]
    task_id, correlation_id = f"T-{fault}", night.told_of(fault).commands[0]["correlation_id"]
    if fault == "wrong_task":
        task_id = "T-other"
    if fault == "wrong_correlation":
        correlation_id = "corr-other"
    assert (task_id, correlation_id) in [(one["task_id"], one["correlation_id"]) for one in quoted]


def test_agent_poses_as_the_system(night: Night) -> None:
    """No run is finished because an agent says so."""
    finished = [line for line in night.lines if line.get("event") == "system.run_finished"]

    assert [line["from"]["agent_type"] for line in finished] == ["system"]
    assert night.logs("system.run_finished is not for a builder to send") != []


def test_late_terminal_event_is_not_taken_for_the_next_command(night: Night) -> None:
    """Not with the old ids, and not with half of the new ones."""
    told = night.told_of("answers_late")

    assert told.attempts == ROUND
    assert told.events("builder.completed") == [{"tests": {"status": "pass"}}]


def test_late_review_is_not_taken_for_the_next_review(night: Night) -> None:
    """The second round of the same task ends with its own review."""
    told = night.told_of("asks_twice")

    assert [action for action, _ in told.attempts] == [
        "implement",
        "review",
        "implement_changes",
        "review",
        "update_spec",
    ]


def test_doubled_terminal_event(night: Night) -> None:
    """The first counts, the others are recorded, and the next command is answered by its own."""
    told = night.told_of("doubled")

    assert told.attempts == ROUND
    statuses = [payload["tests"]["status"] for payload in told.events("builder.completed")]
    assert statuses == ["pass", "pass", "fail"]
    receipt = night.bench.receipts("T-doubled")[0]
    (answer,) = receipt["events"]
    assert next(line["message_id"] for line in told.lines if line.get("event") == "builder.completed") == answer


def test_unknown_review_status(night: Night) -> None:
    """It is an invalid event, three attempts long, and never a way through the loop."""
    told = night.told_of("unknown_status")

    assert told.attempts == [("implement", 0), ("review", 0), ("review", 1), ("review", 2)]
    assert told.failure is not None
    assert told.failure["code"] == "invalid_event"
    assert "looks_fine_to_me" in told.failure["message"]


def test_missing_review_status(night: Night) -> None:
    """It costs an attempt."""
    assert night.told_of("no_status").losses == ["invalid_event"]


@pytest.mark.parametrize("fault", ["grows_when_written", "grows_when_redacted"])
def test_message_that_grows_past_the_limit(night: Night, fault: str) -> None:
    """It is refused in the ledger as an invalid answer, not left out of it."""
    told = night.told_of(fault)

    assert told.attempts == ONCE_MORE
    (error,) = told.events("error")
    assert (error["code"], error["retryable"]) == ("invalid_event", True)
    assert "262144 are allowed" in error["message"]
    ids = {line["message_id"] for line in told.lines if line["kind"] == "event"}
    assert {event for receipt in night.bench.receipts(f"T-{fault}") for event in receipt["events"]} <= ids


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("upwards", ".."),
        ("absolute", "/etc/passwd"),
        ("through_a_link", "src/out/outside.txt"),
        ("missing", "src/missing.txt"),
        ("directory", "src"),
        ("fifo", "src/fifo"),
        ("false_size", "claimed were 9"),
        ("false_checksum", ZEROS),
    ],
)
def test_artifact_outside_or_other_than_claimed(night: Night, claim: str, words: str) -> None:
    """It is refused at every attempt, and then the task fails with the path and what is wrong with it."""
    told = night.told_of(claim)

    assert [attempt for _, attempt in told.attempts] == [0, 1, 2]
    assert told.failure is not None
    assert told.failure["code"] == "artifact_mismatch"
    assert words in told.failure["message"]
    assert night.bench.receipts(f"T-{claim}") == []


def test_true_artifact_outside(night: Night) -> None:
    """Outside is outside, whether the checksum is right or not."""
    told = night.told_of("true_but_outside")

    assert told.failure is not None
    assert told.failure["code"] == "artifact_mismatch"


def test_false_checksum_that_is_mended(night: Night) -> None:
    """It costs an attempt, and only the true claim is in the receipt."""
    told = night.told_of("false_once")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["artifact_mismatch"]
    (artifact,) = night.bench.receipts("T-false_once")[0]["artifacts"]
    assert artifact["sha256"] != "sha256:" + "1" * 64


def test_integers_above_2_to_the_53(night: Night) -> None:
    """They are in the ledger digit by digit, and in the inputs as strings of their digits."""
    told = night.told_of("large_integers")
    asked = {"above": 2**53 + 1, "below": -(2**63) - 1, "huge": 10**30, "small": 7}

    assert told.events("review.completed")[0] == asked
    (changes,) = [command for command in told.commands if command["action"] == "implement_changes"]
    as_digits = {name: str(number) for name, number in asked.items()}
    assert changes["inputs"]["request"] == as_digits | {"small": 7}


def test_agents_start_in_the_workspace(night: Night) -> None:
    """Whatever directory the run was started from, with the environment that they are promised."""
    (told,) = night.told_of("tells_where").events("builder.completed")

    assert told["cwd"] == str(night.bench.root)
    assert [path for path in told["open"] if path.startswith(str(night.bench.root))] == []  # no lock, no ledger
    assert told["env"] == {
        "LORCH_AGENT_TYPE": "builder",
        "AGENT_TYPE": "builder",
        "LORCH_RUN_ID": night.bench.run_ids[-1],
        "LORCH_WORKSPACE": str(night.bench.root),
        "PWD": str(night.bench.root),
        "GIVEN": "by the configuration",
        "INHERITED": "from outside",
    }


@pytest.mark.parametrize("kind", ["missing", "not_executable", pytest.param("directory", marks=pytest.mark.long)])
def test_agent_command_that_cannot_be_executed(tmp_path: Path, kind: str) -> None:
    """The task fails at once; ledger, state and console name the command and the remedy."""
    command = tmp_path / "w" / "agent"
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}], agents={"reviewer": {"cmd": [str(command)]}})
    if kind == "not_executable":
        command.write_text("#!/bin/sh\n")
    elif kind == "directory":
        command.mkdir()
    ended = bench.run()

    assert ended.code == 1, ended
    assert [command for command in bench.commands() if command["to"]["agent_type"] == "reviewer"] == []
    failure = bench.told_of("T-1").failure
    assert failure is not None
    assert (failure["code"], failure["agent"]) == ("agent_not_startable", "reviewer")
    for told in (failure["message"], ended.out):
        assert str(command) in told
        assert "agents.reviewer.cmd in lorch.json" in told
    assert bench.state()["status"] == "failed"
    assert "Traceback" not in ended.err


def test_agents_that_ignore_the_end_of_input_and_sigterm(tmp_path: Path) -> None:
    """They are ended side by side, in the time that one of them takes."""
    stubborn = {"env": {"IGNORES": "SIGTERM SIGINT SIGHUP", "STAYS": "1"}}
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}], agents=dict.fromkeys(ROLES, stubborn))
    running = bench.start()
    running.until(r"run run-\S+ completed")
    begun = time.monotonic()
    ended = running.wait()

    assert ended.code == 0, ended
    assert time.monotonic() - begun < 9  # twelve seconds at least, one after the other
    assert gone_within(bench, 0.0) == []
    assert {payload.get("signal") for payload in map(exit_of, bench.events("system.agent_exited"))} == {signal.SIGKILL}


def exit_of(line: dict[str, Any]) -> dict[str, Any]:
    """Return how an agent ended."""
    payload: dict[str, Any] = line["payload"]
    return payload


def test_control_characters_do_not_reach_the_terminal(night: Night) -> None:
    """They are spelled out on the console and in the transcript."""
    transcript = (night.bench.root / "transcripts" / f"{night.bench.run_ids[-1]}.txt").read_text()

    for shown in (night.ended.out, night.ended.err, transcript):
        assert [char for char in shown if char != "\n" and not char.isprintable()] == []
    assert transcript.count("\\x1b[2J") >= 4


# -- SPEC 3 and 6.3: what else an agent may get wrong -----------------------------------------------------------------


def test_lines_that_are_no_message(night: Night) -> None:
    """Each is in the log with the reason, and the answer after them counts."""
    assert night.told_of("bad_lines").attempts == ROUND
    kept = [note["line"] for note in night.logged if note.get("stream") == "stdout" and "line" in note]
    for line in ("hello", "", "{}", "null", "[]", '{"kind":"event"}', '{"a":1,"a":2}', "{", "[" * 70 + "]" * 70):
        assert line in kept
    assert any("\\ud800" in line for line in kept)


def test_a_command_from_an_agent(night: Night) -> None:
    """It is a bad line: agents give no commands."""
    assert night.told_of("sends_a_command").attempts == ROUND
    assert "an agent does not send commands" in [note.get("reason") for note in night.logged]


@pytest.mark.parametrize("fault", ["unknown_field", "not_a_number"])
def test_terminal_event_that_breaks_the_schema(night: Night, fault: str) -> None:
    """It is an invalid answer, retryable, and its line is in the log."""
    told = night.told_of(fault)

    assert told.attempts == ONCE_MORE
    assert [(error["code"], error["retryable"]) for error in told.events("error")] == [("invalid_event", True)]
    correlation = told.commands[0]["correlation_id"]
    assert [note for note in night.logged if correlation in note.get("line", "")]


def test_message_id_used_again(night: Night) -> None:
    """Four entries carry it: ids of agents are not used to tell repeats."""
    told = night.told_of("same_id")

    assert told.attempts == ROUND
    assert [line["message_id"] for line in told.lines].count("same") == 4


def test_agent_closes_stdout_and_lives_on(night: Night) -> None:
    """Without a voice it is of no use: it is replaced at once."""
    told = night.told_of("closes_stdout")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["agent_crashed"]


def test_agent_goes_on_after_its_terminal_event(night: Night) -> None:
    """What it says is recorded and moves nothing."""
    told = night.told_of("goes_on")

    assert told.attempts == ROUND
    assert told.events("builder.progress") == [{"stage": "after the answer"}]


def test_missing_tests(night: Night) -> None:
    """`builder.completed` without them costs an attempt."""
    told = night.told_of("missing_tests")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["missing_tests"]


def test_other_version(night: Night) -> None:
    """An answer about another snapshot costs an attempt."""
    told = night.told_of("other_version")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["version_mismatch"]


def test_missing_expected_output(night: Night) -> None:
    """A required one that is not there is an artifact mismatch; one that is not required is not missed."""
    told = night.told_of("expected_output")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["artifact_mismatch"]


@pytest.mark.parametrize("fault", ["retry_after", "resets_at"])
def test_rate_limit_costs_no_attempt(night: Night, fault: str) -> None:
    """The command goes out again when the time has come, as the same attempt."""
    told = night.told_of(fault)

    assert told.attempts == ROUND
    (note,) = told.events("system.retry_scheduled")
    first, second = told.commands[:2]
    assert (first["action"], first["idempotency_key"]) == (second["action"], second["idempotency_key"])
    (error,) = told.events("error")
    assert seconds_between(error.get("resets_at", "2000-01-01T00:00:00Z"), note["not_before"]) >= 0
    assert seconds_between(first["deadline"], second["deadline"]) >= error.get("retry_after_s", 0)


def test_long_request_goes_into_a_file(night: Night) -> None:
    """The command names it by path, checksum and size, and fits into a line."""
    told = night.told_of("long_request")
    (changes,) = [command for command in told.commands if command["action"] == "implement_changes"]
    named = changes["inputs"]["request"]
    content = (night.bench.root / named["path"]).read_bytes()

    assert named["path"].startswith("state/requests/")
    assert json.loads(content) == {"issues": ["ü" * 1000] * 100}
    assert named["size"] == len(content)
    assert len(json.dumps(changes)) < 262_144


def seconds_between(first: str, second: str) -> float:
    """Return the time between two timestamps of ours."""
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
