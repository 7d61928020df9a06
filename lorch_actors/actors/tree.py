"""The tree of actors as the main thread sees it: start it, wait for it with a deadline, ask it to stop.

The main thread is no actor; it stands above the root supervisor under a name of its own and hears of its start and end.
"""

import threading
from typing import Any

from lorch_actors.actors.base import ActorContext, Fence
from lorch_actors.actors.child import ChildSpec
from lorch_actors.actors.messages import Abandon, Down, Reason, Started, Stop
from lorch_actors.actors.runtime import Runtime


class Tree:
    """A running tree. Make one with ``start_tree``."""

    def __init__(self, runtime: Runtime, root: ChildSpec) -> None:
        self._runtime = runtime
        self._root = root
        self._fence = Fence()
        self._started = threading.Event()
        self._ended = threading.Event()
        self._reason: Reason | None = None
        self._name = f"owner of {root.name}"
        runtime.directory.register(self._name, self)
        incarnation = runtime.directory.next_incarnation(root.name)
        self._ref = root.start(ActorContext(root.name, incarnation, self._name, runtime, self._fence))

    def tell(self, message: Any) -> None:
        """Take what the root reports. For the root only."""
        match message:
            case Started():
                self._started.set()
            case Down(_, _, reason):
                self._reason = reason
                self._runtime.directory.unregister(self._name, self)
                self._ended.set()
                self._started.set()
            case _:
                raise TypeError(f"{self._name} does not expect {type(message).__name__}")

    def wait_started(self, timeout_ms: int) -> bool:
        """Wait until all actors are up; False when they are not after ``timeout_ms`` or the start has failed."""
        return self._started.wait(timeout_ms / 1000) and not self._ended.is_set()

    def wait(self, timeout_ms: int | None = None) -> Reason | None:
        """Wait for the end and return its reason; None when the tree still stands after ``timeout_ms``."""
        self._ended.wait(None if timeout_ms is None else timeout_ms / 1000)
        return self._reason

    def stop(self) -> None:
        """Ask the root to stop. Returns at once; ``wait`` tells when it is done."""
        if self._ref.is_alive():
            self._runtime.directory.tell(self._root.name, Stop())

    def abandon(self) -> None:
        """Cut everything off and kill what can be killed: the last resort when ``wait`` has returned None."""
        self._fence.cut()
        self._runtime.directory.tell(self._root.name, Abandon())


def start_tree(runtime: Runtime, root: ChildSpec) -> Tree:
    """Start the root (usually ``child(Supervisor, …)``) and return at once."""
    return Tree(runtime, root)
