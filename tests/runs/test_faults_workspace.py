"""What lies about in a workspace, each in a whole run: it breaks nothing, and nothing of it is followed outside."""

import contextlib
import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, Ended

from lorch_actors.cli import app

NOT_TEXT = {b"caf\xe9.txt": "caf%E9.txt", b"caf\xe8.txt": "caf%E8.txt", b"100%\xff.txt": "100%25%FF.txt"}
"""Names of files that are no UTF-8, and how they are written."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Ended, dict[str, dict[str, Any]]]:
    """Run two tasks in a workspace full of odd things; return it with the files of the first task's snapshot."""
    top = tmp_path_factory.mktemp("odd")
    bench = Bench.raw(top / "w", [{"id": "T-1"}, {"id": "T-2"}])
    source = bench.root / "src"
    outside = top / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("not of this workspace")
    (outside / "closed.txt").write_text("x")
    (source / "dir").mkdir()
    (source / "dir" / "in.txt").write_text("in")
    links = {"dangling": "nowhere", "to_dir": "dir", "out": str(outside), "out_file": str(outside / "kept.txt")}
    for name, target in {**links, "loop": "loop", "up": "../..", "self": "."}.items():
        (source / name).symlink_to(target)
    for name in NOT_TEXT:
        (source / os.fsdecode(name)).write_bytes(name)
    (source / "100%.txt").write_text("plain")
    os.mkfifo(source / "fifo")
    with contextlib.chdir(source), socket.socket(socket.AF_UNIX) as listening:  # its name must be short
        listening.bind("socket")
    ended = bench.run()
    manifests = [json.loads(path.read_bytes()) for path in sorted((bench.root / "snapshots").glob("*.manifest.json"))]
    assert len(manifests) == 1, ended  # nothing changed between the tasks
    return bench, ended, {file["path"]: file for file in manifests[0]["files"]}


Odd = tuple[Bench, Ended, dict[str, dict[str, Any]]]


def test_odd_workspace_is_no_obstacle(odd: Odd) -> None:
    """Both tasks are done, on one snapshot with one id."""
    bench, ended, _ = odd

    assert ended.code == 0, ended
    captured = [line["payload"] for line in bench.events("system.snapshot_captured")]
    assert len({note["snapshot_id"] for note in captured}) == 1
    assert bench.run("verify").code == 0


def test_dangling_link(odd: Odd) -> None:
    """It is recorded by its target."""
    assert odd[2]["src/dangling"]["link"] == "nowhere"
    assert "sha256" not in odd[2]["src/dangling"]


def test_link_to_a_directory(odd: Odd) -> None:
    """It is recorded by its target; what lies behind it is there once, under its own name."""
    files = odd[2]

    assert files["src/to_dir"]["link"] == "dir"
    assert [path for path in files if path.endswith("in.txt")] == ["src/dir/in.txt"]
    assert (files["src/loop"]["link"], files["src/self"]["link"]) == ("loop", ".")


def test_link_out_of_the_workspace(odd: Odd) -> None:
    """It is recorded by its target and not followed."""
    bench, _, files = odd
    outside = bench.root.parent / "outside"

    assert files["src/out"]["link"] == str(outside)
    assert files["src/out_file"]["link"] == str(outside / "kept.txt")
    assert [path for path in files if "kept" in path] == []
    assert sorted(path.name for path in outside.iterdir()) == ["closed.txt", "kept.txt"]


def test_fifo_and_socket(odd: Odd) -> None:
    """They are left out, and told of."""
    bench, _, files = odd

    assert {"src/fifo", "src/socket"} & files.keys() == set()
    assert bench.events("system.snapshot_captured")[0]["payload"]["skipped"] == 2
    listed = json.loads(bench.run("snapshot", "--json").out)
    assert {one["path"]: one["kind"] for one in listed["skipped"]} == {"src/fifo": "fifo", "src/socket": "socket"}


def test_name_that_is_not_utf_8(odd: Odd) -> None:
    """Each stray byte is spelled out, and no two files become one."""
    files = odd[2]

    for path in NOT_TEXT.values():
        assert files[f"src/{path}"]["encoded"] is True
    assert "encoded" not in files["src/100%.txt"]
    assert len({files[f"src/{path}"]["sha256"] for path in NOT_TEXT.values()}) == 3


@pytest.mark.parametrize("way", ["lorch.json", "--task", "--from"])
@pytest.mark.parametrize("task_id", ["../../escape", "..", "a/b", "/etc", "", "x" * 65, "T-1\n", ".hidden"])
def test_task_id_that_would_be_a_path(tmp_path: Path, way: str, task_id: str) -> None:
    """It is refused where it enters, and nothing is written anywhere."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1" if way == "--task" else task_id}])
    arguments = ["run", "--all"]
    if way == "--task":
        arguments = ["run", "--task", task_id]
    elif way == "--from":
        (tmp_path / "tasks.ndjson").write_text(json.dumps({"id": task_id, "goal": "g"}) + "\n")
        bench.configure(lambda document: document.update(tasks=[]))
        arguments = ["run", "--from", str(tmp_path / "tasks.ndjson")]
    before = everything(tmp_path)
    code, err = refused(bench, arguments)

    assert code == 2, err
    assert "Traceback" not in err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("way", ["lorch.json", "--task"])
def test_task_id_that_would_escape(tmp_path: Path, way: str) -> None:
    """The whole program refuses it too, by name, and leaves no receipts anywhere."""
    escape = "../../escape"
    bench = Bench.raw(tmp_path / "w", [{"id": escape if way == "lorch.json" else "T-1"}])
    ended = bench.run(*(["run", "--task", escape] if way == "--task" else ["run", "--all"]))

    assert ended.code == 2, ended
    assert escape in ended.err
    assert [path for path in everything(tmp_path) if Path(path).name in ("escape", "receipts")] == []


def refused(bench: Bench, arguments: list[str]) -> tuple[int, str]:
    """Return exit code and standard error of a command that is refused, carried out in this process."""
    err = io.StringIO()
    with contextlib.chdir(bench.root), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = app.orchestrate(arguments, None)  # type: ignore[arg-type]
    return code, err.getvalue()


def everything(top: Path) -> list[str]:
    """Return every path below a directory."""
    return sorted(str(path) for path in top.rglob("*"))
