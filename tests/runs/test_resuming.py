"""Faults of other orchestrators on the way back from a crash: each test is named after one that must not happen."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, Bench, Running, gone_within
from cutting import PASSED, digests, git, make_repository, steps, write

ONE = ["implement", "review", "update_spec"]
HANGS_ONCE = {"type": "hang", "times": 1}
GIVES_UP = {"error": {"code": "cannot", "message": "I cannot", "retryable": False}}


def responding(**responses: Any) -> dict[str, Any]:
    """Return a script with these responses."""
    return {"responses": responses}


def hanging(action: str, *, task: str = "T-1", last: dict[str, Any] = PASSED) -> dict[str, Any]:
    """Return a script whose first step of a kind stands still, and does what it should when it is asked once more."""
    answers = {"match": {"task": task}, "events": [last]}
    return responding(**{action: [answers | {"events": [HANGS_ONCE, last]}, answers, {"events": [last]}]})


def tasks(count: int) -> list[dict[str, Any]]:
    return [{"id": f"T-{number}", "goal": f"number {number}"} for number in range(1, count + 1)]


def crash(running: Running, *others: str) -> None:
    """Kill guardian, orchestrator and whoever else is named at once, as a failing machine would."""
    orchestrator, *pids = [running.pid_of(name) for name in ("orchestrator", "guardian", *others)]
    os.kill(orchestrator, signal.SIGSTOP)  # so that it does not notice
    for pid in (*pids, orchestrator):
        os.kill(pid, signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL


def crashed(there: Bench, action: str, *, task: str = "T-1") -> str:
    """Start a run, crash it in the midst of a step, and return its id."""
    running = there.start()
    running.until_begun(action, task)
    crash(running)
    return there.run_ids[-1]


def commands(there: Bench, run_id: str) -> list[dict[str, Any]]:
    """Return the commands of a run."""
    return [line for line in there.ledger(run_id) if line["kind"] == "command"]


def keys(there: Bench, run_id: str) -> dict[str, str]:
    """Return the keys of a run's commands in order, each with its action."""
    return {line["idempotency_key"]: line["action"] for line in commands(there, run_id)}


def check_completed(there: Bench, run_id: str, actions: list[str]) -> None:
    """Every step was finished once, and every promise is kept."""
    row = next(row for row in there.index() if row["run_id"] == run_id)
    assert row["status"] == "completed"
    assert set(row["tasks"].values()) == {"completed"}
    found = keys(there, run_id)
    assert list(found.values()) == actions
    finished = there.finished_keys()
    assert [finished.count(key) for key in found] == [1] * len(actions)
    assert there.findings() == []
    assert gone_within(there, 1.0) == []


def test_a_failed_task_is_never_resumed_as_completed(tmp_path: Path) -> None:
    """A failed run stays failed, and nothing is executed, unless it is asked to try again."""
    there = Bench(tmp_path / "w", {"builder": responding(implement=GIVES_UP)})
    first = there.run()
    (run_id,) = there.run_ids
    before = digests(there.root)

    named, newest = there.run("resume", "--run", run_id), there.run("resume")

    assert first.code == 1, first
    assert named.code == 2, named
    assert "--retry-failed" in named.err
    assert newest.code == 0, newest
    assert "nothing is unfinished here" in newest.err
    assert there.state()["status"] == "failed"
    assert digests(there.root) == before


def test_a_crash_between_two_stages_goes_on_with_the_next_one(tmp_path: Path) -> None:
    """With the keys it had; what was settled is not asked for again, and its receipts stay as they are."""
    approved = {"type": "review.completed", "status": "approved"}
    there = Bench(tmp_path / "w", {"reviewer": hanging("review", last=approved)})
    run_id = crashed(there, "review")
    before, receipts = keys(there, run_id), digests(there.root / "receipts")

    resumed = there.run("resume")

    assert resumed.code == 0, resumed
    check_completed(there, run_id, ONE)
    assert list(keys(there, run_id))[: len(before)] == list(before)
    assert [command["action"] for command in there.commands()] == ["implement", "review", "review", "update_spec"]
    assert receipts == {
        name: there_now for name, there_now in digests(there.root / "receipts").items() if name in receipts
    }
    assert steps(there, "T-1") == [1, 2, 3]


