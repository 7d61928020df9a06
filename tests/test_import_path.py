"""The workspace is no place to find modules."""

import subprocess
import sys
from pathlib import Path

import pytest

MODULES = (
    "random",
    "socket",
    "queue",
    "tempfile",
    "subprocess",
    "select",
    "heapq",
    "json",
    "click",
    "msgspec",
    "pykka",
)


@pytest.mark.long
def test_modules_in_the_workspace_are_never_imported(tmp_path: Path) -> None:
    """A run in a directory full of modules with the names of ours and Python's imports none of them."""
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the workspace')\n")
    (tmp_path / "demo").mkdir()

    call = [sys.executable, "-m", "lorch_actors", "run", "--demo", str(tmp_path / "demo"), "--quiet"]
    ended = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")
