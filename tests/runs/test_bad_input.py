"""What people get wrong and what the machine refuses: one message with its remedy, the right exit code, no mess."""

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bench import Bench, Ended

from lorch_actors.cli import app
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY

LORCH = [sys.executable, "-m", "lorch_actors"]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def has_namespaces() -> bool:
    """Tell whether mounts of our own are allowed here."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not has_namespaces(), reason="mounts of one's own are not allowed here")


def leftovers(bench: Bench) -> list[str]:
    """Return temporary files that nobody took away."""
    return [path.name for path in bench.root.rglob("*") if ".tmp." in path.name]


def in_namespace(script: str, *arguments: object, cwd: Path) -> Ended:
    """Run a shell script where it may mount."""
    argv = [*NAMESPACE, "sh", "-c", script, "sh", *map(str, arguments)]
    ended = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


# -- configuration and command line -----------------------------------------------------------------------------------


def test_configuration_with_several_errors(tmp_path: Path) -> None:
    """All of them at once, each with its JSON path, its value and what is allowed; nothing is begun."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])

    def spoil(document: dict[str, Any]) -> None:
        document["policy"] |= {"concurrency": 4, "max_rounds": 0}
        document["agents"]["reviewer"]["heartbeat_interval_s"] = "ten"
        document["tasks"] += [{"id": "../../escape", "goal": "g"}, {"id": "T-1", "goal": "again"}, {"id": "T-2"}]

    bench.configure(spoil)
    ended = bench.run()

    assert ended.code == 2, ended
    for path in (
        "$.policy.concurrency",
        "$.policy.max_rounds",
        "$.agents.reviewer.heartbeat_interval_s",
        "$.tasks[1].id",
        "$.tasks[2].id",
        "$.tasks[3]",
    ):
        assert path in ended.err
    assert str(bench.root / "lorch.json") in ended.err
    assert "Traceback" not in ended.err
    assert ended.out.strip() == ""
    assert not (bench.root / "events").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "truncated"),
        (b'{"tasks": [\n  {"id": "T-1",}]}', "line 2, column"),
        (b'\xff\xfe{"a": 1}', "lorch.json"),
        (b"[]", "object"),
        (b"", "lorch.json"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_configuration_that_is_no_json(tmp_path: Path, content: bytes, words: str) -> None:
    """The message says where."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    (bench.root / "lorch.json").write_bytes(content)
    ended = bench.run()

    assert ended.code == 2, ended
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_unknown_task(tmp_path: Path) -> None:
    """It is named, with the tasks that there are."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    ended = bench.run("run", "--task", "T-7")

    assert ended.code == 2, ended
    assert "there is no task 'T-7'" in ended.err
    assert "Its tasks are: T-1." in ended.err


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["run"], 2),
        (["run", "--task", "T-1"], 2),
        (["run", "--from", "nowhere"], 2),
        (["run", "--al"], 2),
        (["resume"], 0),
        (["resume", "--run", "run-20260101-000000-0001abff"], 2),
    ],
)
def test_nothing_is_left_where_nothing_was_begun(tmp_path: Path, command: list[str], code: int) -> None:
    """An empty directory is as empty as before: no configuration, no lock, no directory of ours."""
    ended = subprocess.run([*LORCH, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disabled_agent_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The loop needs all three of them."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}], agents={"reviewer": {"enabled": False}})
    before = sorted(path.name for path in bench.root.iterdir())
    ended = bench.run()

    assert (ended.code, sorted(path.name for path in bench.root.iterdir())) == (2, before)
    assert "$.agents: the loop needs reviewer, which the configuration disables" in ended.err


def test_bad_script_of_an_agent(tmp_path: Path) -> None:
    """The task fails, and the agent's log holds every error of the script."""
    bench = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"evnts": []}, "reviw": {}}}})
    ended = bench.run()

    assert ended.code == 1, ended
    failure = bench.told_of("T-1").failure
    assert failure is not None
    assert (failure["code"], failure["agent"]) == ("agent_restart_limit", "builder")
    assert "exited with code 2" in failure["message"]
    said = "\n".join(note.get("line", "") for note in bench.logged("builder"))
    assert "evnts" in said
    assert "reviw" in said
    assert "Traceback" not in ended.err + said