def test_two_runs_at_once_send_nothing_twice(tmp_path: Path) -> None:
    """Whoever comes second is told who is at work, with exit code 3; cron is told nothing."""
    there = Bench(tmp_path / "w", {"builder": responding(implement={"delay_ms": 1500, "events": [PASSED]})})
    first = there.start()
    first.until_begun("implement")

    others = [there.start(*words) for words in (["run", "--all", "--new"], ["resume"], ["resume", "--if-unfinished"])]
    second, third, quiet = [other.wait() for other in others]

    assert [second.code, third.code, quiet.code] == [3, 3, 3]
    assert f"process {first.process.pid}" in second.err
    assert f"process {first.process.pid}" in third.err
    assert (quiet.out.strip(), quiet.err) == ("", "")
    assert first.wait().code == 0
    assert [command["action"] for command in there.commands()] == ONE
    assert len(there.run_ids) == 1


def test_two_resumes_at_once_send_nothing_twice(tmp_path: Path) -> None:
    """One of them resumes; the other is told that it does."""
    there = Bench(tmp_path / "w", {"builder": hanging("implement")})
    run_id = crashed(there, "implement")

    both = [running.wait() for running in [there.start("resume"), there.start("resume")]]

    assert sorted(ended.code for ended in both) in ([0, 3], [0, 0])  # a slow second one finds nothing unfinished
    check_completed(there, run_id, ONE)
    assert len(there.events("system.run_resumed")) == 1


@pytest.mark.long
def test_an_older_unfinished_run_can_be_resumed(tmp_path: Path) -> None:
    """A run that was left for a newer one is still there, and leaves run.json to the newer one."""
    there = Bench(tmp_path / "w", {"builder": hanging("implement")})
    old = crashed(there, "implement")

    refused = there.run("run", "--all")
    newer = there.run("run", "--all", "--new")
    resumed = there.run("resume", "--run", old)

    assert refused.code == 2, refused
    assert f"run {old} is unfinished" in refused.err
    assert newer.code == 0, newer
    assert resumed.code == 0, resumed
    (new,) = set(there.run_ids) - {old}
    assert there.state()["run_id"] == max(old, new)
    check_completed(there, old, ONE)
    check_completed(there, new, ONE)
    assert steps(there, "T-1") == [1, 2, 3, 4, 5, 6]


def test_killed_in_task_2_of_3_task_3_is_run(tmp_path: Path) -> None:
    """And task 1 is not run again."""
    there = Bench(tmp_path / "w", {"builder": hanging("implement", task="T-2")}, tasks=tasks(3))
    run_id = crashed(there, "implement", task="T-2")

    resumed = there.run("resume")

    assert resumed.code == 0, resumed
    check_completed(there, run_id, ONE * 3)
    assert [len(steps(there, f"T-{number}")) for number in (1, 2, 3)] == [3, 3, 3]
    assert [task["status"] for task in there.state()["tasks"]] == ["completed"] * 3


@pytest.mark.long
def test_a_second_run_writes_over_no_receipt(tmp_path: Path) -> None:
    """Steps of a task go on where the last run stopped."""
    there = Bench(tmp_path / "w")
    assert there.run().code == 0
    receipts = digests(there.root / "receipts")

    assert there.run().code == 0

    now = digests(there.root / "receipts")
    assert {name: now[name] for name in receipts} == receipts
    assert steps(there, "T-1") == [1, 2, 3, 4, 5, 6]
    assert there.findings() == []


