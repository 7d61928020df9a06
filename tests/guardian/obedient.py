"""A program under guard whose orchestrator does what a test tells it, over a socket that every incarnation inherits.

Arguments: number of the socket, limits as JSON, then the command line.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

from lorch_actors.guardian import GuardianLink, Limits, guard

BEAT_MS = 20


class Leave(Exception):  # noqa: N818 - not a fault
    """Ends the orchestrator with an exit code."""


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = Limits(**json.loads(sys.argv[2]))
    return guard(sys.argv[3:], lambda argv, link: obey(argv, link, control), limits=limits)


def obey(argv: list[str], link: GuardianLink, control: socket.socket) -> int:
    def tell(**facts):
        control.sendall(json.dumps(facts).encode() + b"\n")

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: tell(signal="SIGINT"))
    signal.signal(signal.SIGTERM, lambda *_: tell(signal="SIGTERM"))
    tell(
        argv=argv,
        pid=os.getpid(),
        guardian=link.guardian_pid,
        run_id=link.run_id,
        start=link.start,
        workspace=link.workspace,
        marker=os.environ.get("LORCH_RUN_ID"),
    )
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(link.pidfd, select.POLLIN)
    try:
        while True:
            ready = {source for source, _ in poll.poll(BEAT_MS)}
            link.beat()
            if link.pidfd in ready:
                tell(guardian="gone")
                os._exit(5)
            if control.fileno() in ready:
                carry_out(control.recv(4096).decode().split(), link, tell)
    except Leave as leave:
        return leave.args[0]


def carry_out(order, link, tell):
    match order:
        case ["exit", code]:
            raise Leave(int(code))
        case ["raise"]:
            raise RuntimeError("a bug")
        case ["interrupt"]:
            raise KeyboardInterrupt
        case ["stumble"]:
            raise LookupError("another bug")
        case ["settled"]:
            link.settled()
            tell(done="settled")
        case ["beat", seconds]:
            end = time.monotonic() + float(seconds)
            while time.monotonic() < end:
                link.beat()
                time.sleep(BEAT_MS / 1000)
            tell(done="beat")
        case ["tree"]:
            tell(tree=grow_tree())
        case ["print"]:
            with suppress(OSError):
                print("hello", flush=True)
            tell(done="print")


def grow_tree() -> list[int]:
    """Start what is hard to end: sessions of their own, an orphan, one that ignores SIGTERM, one that stands still."""
    ready, telling = os.pipe()
    code = (
        "import os, signal, time, sys\n"
        "fd = int(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.write(fd, b'%d\\n' % os.getpid())\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os.write(fd, b'%d\\n' % os.getpid())\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-S", "-E", "-c", code, str(telling)]
    subprocess.Popen(command, pass_fds=[telling], start_new_session=True)
    os.close(telling)
    said = b""
    while said.count(b"\n") < 2:
        said += os.read(ready, 100)
    os.close(ready)
    return [int(pid) for pid in said.split()]


if __name__ == "__main__":
    sys.exit(main())
