"""The limits of the wire protocol, drawn tight: what is late, silent or too much, each in a whole run.

One run holds all of it, a task for each; its limits are short, so that it is a run of seconds.
"""

import resource
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, Ended

ROUND = [("implement", 0), ("review", 0), ("update_spec", 0)]
ONCE_MORE = [("implement", 0), ("implement", 1), ("review", 0), ("update_spec", 0)]
TASKS: list[dict[str, Any]] = [
    *({"id": f"T-{name}", "fault": name} for name in ("silent", "late", "noisy", "some_events", "large_artifact")),
    *({"id": f"T-{name}", "fault": name} for name in ("never_reads", "killed")),
    {"id": "T-stops_heartbeats", "fault": "stops_heartbeats", "role": "reviewer"},
    {"id": "T-long_wait", "fault": "long_wait"},  # the last: whoever came after it would have to wait as well
]
POLICY = {
    "max_bad_lines": 20,
    "max_events_per_command": 50,
    "artifact_max_bytes": 1000,
    "max_wait_s": 1,
    "stdin_timeout_s": 0.7,
}
AGENTS = {
    "builder": {"timeouts_s": {"implement": 1.5}},
    "reviewer": {"heartbeat_interval_s": 0.7},
}


class Tight:
    """A run that is over. cpu_s: the processor time that everything in it took together."""

    def __init__(self, bench: Bench, ended: Ended, cpu_s: float) -> None:
        self.bench = bench
        self.ended = ended
        self.cpu_s = cpu_s


