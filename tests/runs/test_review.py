"""What a review of whole runs found wrong, each seen to stay right."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import Bench


def test_tasks_too_long_for_the_first_entry(tmp_path: Path) -> None:
    """Tasks that do not fit into the ledger's first entry are run from their file."""
    there = Bench(tmp_path / "w", tasks=[{"id": f"T-{nth}", "goal": "long " * 12_000} for nth in range(3)])
    ended = there.run()

    assert ended.code == 0, ended
    assert there.events("system.run_started")[0]["payload"].get("tasks") is None
    assert [task["status"] for task in there.state()["tasks"]] == ["completed"] * 3


@pytest.mark.long
def test_console_that_nobody_reads(tmp_path: Path) -> None:
    """A run whose output nobody reads completes, and says so by its exit code."""
    told = [{"type": "builder.progress", "payload": {"message": "x" * 100}}] * 100
    done = {"type": "builder.completed", "payload": {"tests": {"status": "pass"}}}
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": [*told, done]}}}})
    unread, out = os.pipe()
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen(
        [sys.executable, "-m", "lorch_actors", "run", "--all"],
        cwd=there.root,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
    ) as process:
        _, err = process.communicate(timeout=30)
    os.close(out)
    os.close(unread)

    assert (process.returncode, err) == (0, b"")
    assert there.state()["status"] == "completed"
    assert there.events("system.run_resumed") == []


LEGACY = "run-20240101-000000-deadbeef"


def legacy(there: Bench) -> None:
    """Leave what lorch 1.5 left: a ledger without our key, keys made otherwise, a receipt."""
    head = {"correlation_id": "c-1", "task_id": "T-1"}
    command = head | {
        "kind": "command",
        "message_id": "m-1",
        "idempotency_key": "ik:" + "0" * 64,
        "to": {"agent_type": "builder"},
        "action": "implement",
        "inputs": {},
        "expected_outputs": [],
        "version": {"snapshot_id": "snap-000000000000"},
        "deadline": "2024-01-01T00:00:00Z",
        "retry": {"attempt": 0, "max_attempts": 3},
        "priority": 5,
    }
    event = head | {
        "kind": "event",
        "message_id": "m-2",
        "from": {"agent_type": "builder"},
        "event": "builder.completed",
        "occurred_at": "2024-01-01T00:00:01Z",
    }
    for path, text in (
        (f"events/{LEGACY}.ndjson", f"{json.dumps(command)}\n\nnull\n{json.dumps(event)}\n"),
        ("receipts/T-9/step-1.json", json.dumps({"task_id": "T-9", "step": 1})),
    ):
        (there.root / path).parent.mkdir(mode=0o700, parents=True)
        (there.root / path).parent.parent.chmod(0o700 if path.startswith("receipts") else 0o755)
        (there.root / path).write_text(text)
        (there.root / path).chmod(0o600)


@pytest.mark.long
def test_what_lorch_1_5_left_stands_in_nobodys_way(tmp_path: Path) -> None:
    """Beside a ledger of lorch 1.5 a run completes and verifies; the old run is refused by its true reason."""
    there = Bench(tmp_path / "w")
    legacy(there)
    refused = there.run("resume", "--run", LEGACY)
    ended = there.run()
    verified = there.run("verify")

    assert refused.code == 2
    assert "lorch 1.5" in refused.err
    assert ended.code == 0, ended
    assert verified.code == 0, verified


def test_workspace_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    """It is refused at once, with the reason: no file of ours could name it."""
    there = Bench(Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/w\xff")))
    ended = there.run()

    assert ended.code == 2, ended
    assert "not valid UTF-8" in ended.err


GASPING = """
import os, sys
sys.stdin.readline()
last = "last words of " + os.environ["LORCH_AGENT_ID"]
os.write(2, ("x" * 200 + "\\n").encode() * 1500 + last.encode())
os._exit(3)
"""


def test_last_words_of_an_agent(tmp_path: Path) -> None:
    """What an agent wrote to standard error before it died is in its log to the last byte, under its own name."""
    there = Bench(tmp_path / "w", agents={"builder": {"cmd": [sys.executable, "-c", GASPING]}})
    ended = there.run()
    log = next((there.root / "logs" / "builder").glob("*.ndjson"))
    notes = [json.loads(line) for line in log.read_bytes().splitlines()]
    incarnations = [event["payload"]["agent_id"] for event in there.events("system.agent_exited")]
    builders = [agent_id for agent_id in incarnations if agent_id.startswith("builder")]

    assert ended.code == 1, ended
    assert [note["agent_id"] for note in notes if note.get("line", "").startswith("last words")] == builders
    assert [note["line"] for note in notes if note.get("line", "").startswith("last words")] == [
        f"last words of {agent_id}" for agent_id in builders
    ]


@pytest.mark.long
def test_agents_do_not_ignore_a_hang_up(tmp_path: Path) -> None:
    """That the run itself outlives its terminal is not passed on to agents."""
    telling = "import os; os.write(2, open('/proc/self/status', 'rb').read())"
    there = Bench(tmp_path / "w", agents={"builder": {"cmd": [sys.executable, "-c", telling]}})
    there.run()
    log = next((there.root / "logs" / "builder").glob("*.ndjson")).read_text()
    ignored = {int(mask, 16) & 1 for mask in re.findall(r"SigIgn:\\t([0-9a-f]+)", log)}

    assert ignored == {0}


@pytest.mark.long
def test_resume_killed_before_it_has_the_lock(tmp_path: Path) -> None:
    """Started again, it resumes the unfinished run, not the one that happens to stand in an old lock file."""
    there = Bench(tmp_path / "w")
    running = there.start()
    running.until("implement")
    running.process.send_signal(signal.SIGTERM)
    unfinished = there.run_ids
    interrupted = running.wait()
    finished = there.run("run", "--all", "--new")
    killing = tmp_path / "killing"
    killing.mkdir()
    (killing / "sitecustomize.py").write_text(KILLED_ONCE)
    resumed = there.run("resume", env={"PYTHONPATH": str(killing), "KILLED_ONCE": str(killing / "done")})

    assert (interrupted.code, finished.code, resumed.code) == (5, 0, 0), resumed
    assert (killing / "done").exists()
    assert [line["event"] for line in there.ledger(unfinished[0]) if line.get("event") == "system.run_finished"] != []


KILLED_ONCE = """
import os, signal, sys

class Killed:
    def find_spec(self, name, path=None, target=None):
        if name == "filelock" and not os.path.exists(os.environ["KILLED_ONCE"]):
            open(os.environ["KILLED_ONCE"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

sys.meta_path.insert(0, Killed())
"""


def test_a_secret_in_a_command_is_asked_for_again_and_never_run_redacted(tmp_path: Path) -> None:
    """The ledger does not hold it: a resume takes it from the configuration, or says that it is missing."""
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": [{"type": "hang"}]}}}})
    secret = {"BUILDER_TOKEN": "swordfish-1234"}

    def with_secret(document: dict[str, Any]) -> None:
        document["agents"]["builder"]["cmd"] += ["--id", secret["BUILDER_TOKEN"]]

    there.configure(with_secret)
    running = there.start("run", "--all", "--no-keep-alive", env=secret)
    running.until(r"\] implement \(")
    running.signal("orchestrator", signal.SIGKILL)
    assert running.wait().code == 5

    there.configure(lambda document: document["agents"]["builder"].update(cmd=["other"]))
    refused = there.run("resume", env=secret)

    assert refused.code == 2, refused
    assert "$.agents.builder.cmd" in refused.err
    assert secret["BUILDER_TOKEN"] not in refused.err + json.dumps(there.ledger())
