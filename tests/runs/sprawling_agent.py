"""A scripted agent that leaves grandchildren behind, as tool shells do: orphans in sessions of their own.

The first argument names a file for their pids, each with the role of the agent that left it; the others are those of
the mockagent. One grandchild has the agent's environment, one has none, and both ignore every polite request.
"""

import os
import signal
import sys

STAYS = "import signal\nfor number in (1, 2, 15):\n    signal.signal(number, signal.SIG_IGN)\nsignal.pause()"


def leave(environment: dict[str, str], report: int) -> None:
    """Start a process whose parent is gone, in a session of its own; write its pid into the pipe."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(report, f"{os.getpid()} {os.environ['LORCH_AGENT_TYPE']}\n".encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.execve(sys.executable, [sys.executable, "-S", "-c", STAYS], environment)


def main() -> None:
    """Leave them, say who they are, and become the agent."""
    reading, writing = os.pipe()
    for environment in (dict(os.environ), {}):
        leave(environment, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pids, open(sys.argv[1], "ab") as file:
        file.write(pids.read())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "lorch_actors.agents", "mockagent", *sys.argv[2:]])


main()
