"""Who is still alive that should be gone: found by a marker that every process of the run has in its environment."""

import os
import time
from typing import Final

from lorch_actors import processes
from lorch_actors.processes import ProcessIdentity, proc

MARKER: Final = "LORCH_CHAOS"
GONE_WITHIN_S: Final = 1.0
_LOOK_S: Final = 0.01
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def now_ticks() -> int:
    """Return the clock that start times of processes are told in: ticks since boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)


def alive(token: str, *, before_ticks: int | None = None) -> dict[ProcessIdentity, str]:
    """Return the processes that carry the token, each with its command line; only those started before, if said."""
    found = {}
    for pid in processes.marked(MARKER, token):
        identity = processes.identify(pid)
        if identity is None or not processes.is_alive(identity):
            continue
        if before_ticks is None or identity.start_ticks < before_ticks:
            words = (proc.read(f"/proc/{pid}/cmdline") or b"").split(b"\0")
            found[identity] = b" ".join(words).decode("utf-8", "replace").strip()
    return found


def left_over(token: str, within_s: float = GONE_WITHIN_S) -> dict[ProcessIdentity, str]:
    """Wait until nobody carries the token any more; return who still does after that time."""
    deadline = time.monotonic() + within_s
    while (left := alive(token)) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return left
