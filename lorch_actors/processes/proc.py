"""The kernel's table of processes, read from /proc, and handles on single ones.

What reads tells what it saw at one moment; a process that is gone, or hidden from us, is simply not there.
"""

import os
import select
from collections.abc import Mapping
from typing import Final

STATE: Final = 0
PARENT: Final = 1
GROUP: Final = 2
FLAGS: Final = 6
START_TICKS: Final = 19
"""Where a field stands in what `stat` returns (proc_pid_stat(5) counts these five as 3, 4, 5, 9 and 22)."""

_PF_EXITING: Final = 0x4

_MAX_SCANS: Final = 8
_STAT_BYTES: Final = 4096
"""More than a line of /proc/PID/stat can have: 52 numbers and a name of 64 bytes at most."""


def pids() -> list[int]:
    """Return the pid of every process, zombies included."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def parents() -> dict[int, int]:
    """Return the parent of every process.

    The table is read one process at a time. A parent that ends in between leaves children that hang in the air; then
    it is read again, until only those do whose parent is hidden from us.
    """
    table: dict[int, int] = {}
    dangling: set[int] = set()
    for _ in range(_MAX_SCANS):
        table = {pid: int(fields[PARENT]) for pid in pids() if (fields := stat(pid)) is not None}
        before, dangling = dangling, {pid for pid, parent in table.items() if parent and parent not in table}
        if not dangling or dangling == before:
            break
    return table


def children(pid: int) -> set[int]:
    """Return the children of a process, zombies included."""
    return {child for child, parent in parents().items() if parent == pid}


def descendants(pid: int, table: Mapping[int, int] | None = None) -> set[int]:
    """Return everything below a process, zombies included, in whatever session or process group it is.

    An orphan is found if pid is the child subreaper that inherits it. table: what `parents` returned, if it was asked.
    """
    below: dict[int, list[int]] = {}
    for child, parent in (parents() if table is None else table).items():
        below.setdefault(parent, []).append(child)
    found: set[int] = set()
    to_visit = [pid]
    while to_visit:
        new = [child for child in below.get(to_visit.pop(), ()) if child not in found]
        found.update(new)
        to_visit.extend(new)
    return found - {pid}


def nearest(pid: int) -> set[int]:
    """Return the children of a process from the kernel's own lists of them, one a thread.

    Costs as much as the process has threads, not as much as the machine has processes. A child that ends while the list
    is read may hide another one, and a kernel built without CONFIG_PROC_CHILDREN tells of none: whoever needs all of
    them asks `children` after.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return set()
    lists = (read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return {int(child) for one in lists for child in (one or b"").split()}


def below(pid: int) -> set[int]:
    """Return everything below a process, as `nearest` tells it."""
    found: set[int] = set()
    to_visit = [pid]
    while to_visit:
        new = nearest(to_visit.pop()) - found
        found |= new
        to_visit.extend(new)
    return found - {pid}


def environment_marker(pid: int, name: str) -> str | None:
    """Return the value of a variable in the environment that a process was started with.

    None when it is not set, and when the process is gone, a zombie, or not ours to look at.
    """
    environment = read(f"/proc/{pid}/environ")
    prefix = os.fsencode(name) + b"="
    for variable in (environment or b"").split(b"\0"):
        if variable.startswith(prefix):
            return os.fsdecode(variable[len(prefix) :])
    return None


def marked(name: str, value: str) -> set[int]:
    """Return the processes of this user that were started with NAME=value in their environment.

    A process that was forked but never executed a program carries the environment of its parent's start.
    """
    found = set()
    user = os.geteuid()
    variable = b"\0" + os.fsencode(f"{name}={value}") + b"\0"
    for pid in pids():
        try:
            is_ours = os.stat(f"/proc/{pid}").st_uid == user
        except FileNotFoundError:
            continue
        if is_ours and variable in b"\0" + (read(f"/proc/{pid}/environ") or b"") + b"\0":
            found.add(pid)
    return found


def stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat that stand behind the name; None when nobody has this pid."""
    line = read(f"/proc/{pid}/stat", most_bytes=_STAT_BYTES)
    # The name may hold blanks and parentheses: what counts starts behind the last one.
    return None if not line else line[line.rindex(b")") + 2 :].split()


def group(pid: int) -> int | None:
    """Return the process group of a process, zombies included."""
    fields = stat(pid)
    return None if fields is None else int(fields[GROUP])


def read(path: str, most_bytes: int | None = None) -> bytes | None:
    """Return what a file of a process says; None when the process is gone or not ours to look at.

    most_bytes: of a file that is never longer, and so is read at once.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    try:
        if most_bytes is not None:
            return os.read(fd, most_bytes)
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except (ProcessLookupError, PermissionError):
        return None
    finally:
        os.close(fd)


def open_handle(pid: int) -> int | None:
    """Return a pidfd on who has this pid now (a zombie too), or None when nobody has; the caller closes it."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def has_ended(handle: int) -> bool:
    """Tell whether the process behind a pidfd has ended, with all its threads, reaped or not."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def is_exiting(handle: int) -> bool:
    """Tell whether the process behind a pidfd has ended or is on its way out: it may have closed its files already.

    Between the two lies a moment in which the pidfd says that it lives (PF_EXITING in proc_pid_stat(5), do_exit).
    """
    info = read(f"/proc/self/fdinfo/{handle}") or b""
    pid = next((int(line.split()[1]) for line in info.splitlines() if line.startswith(b"Pid:")), -1)
    fields = stat(pid) if pid > 0 else None
    return fields is None or bool(int(fields[FLAGS]) & _PF_EXITING) or has_ended(handle)


def reap(kind: int, child: int) -> bool:
    """Reap one ended child, named by pid (os.P_PID) or pidfd (os.P_PIDFD); return whether it had ended."""
    try:
        return os.waitid(kind, child, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False
