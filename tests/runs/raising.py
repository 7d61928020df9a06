"""Raising an exception in any actor of a run under way, without a hook in the program.

A `sitecustomize` on the run's PYTHONPATH remembers the running system when the orchestrator makes it, and passes what
comes through a FIFO on to the actor of that name, as a message that no actor knows.
"""

import os
from pathlib import Path

_SITECUSTOMIZE = '''
import importlib.abc
import importlib.util
import os
import sys
import threading


class Unheard:
    """What no actor expects."""


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


class Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self.inner = inner

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        self.inner.exec_module(module)
        module.start_runtime = wrapped(module.start_runtime)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "lorch_actors.actors.runtime":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = Loader(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
'''


class Raiser:
    """Makes actors of one run raise. ``env`` goes into the environment of the run."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self._fifo = directory / "fifo"
        os.mkfifo(self._fifo)
        # Open for both, so that neither end waits for the other, and a restarted orchestrator finds a writer.
        self._fd = os.open(self._fifo, os.O_RDWR)
        path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
        self.env = {"PYTHONPATH": path, "RAISING_FIFO": str(self._fifo)}

    def strike(self, *actors: str) -> None:
        """Have each of these raise at its next turn."""
        os.write(self._fd, "".join(f"{actor}\n" for actor in actors).encode())

    def env_at_start(self, *actors: str) -> dict[str, str]:
        """Return the environment of a run in which the first incarnation of each of these raises while it starts."""
        return self.env | {"RAISING_AT_START": " ".join(actors)}

    def close(self) -> None:
        """Free the FIFO."""
        os.close(self._fd)
