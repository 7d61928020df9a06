"""Measuring: references of the machine, whole processes from outside, and places to work in."""

import contextlib
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorch_actors.__main__ import GARBAGE_THRESHOLD

LINE = b'{"kind":"event","payload":{"text":"' + 560 * b"x" + b'"}}\n'
"""As long as an event in a ledger."""


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Make a directory to work in, on the disk that holds the temporary files."""
    with tempfile.TemporaryDirectory(prefix="lorch-bench-") as path:
        yield Path(path)


def median_s(work: Callable[[], object], times: int) -> float:
    """Return the median duration of a call, in seconds."""
    return statistics.median(_durations(work, times))


def best_s(work: Callable[[], object], times: int) -> float:
    """Return the shortest duration of a call, in seconds."""
    return min(_durations(work, times))


def _durations(work: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def append_and_sync_s(directory: Path, times: int = 300) -> float:
    """Return what one line costs that is appended and synced (fdatasync): the median, in seconds."""
    path = directory / "reference.ndjson"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append() -> None:
        os.write(fd, LINE)
        os.fdatasync(fd)

    try:
        return median_s(append, times)
    finally:
        os.close(fd)
        path.unlink()


@dataclass(frozen=True)
class Spent:
    """What a whole process took, with everything below it: seconds, and the peak of the largest one in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    code: int


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Spent:
    """Run a command to its end, with its output thrown away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall_s, cpu_s, used.ru_maxrss * 1024, process.returncode)


def best_of(times: int, command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Spent:
    """Return the median run of several, by wall time, after one that is not counted."""
    run(command, cwd, env)
    spent = sorted((run(command, cwd, env) for _ in range(times)), key=lambda one: one.wall_s)
    return spent[len(spent) // 2]


def interpreter_s(times: int = 15) -> float:
    """Return what the start and end of a bare interpreter take: the median, in seconds."""
    return best_of(times, [sys.executable, "-I", "-S", "-c", "pass"], Path.cwd()).wall_s


def own_python(*arguments: str) -> list[str]:
    """Return the command that runs this program with these arguments."""
    return [sys.executable, "-m", "lorch_actors", *arguments]


def in_child(work: Callable[[], object]) -> tuple[float, int]:
    """Return seconds and peak memory in bytes of a call that is made in a process forked for it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            gc.set_threshold(GARBAGE_THRESHOLD)  # as in every process of the program
            floor = _reset_peak()
            began = time.perf_counter()
            work()
            taken = time.perf_counter() - began
            os.write(writing, f"{taken} {_peak() - floor}".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        words = pipe.read().split()
    os.waitpid(pid, 0)
    if not words:
        raise RuntimeError("the measured call failed")
    return float(words[0]), int(words[1])


def _reset_peak() -> int:
    """Begin to count the peak anew, and return where it stands (proc_pid_clear_refs(5))."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024


def in_threads(count: int, work: Callable[[int], object]) -> float:
    """Return how long it takes until that many threads have done their work, in seconds."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