def payload_of(line: dict[str, Any]) -> dict[str, Any]:
    """Return what an event tells."""
    payload: dict[str, Any] = line["payload"]
    return payload


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Tight:
    """One run with a task for each limit."""
    bench = Bench.raw(tmp_path_factory.mktemp("tight") / "w", TASKS, agents=AGENTS, policy=POLICY)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = bench.run("run", "--all", "--on-failure", "continue")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Tight(bench, ended, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_every_task_is_finished_or_explained(tight: Tight) -> None:
    """Only what cannot be mended fails."""
    assert tight.ended.code == 1, tight.ended
    failed = [task["id"] for task in TASKS if tight.bench.told_of(task["id"]).failure]

    assert failed == ["T-large_artifact", "T-long_wait"]


def test_waiting_for_agents_takes_no_processor_time(tight: Tight) -> None:
    """While agents are silent, dead or late for seven seconds, nothing spins."""
    assert tight.cpu_s < 5


def test_silent_agent(tight: Tight) -> None:
    """When the deadline has passed it is given up, and the command sent again with a fresh deadline."""
    told = tight.bench.told_of("T-silent")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["deadline_passed"]
    (note,) = told.events("system.command_timed_out")
    assert "within 1.5 s; agents.builder.timeouts_s.implement sets it" in note["message"]
    first, second = told.commands[:2]
    assert first["idempotency_key"] == second["idempotency_key"]
    assert first["deadline"] < second["deadline"]
    (timed_out,) = [line for line in told.lines if line.get("event") == "system.command_timed_out"]
    overdue = datetime.fromisoformat(timed_out["occurred_at"]) - datetime.fromisoformat(first["deadline"])
    assert overdue.total_seconds() < 10


def test_answer_after_the_deadline(tight: Tight) -> None:
    """It is recorded, but the next attempt is what counts."""
    told = tight.bench.told_of("T-late")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["deadline_passed"]
    statuses = [payload["tests"]["status"] for payload in told.events("builder.completed")]
    assert statuses == ["fail", "pass"]
    assert "too-late" not in tight.bench.receipts("T-late")[0]["events"]


def test_missing_heartbeats(tight: Tight) -> None:
    """After three intervals of silence an agent counts as hung, which costs an attempt."""
    told = tight.bench.told_of("T-stops_heartbeats")

    assert told.attempts == [("implement", 0), ("review", 0), ("review", 1), ("update_spec", 0)]
    assert told.losses == ["agent_hung"]
    (hung,) = [
        note for note in map(payload_of, tight.bench.events("system.agent_hung")) if note["code"] == "agent_hung"
    ]
    assert (hung["agent_type"], "no heartbeat for 2." in hung["message"]) == ("reviewer", True)


def test_bad_lines_past_the_limit(tight: Tight) -> None:
    """The agent is restarted."""
    told = tight.bench.told_of("T-noisy")

    assert told.attempts == ONCE_MORE
    assert told.losses == ["agent_noisy"]
    assert len([note for note in tight.bench.logged("builder") if note.get("line") == "no message"]) == 30


def test_events_past_the_limit(tight: Tight) -> None:
    """They go to the log, and the answer after them counts."""
    told = tight.bench.told_of("T-some_events")
    logged = [note for note in tight.bench.logged("builder") if note.get("reason") == "policy.max_events_per_command"]

    assert told.attempts == ROUND
    assert [payload["number"] for payload in told.events("builder.progress")] == list(range(50))
    assert len(logged) == 50


def test_artifact_past_the_limit(tight: Tight) -> None:
    """It is rejected at every attempt, and the task fails with both sizes and the setting."""
    told = tight.bench.told_of("T-large_artifact")

    assert told.attempts == [("implement", 0), ("implement", 1), ("implement", 2)]
    assert told.failure is not None
    assert told.failure["code"] == "artifact_too_large"
    assert "2000 bytes are more than policy.artifact_max_bytes allows (1000)" in told.failure["message"]


def test_wait_past_the_limit(tight: Tight) -> None:
    """Whoever wants to be left alone for longer than the policy allows fails the task."""
    told = tight.bench.told_of("T-long_wait")

    assert told.attempts == [("implement", 0)]
    assert told.failure is not None
    assert told.failure["code"] == "wait_exhausted"
    assert "policy.max_wait_s (1 s)" in told.failure["message"]


def test_agent_never_reads_its_input(tight: Tight) -> None:
    """A command that does not go through the pipe in time costs an attempt."""
    told = tight.bench.told_of("T-never_reads")

    assert told.attempts == [
        ("implement", 0),
        ("implement_changes", 0),
        ("implement_changes", 1),
        ("review", 0),
        ("update_spec", 0),
    ]
    assert told.losses == ["agent_stdin_stalled"]


def test_killed_agent_leaves_a_ledger_of_a_few_lines(tight: Tight) -> None:
    """Its death is one entry, not an endless row of them."""
    assert len(tight.bench.told_of("T-killed").lines) < 20


def test_warned_of_only_under_warn(tmp_path: Path) -> None:
    """Under `verify_artifacts: warn` a false claim is told and taken; one outside of the workspace never is."""
    claims = {
        "false": {"path": "specs/goal.md", "sha256": "sha256:" + "0" * 64, "size": 7},
        "missing": {"path": "src/missing.txt"},
        "no_checksum": {"path": "specs/goal.md", "sha256": "md5:1", "size": 7},
        "outside": {"path": "../outside.txt"},
    }
    tasks = [{"id": f"T-{name}", "fault": "artifact", "claim": claim} for name, claim in claims.items()]
    bench = Bench.raw(tmp_path / "w", tasks, policy={"verify_artifacts": "warn", "retry": {"max_attempts": 1}})
    ended = bench.run("run", "--all", "--on-failure", "continue")

    assert ended.code == 1, ended
    failures = {name: bench.told_of(f"T-{name}").failure for name in claims}
    assert [name for name, failure in failures.items() if failure] == ["outside"]
    told = [payload for name in claims for payload in bench.told_of(f"T-{name}").events("system.artifacts_verified")]
    warned = [warning["path"] for payload in told for warning in payload["warnings"]]
    assert warned == ["specs/goal.md", "src/missing.txt", "specs/goal.md"]


def test_repeated_key_is_answered_with_the_same_outcome(tmp_path: Path) -> None:
    """An answer that was lost is given again by the next process, without the work being done twice."""
    work = {"type": "write", "path": "src/work.txt", "content": "done\n"}
    answer = {"type": "builder.completed", "payload": {"tests": {"status": "pass", "summary": "the first"}}}
    script = {"responses": {"implement": {"events": [work, {"type": "close_stdout", "times": 1}, answer]}}}
    bench = Bench(tmp_path / "w", {"builder": script})
    ended = bench.run()

    assert ended.code == 0, ended
    told = bench.told_of("T-1")
    assert told.attempts == ONCE_MORE
    assert bench.executions()[told.commands[0]["idempotency_key"]] == 1
    assert told.events("builder.completed") == [answer["payload"]]