def test_a_changed_configuration_does_not_change_a_run(tmp_path: Path) -> None:
    """Tasks, policy and agents are those it was started with; that something differs is told."""
    events = [HANGS_ONCE, write("src/a.txt", "more than a byte\n"), PASSED]
    there = Bench(tmp_path / "w", {"builder": responding(implement={"events": events})})
    run_id = crashed(there, "implement")
    (before,) = keys(there, run_id)

    def change(document: dict[str, Any]) -> None:
        document["tasks"] = [{"id": "T-9", "goal": "something else"}]
        document["policy"]["retry"]["max_attempts"] = 7
        document["policy"]["artifact_max_bytes"] = 1
        document["agents"]["builder"]["cmd"] = ["false"]

    there.configure(change)
    resumed = there.run("resume")

    assert resumed.code == 0, resumed
    check_completed(there, run_id, ONE)
    assert next(iter(keys(there, run_id))) == before
    assert {command["retry"]["max_attempts"] for command in there.commands()} == {3}
    (note,) = there.events("system.run_resumed")
    assert note["payload"]["config_changes"] == [
        "$.agents.builder.cmd",
        "$.policy.artifact_max_bytes",
        "$.policy.retry.max_attempts",
    ]
    assert "$.policy.retry.max_attempts" in resumed.out


def test_a_last_line_without_newline_is_no_obstacle(tmp_path: Path) -> None:
    """It is proved by its chain, and kept."""
    there = Bench(tmp_path / "w", {"builder": hanging("implement")})
    run_id = crashed(there, "implement")
    ledger = there.root / "events" / f"{run_id}.ndjson"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole.removesuffix(b"\n"))

    resumed = there.run("resume")

    assert resumed.code == 0, resumed
    assert ledger.read_bytes().startswith(whole)
    assert list(ledger.parent.glob("*.torn-*")) == []
    check_completed(there, run_id, ONE)


def test_ten_commands_have_ten_keys_and_a_second_run_has_the_same_snapshot(tmp_path: Path) -> None:
    """Two review rounds and a spec round; all repeats of a review with one key would never end."""
    path = Path(__file__).parents[2] / "fixtures" / "scripts" / "review-and-spec-rounds.json"
    script = json.loads(path.read_text())
    there = Bench(tmp_path / "w", dict.fromkeys(ROLES, script), tasks=[{"id": "T-ROUNDS", "goal": "go round"}])

    first = there.run()

    assert first.code == 0, first
    (run_id,) = there.run_ids
    assert list(keys(there, run_id).values()) == [
        *["implement", "review", "implement_changes", "review", "implement_changes", "review", "update_spec"],
        *["implement_changes", "review", "update_spec"],
    ]
    assert len(there.commands()) == len(keys(there, run_id)) == 10
    assert steps(there, "T-ROUNDS") == list(range(1, 11))
    assert there.run("verify").code == 0

    for name in ("src/rounds.py", "specs/rounds.md"):
        (there.root / name).unlink()  # the tree as it was before
    second = there.run()

    assert second.code == 0, second
    ids = {line["version"]["snapshot_id"] for one in there.run_ids for line in commands(there, one)}
    assert len(ids) == 1
    assert set(keys(there, run_id)).isdisjoint(keys(there, there.run_ids[-1]))


def test_the_snapshot_of_an_unchanged_tree_has_the_same_id(tmp_path: Path) -> None:
    """Agents that write nothing: what a run captured is captured again from the command line."""
    there = Bench(tmp_path / "w")

    assert there.run().code == 0

    ids = {command["version"]["snapshot_id"] for command in there.commands()}
    assert ids == {json.loads(there.run("snapshot", "--json").out)["snapshot_id"]}


