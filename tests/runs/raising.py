"""Raising an exception in any actor of a run under way, without a hook in the program.

What is hooked remembers the running system when the orchestrator makes it, and passes what comes through a FIFO on to
the actor of that name, as a message that no actor knows.
"""

import os
from pathlib import Path

from hooking import hooked

_CODE = """
import os
import threading


class Unheard:
    '''What no actor expects.'''


def listen(runtime):
    with open(os.environ["RAISING_FIFO"]) as fifo:
        for line in fifo:
            runtime.tell(line.strip(), Unheard())


def trip(directory, names):
    register = directory.register

    def registering(name, receiver):
        register(name, receiver)
        if name in names:
            names.remove(name)
            receiver.tell(Unheard())  # before anything that would let it say that it is up

    directory.register = registering


def wrapped(start):
    def start_runtime(**options):
        runtime = start(**options)
        trip(runtime.directory, os.environ.get("RAISING_AT_START", "").split())
        threading.Thread(target=listen, args=(runtime,), daemon=True).start()
        return runtime

    return start_runtime


start_runtime = wrapped(start_runtime)
"""


class Raiser:
    """Makes actors of one run raise. ``env`` goes into the environment of the run."""

    def __init__(self, directory: Path) -> None:
        env = hooked(directory, "lorch_actors.actors.runtime", _CODE)
        self._fifo = directory / "fifo"
        os.mkfifo(self._fifo)
        # Open for both, so that neither end waits for the other, and a restarted orchestrator finds a writer.
        self._fd = os.open(self._fifo, os.O_RDWR)
        self.env = {**env, "RAISING_FIFO": str(self._fifo)}

    def strike(self, *actors: str) -> None:
        """Have each of these raise at its next turn."""
        os.write(self._fd, "".join(f"{actor}\n" for actor in actors).encode())

    def env_at_start(self, *actors: str) -> dict[str, str]:
        """Return the environment of a run in which the first incarnation of each of these raises while it starts."""
        return self.env | {"RAISING_AT_START": " ".join(actors)}

    def close(self) -> None:
        """Free the FIFO."""
        os.close(self._fd)