def test_task_that_is_too_large_for_a_command(tmp_path: Path) -> None:
    """It is refused, or explained, but the run does not go on without it."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1", "goal": "g" * 300_000}, {"id": "T-2"}])
    ended = bench.run()

    assert ended.code in (1, 2), ended
    assert "T-1" in ended.out + ended.err or "$.tasks[0]" in ended.err
    assert "Traceback" not in ended.err


# -- the machine ------------------------------------------------------------------------------------------------------


@needs_mounts
@pytest.mark.parametrize(
    "command", [["run", "--all"], ["resume"], ["run", "--all", "--json"], ["snapshot"], ["init", "--force", "--mock"]]
)
def test_read_only_workspace(tmp_path: Path, command: list[str]) -> None:
    """One message with the path and what to do, the exit code of wrong usage, and nothing is changed."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    before = sorted(bench.root.rglob("*"))
    read_only = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && shift && exec "$@"'
    ended = in_namespace(read_only, bench.root, *LORCH, *command, cwd=tmp_path)

    assert ended.code == 2, ended
    assert str(bench.root) in ended.err
    assert "ead-only" in ended.err
    assert len(ended.err.strip().splitlines()) == 2  # what is wrong, and the remedy
    assert "Traceback" not in ended.err
    assert sorted(bench.root.rglob("*")) == before
    if "--json" in command:
        assert json.loads(ended.out)["error"]["exit_code"] == 2


FULL = """
mount -t tmpfs -o size=3m tmpfs "$1" && cp -a "$2/." "$1" && cd "$1" || exit 99
lorch="$3 -m lorch_actors"
$lorch run --all; echo "run: $?"
find . -name '.*.tmp.*'; du -s filler | sed 's/[0-9]*/filled/'
rm filler
$lorch resume; echo "resume: $?"
$lorch verify --quiet; echo "verify: $?"
cp -a . "$4"
"""


@needs_mounts
def test_disk_that_an_agent_fills(tmp_path: Path) -> None:
    """The run stops resumably and names the disk; with room again, `resume` completes it and `verify` agrees."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1", "fault": "fills_the_disk"}, {"id": "T-2"}])
    (tmp_path / "mounted").mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    ended = in_namespace(FULL, tmp_path / "mounted", bench.root, sys.executable, kept, cwd=tmp_path)

    lines = ended.out.splitlines()
    assert [line for line in lines if line.startswith(("run:", "resume:", "verify:"))] == [
        "run: 5",
        "resume: 0",
        "verify: 0",
    ], ended
    assert "filled\tfiller" in lines
    assert "interrupted: 0 of 2 tasks completed, 2 left" in ended.out
    assert [line for line in lines if line.startswith("./.")] == []
    assert "the disk is full" in ended.err
    assert "resume" in ended.err
    assert "Traceback" not in ended.err
    bench.root = kept
    assert bench.state()["status"] == "completed"


NO_ROOM = """
mount -t tmpfs -o size=1m tmpfs "$1" && cp -a "$2/." "$1" && cd "$1" || exit 99
dd if=/dev/zero of=filler bs=4096 2>/dev/null
"$3" -m lorch_actors run --all; echo "run: $?"
find . -name '*.tmp.*'
rm filler
"$3" -m lorch_actors run --all --new; echo "again: $?"
"""


@pytest.mark.long
@needs_mounts
def test_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    """One message, exit code 5, nothing half-written; with room, the same command works."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    (tmp_path / "mounted").mkdir()
    ended = in_namespace(NO_ROOM, tmp_path / "mounted", bench.root, sys.executable, cwd=tmp_path)

    lines = ended.out.splitlines()
    assert [line for line in lines if line.startswith(("run:", "again:"))] == ["run: 5", "again: 0"], ended
    assert [line for line in lines if ".tmp." in line] == []
    assert "the disk is full" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.long
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """A limit on the size of files (`ulimit -f`) is met like a full disk, and the run can be resumed without it."""
    tasks = [{"id": "T-1", "fault": "leaves_much"}]
    bench = Bench.raw(tmp_path / "w", tasks)
    limited = subprocess.run(
        ["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh", *LORCH, "run", "--all"],
        cwd=bench.root,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert limited.returncode == 5, limited
    assert "Raise `ulimit -f`" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert leftovers(bench) == []
    resumed = bench.run("resume")
    assert resumed.code == 0, resumed


# -- output -----------------------------------------------------------------------------------------------------------


def conforms(name: str, document: object) -> bool:
    """Tell whether a document fits the schema of that name."""
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())
    return jsonschema.Draft202012Validator(schema).is_valid(document)


