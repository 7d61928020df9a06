"""Scripts and configurations of lorch 1.5 are played unchanged; what each comes to is in a table.

The scripts claim checksums of files that they never write, so the runs only warn of artifacts.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, Bench, Ended

SCRIPTS = Path(__file__).parents[3] / "shared" / "fixtures-lorch15"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the scripts of lorch 1.5 are not at hand")

LOOP = ["implement", "review", "update_spec"]
OUTCOMES: dict[str, tuple[int, list[str], str | None, int]] = {
    "build-failure": (1, ["implement"], "agent_error", 0),
    "builder-invalid-tests": (1, ["implement"] * 3, "missing_tests", 0),
    "builder-missing-tests": (1, ["implement"] * 3, "missing_tests", 0),
    "builder-tests-failed": (0, ["implement", "implement_changes", "review", "update_spec"], None, 0),
    "builder-tests-failed-allowed": (0, LOOP, None, 0),
    "progress-tracking": (0, LOOP, None, 3),
    "review-changes-requested": (
        1,
        [*["implement", "review"], *["implement_changes", "review"] * 2],
        "rounds_exhausted",
        0,
    ),
    "simple-success": (0, LOOP, None, 2),
    "spec-changes-requested": (1, [*LOOP, *["implement_changes", "review", "update_spec"] * 2], "rounds_exhausted", 3),
}
"""By script: exit code, actions in order, failure code, and how many false claims were warned of."""

QUICK = {"simple-success", "spec-changes-requested"}
"""What the default suite plays; the others belong to the long one."""

ORCHESTRATION: dict[str, dict[str, list[str]]] = {
    "orchestration-simple": {"intake": ["T-100"], "task_discovery": ["T-100-2"]},
    "orchestration-discovery-expanded": {
        "intake": ["T-INITIAL"],
        "task_discovery": ["T-EXPANDED-1", "T-EXPANDED-2", "T-EXPANDED-3"],
    },
    "orchestration-malformed-response": {"intake": ["T-MALFORMED"]},
    "orchestration-error-retriable": {"intake": []},
}
"""By script: which tasks each action proposes."""


def play(top: Path, name: str) -> tuple[Bench, Ended]:
    """Play a script in all three roles of the loop, as lorch 1.5 does."""
    script = json.loads((SCRIPTS / f"{name}.json").read_bytes())
    policy = {"verify_artifacts": "warn", "max_rounds": 3}
    bench = Bench(top / name, dict.fromkeys(ROLES, script), policy=policy)
    return bench, bench.run()


def test_no_script_is_left_out() -> None:
    """The tables name all of them."""
    assert {path.stem for path in SCRIPTS.glob("*.json")} == OUTCOMES.keys() | ORCHESTRATION.keys()


@pytest.mark.parametrize(
    "name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.long) for each in OUTCOMES]
)
def test_script_of_the_loop(tmp_path: Path, name: str) -> None:
    """It is played to the end, and what went wrong has its reason."""
    bench, ended = play(tmp_path, name)
    code, actions, failure, warned = OUTCOMES[name]
    told = bench.told_of("T-1")
    warnings = [warning for note in told.events("system.artifacts_verified") for warning in note.get("warnings", [])]

    assert ended.code == code, ended
    assert [command["action"] for command in told.commands] == actions
    assert (told.failure or {}).get("code") == failure
    assert len(warnings) == warned
    assert "Traceback" not in ended.err


def test_reason_of_a_build_failure_is_told_in_the_words_of_lorch_1_5(tmp_path: Path) -> None:
    """Its errors have `error` and `details` where the protocol has `message`."""
    bench, ended = play(tmp_path, "build-failure")

    assert "compilation failed: undefined: someFunction" in ended.out
    assert bench.told_of("T-1").failure == {
        "code": "agent_error",
        "message": "compilation failed: undefined: someFunction",
        "agent": "builder",
    }


@pytest.mark.parametrize("name", ORCHESTRATION)
def test_script_of_orchestration(tmp_path: Path, name: str) -> None:
    """The mockagent answers with the events as they are written."""
    for action, tasks in ORCHESTRATION[name].items():
        answer = answer_of(tmp_path, SCRIPTS / f"{name}.json", action)
        if answer["event"] == "error":
            assert answer["payload"]["retriable"] is True
        else:
            assert answer["event"] == "orchestration.proposed_tasks"
        assert [task["id"] for task in answer["payload"].get("derived_tasks", [])] == tasks


def answer_of(workspace: Path, script: Path, action: str) -> dict[str, Any]:
    """Return the event with which the mockagent ends a command of that action."""
    command = {
        "kind": "command",
        "message_id": f"m-{action}",
        "correlation_id": f"c-{action}",
        "task_id": "T-1",
        "idempotency_key": f"ik:{action:0>64}",
        "to": {"agent_type": "orchestration"},
        "action": action,
        "inputs": {"run_id": "run-1", "round": 1},
        "expected_outputs": [],
        "version": {"snapshot_id": "snap-0123456789ab"},
        "deadline": "2030-01-01T00:00:00.000Z",
        "retry": {"attempt": 0, "max_attempts": 3},
        "priority": 0,
    }
    argv = [
        sys.executable,
        "-m",
        "lorch_actors.agents",
        "mockagent",
        "--type",
        "orchestration",
        "--script",
        str(script),
    ]
    played = subprocess.run(
        argv, cwd=workspace, input=json.dumps(command).encode() + b"\n", capture_output=True, check=True, timeout=60
    )
    events = [json.loads(line) for line in played.stdout.splitlines() if b'"kind":"event"' in line]
    assert [event["correlation_id"] for event in events] == [f"c-{action}"]
    return events[0]
