"""What a whole run really asks of the kernel, as `strace` sees it in all of its processes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TRACED = "open,openat,creat,write,pwrite64,writev,fsync,fdatasync,ftruncate,truncate,rename,renameat,renameat2"
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_FD = re.compile(r"\d+<([^>]*)>")
_NAMES = re.compile(r'"([^"]*)"')
_COMMAND = re.compile(r"cmd-[0-9a-f]{16}-\d+")
_GIVEN = re.compile(r"""write\(\d+<(?:pipe|socket):[^>]*>, "\{\\"kind\\":\\"command\\".*""")
_SYNCED = re.compile(r"(?:fdatasync\(.*|<\.\.\. fdatasync resumed>\)) += 0$")
WHOLE = ("-s", "1000000")
"""The option with which calls are seen with all that they write."""


@cache
def why_not() -> str:
    """Return why nothing can be traced here, empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "-e", "trace=none", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"strace is not allowed to trace: {tried.stderr.strip()[:200]}"


def traced(
    root: Path, output: Path, *arguments: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `python -m lorch_actors` in a workspace under strace, with all its processes."""
    command = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={TRACED}", *options, "-o", str(output)]
    return subprocess.run(
        [*command, sys.executable, "-m", "lorch_actors", *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


@dataclass(frozen=True)
class Traced:
    """One call below a directory. path: what it is about, relative to it. target: of a rename."""

    pid: int
    name: str
    path: str
    flags: str = ""
    target: str = ""


def calls_below(root: Path, output: Path) -> Iterator[Traced]:
    """Yield the calls on what lies below ``root``, in the order in which they began; failed ones are left out."""
    for line in output.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found is None or " = -1 " in line:
            continue
        pid, name, rest = int(found[1]), found[2], found[3]
        if name.startswith("rename"):
            source, target = _NAMES.findall(rest)[:2]
            if _below(root, source) is not None:
                yield Traced(pid, "rename", _below(root, source) or ".", target=_below(root, target) or ".")
            continue
        named = _NAMES.search(rest) if name in {"open", "openat", "creat"} else _FD.match(rest)
        path = _below(root, named[1]) if named is not None else None
        if path is not None:
            yield Traced(pid, name, path, flags=rest)


def deliveries(output: Path) -> Iterator[tuple[str, bool]]:
    """Yield the commands that were given to agents, and whether each was in the ledger and synced by then."""
    written: dict[str, set[str]] = {}
    durable: set[str] = set()
    for line in output.read_text(errors="replace").splitlines():
        pid, _, call = line.partition(" ")
        if _GIVEN.match(call.lstrip()):
            yield from ((command, command in durable) for command in _COMMAND.findall(call)[:1])
        elif "/events/" in call and call.lstrip().startswith("write("):
            written.setdefault(pid, set()).update(_COMMAND.findall(call))
        elif _SYNCED.search(call):
            durable |= written.pop(pid, set())


def _below(root: Path, path: str) -> str | None:
    where = os.path.relpath(path, root) if path.startswith("/") else ".."
    return None if where.startswith("..") else where


def unsafe(calls: Iterator[Traced], own: tuple[str, ...]) -> list[str]:
    """Return what was not made to last, or did not come through the storage layer, below our own directories.

    The layer opens files without following links, and nobody else does. What is renamed was synced before, and its
    directory after; what is created is synced, and so is its name.
    """
    dirty: dict[str, int] = {}
    unnamed: dict[str, str] = {}
    found = []
    for call in calls:
        if call.path.endswith(".lock") or not f"{call.path}/".startswith(own):
            continue
        if call.name in {"open", "openat", "creat"}:
            if "O_WRONLY" in call.flags or "O_RDWR" in call.flags or call.name == "creat":
                if "O_NOFOLLOW" not in call.flags:
                    found.append(f"{call.path} was opened by somebody else: {call.flags}")
                if "O_CREAT" in call.flags:
                    unnamed.setdefault(call.path, "created")
        elif call.name in {"write", "pwrite64", "writev", "ftruncate", "truncate"}:
            dirty[call.path] = dirty.get(call.path, 0) + 1
        elif call.name == "rename":
            if dirty.get(call.path):
                found.append(f"{call.path} was renamed with {dirty[call.path]} unsynced writes")
            unnamed.pop(call.path, None)
            unnamed[call.target] = "renamed"
        else:
            dirty.pop(call.path, None)
            unnamed = {path: how for path, how in unnamed.items() if os.path.dirname(path) != call.path}
    found += [f"{path} ends with {count} unsynced writes" for path, count in dirty.items()]
    return found + [f"{path} was {how}, and its directory never synced" for path, how in unnamed.items()]