def test_json_of_a_run(tmp_path: Path) -> None:
    """One document that fits its schema on stdout, the transcript on stderr."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}, {"id": "T-2", "fault": "error_final"}])
    ended = bench.run("run", "--all", "--json")
    document = json.loads(ended.out)

    assert ended.code == 1
    assert conforms("cli-report", document)
    assert {task["task_id"]: task["status"] for task in document["tasks"]} == {"T-1": "completed", "T-2": "failed"}
    assert "[lorch] DONE T-1" in ended.err
    for command, schema in ((("verify",), "cli-verify"), (("status",), "cli-status"), (("runs",), "cli-runs")):
        assert conforms(schema, json.loads(printed(bench, *command, "--json"))), command


def printed(bench: Bench, *arguments: str) -> str:
    """Return what a command that runs no agents prints, carried out in this process."""
    out = io.StringIO()
    with contextlib.chdir(bench.root), contextlib.redirect_stdout(out):
        app.main(arguments)
    return out.getvalue()


def test_quiet_run(tmp_path: Path) -> None:
    """It prints nothing when all goes well; the transcript is there all the same."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    ended = bench.run("run", "--all", "--quiet")

    assert (ended.code, ended.out.strip(), ended.err) == (0, "", "")
    assert "[lorch] DONE T-1" in (bench.root / "transcripts" / f"{bench.run_ids[0]}.txt").read_text()


def test_pipe_that_is_closed_early(tmp_path: Path) -> None:
    """`| head -1` ends the output, not the run."""
    bench = Bench.raw(tmp_path / "w", [{"id": f"T-{number}"} for number in range(5)])
    ended = subprocess.run(
        [
            "bash",
            "-c",
            'set -o pipefail; "$@" | head -1; echo "codes: ${PIPESTATUS[*]}"',
            "bash",
            *LORCH,
            "run",
            "--all",
        ],
        cwd=bench.root,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.stdout.splitlines()[-1] == "codes: 0 0", ended
    assert (bench.state()["status"], ended.stderr) == ("completed", "")


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), pytest.param("", True, marks=pytest.mark.long)])
def test_no_color(tmp_path: Path, no_color: str, coloured: bool) -> None:
    """On a terminal a run is coloured, unless NO_COLOR is set."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1"}])
    ours, theirs = pty.openpty()
    env = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    with subprocess.Popen(
        [*LORCH, "run", "--all"], cwd=bench.root, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as run:
        os.close(theirs)
        shown = b""
        while piece := read_terminal(ours):
            shown += piece
    os.close(ours)

    assert run.returncode == 0, shown
    assert b"DONE T-1" in shown
    assert (b"\x1b[" in shown) == coloured


def read_terminal(fd: int) -> bytes:
    """Return what a terminal shows next, nothing when the last program on it has ended."""
    try:
        return os.read(fd, 65_536)
    except OSError:
        return b""
