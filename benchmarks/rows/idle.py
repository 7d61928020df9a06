"""A run that waits for its agent: what it costs to do nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.measuring import own_python, place
from benchmarks.rows.batch import tree_pss_mib
from benchmarks.workspaces import has_command, make_workspace
from lorch_actors.processes import descendants
from lorch_actors.processes.proc import environment_marker

TITLE = "idle run waiting for an agent"
HEARTBEAT_S = 60.0
"""So seldom that what is counted is our own doing."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def measure(*, quick: bool) -> Iterator[Result]:
    watched_s = 10.0 if quick else 45.0
    with place() as directory:
        root = make_workspace(directory / "w", tasks=1, heartbeat_interval_s=HEARTBEAT_S)
        process = subprocess.Popen(
            own_python("run", "--all", "--quiet"), cwd=root, env={**os.environ, "ECHO_REVIEW": "silent"}
        )
        try:
            _wait_for_command(root)
            time.sleep(6.0)  # what follows a command, such as the checkpoint of run.json, is no idleness yet
            ours = [pid for pid in (process.pid, *descendants(process.pid)) if not _is_agent(pid)]
            cpu, wakes = _cpu_s(ours), _wakes(ours)
            time.sleep(watched_s)
            cpu_share = (_cpu_s(ours) - cpu) / watched_s
            busiest = max((after - before) / watched_s for before, after in zip(wakes, _wakes(ours), strict=True))
            pss = tree_pss_mib(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    yield Figure("CPU", cpu_share * 100, "% of a core", "limit", 0.3, 1.0)
    yield Figure("memory of all, agents included", pss, "MiB", "limit", 90.0, 1.0)
    yield Figure("wake-ups of the busiest thread", busiest, "Hz", "limit", 1.0, 1.0)


def _wait_for_command(root: Path) -> None:
    while not any(map(has_command, (root / "events").glob("*.ndjson"))):
        time.sleep(0.05)


def _is_agent(pid: int) -> bool:
    return environment_marker(pid, "LORCH_AGENT_ID") is not None


def _cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def _wakes(pids: list[int]) -> list[int]:
    """Return how often each thread has gone to sleep so far."""
    found = []
    for pid in pids:
        for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            with open(f"/proc/{pid}/task/{thread}/status") as file:
                found.append(next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches")))
    return found