@pytest.mark.long
@pytest.mark.parametrize("in_git", [False, True])
def test_failed_tasks_are_tried_again_when_asked(tmp_path: Path, *, in_git: bool) -> None:
    """Under new keys that name the old ones; what is completed is left alone."""
    builder = responding(
        implement=[
            {"match": {"task": "T-1"}, **GIVES_UP},
            {"match": {"task": "T-1"}, "events": [write("src/T-1.txt"), PASSED]},
            {"events": [write("src/T-2.txt"), PASSED]},
        ]
    )
    there = Bench(tmp_path / "w", {"builder": builder}, tasks=tasks(2), policy={"git": "commit" if in_git else "off"})
    if in_git:
        make_repository(there)
    failed = there.run("run", "--all", "--on-failure", "continue")
    (run_id,) = there.run_ids
    before = list(keys(there, run_id))

    resumed = there.run("resume", "--retry-failed")
    again = there.run("resume", "--retry-failed")

    assert (again.code, again.err) == (0, "lorch: nothing is unfinished here, and the newest run has not failed\n")
    assert failed.code == 1, failed
    assert resumed.code == 0, resumed
    state = there.state()
    assert (state["status"], [task["status"] for task in state["tasks"]]) == ("completed", ["completed"] * 2)
    after = [command for command in there.commands() if command["idempotency_key"] not in before]
    assert [command["action"] for command in after] == ONE
    assert after[0]["inputs"]["retry_of"] == before[0]
    assert "retry_of" not in after[1]["inputs"] or after[1]["inputs"]["retry_of"] != before[1]
    assert there.findings() == []
    assert (there.root / "src" / "T-1.txt").exists()
    assert (there.root / "src" / "T-2.txt").exists()
    if in_git:
        assert git(there, "rev-list", "--count", f"main..lorch/{run_id}") == "2"
        assert git(there, "status", "--porcelain") == ""


@pytest.mark.long
def test_what_nobody_claimed_to_have_changed_is_told_and_refused_when_asked(tmp_path: Path) -> None:
    """A killed builder leaves half an edit: the resume says so, and goes on unless drift is to be refused."""
    there = Bench(tmp_path / "w", {"builder": hanging("implement")})
    run_id = crashed(there, "implement")
    (there.root / "src" / "half.py").write_text("def half(")
    length = len(there.ledger())

    strict = there.run("resume", "--strict-drift")
    refused_at = len(there.ledger())
    resumed = there.run("resume")

    assert strict.code == 2, strict
    assert "src/half.py" in strict.err
    assert refused_at == length
    assert resumed.code == 0, resumed
    (drift,) = there.events("system.workspace_drift")
    assert drift["payload"]["paths"] == ["src/half.py"]
    assert "src/half.py" in resumed.out
    check_completed(there, run_id, ONE)


def test_drift_that_came_after_the_command_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """As long as the guardian lives, no death below it needs anybody's hand."""
    there = Bench(tmp_path / "w", {"builder": responding(implement={"delay_ms": 1000, "events": [PASSED]})})
    run_id = crashed(there, "implement")

    running = there.start("resume", "--strict-drift")
    running.until(r"\] implement \(task: T-1")
    (there.root / "src" / "half.py").write_text("def half(")
    running.signal("orchestrator", signal.SIGKILL)
    ended = running.wait()

    assert ended.code == 0, ended
    assert len(there.events("system.run_resumed")) == 2
    check_completed(there, run_id, ONE)


@pytest.mark.long
def test_a_completed_run_is_called_so(tmp_path: Path) -> None:
    """With exit code 0; and for cron, nothing unfinished is not a word."""
    there = Bench(tmp_path / "w")
    assert there.run().code == 0
    (run_id,) = there.run_ids
    before = digests(there.root)

    named = there.run("resume", "--run", run_id)
    quiet, unknown = (
        there.run("resume", "--if-unfinished"),
        there.run("resume", "--run", "run-20200101-000000-00000000"),
    )

    assert named.code == 0, named
    assert f"run {run_id} is completed; there is nothing to resume" in named.err
    assert (quiet.code, quiet.out, quiet.err) == (0, "\n", "")
    assert unknown.code == 2, unknown
    assert digests(there.root) == before


@pytest.mark.long
def test_a_run_that_died_behind_its_last_entry_is_written_down(tmp_path: Path) -> None:
    """Nobody would resume it any more: whoever comes next brings run state, index and receipts to its end."""
    there = Bench(tmp_path / "w")
    assert there.run().code == 0
    whole = digests(there.root)
    for name in ("state/index.json", "state/checkpoint.cbor", "receipts/T-1/step-3.json"):
        (there.root / name).unlink()
    shutil.rmtree(there.root / "transcripts")

    resumed = there.run("resume", "--if-unfinished")

    assert (resumed.code, resumed.err) == (0, "")
    assert digests(there.root) == whole
