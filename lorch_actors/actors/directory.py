"""Names of actors. A name stays when the actor behind it is replaced.

Telling a name that nobody has drops the message, as in Erlang: whoever restarts catches up by itself.
This is not pykka's registry, which is one for the whole process and stops everything in it at once.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

import pykka


class Receiver(Protocol):
    """Whoever can be told something: a pykka ``ActorRef``, or a thread that waits for an answer."""

    def tell(self, message: Any) -> None:
        """Take the message without blocking."""
        ...


class Directory:
    """Who has which name now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._receivers: dict[str, Receiver] = {}
        self._incarnations: defaultdict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
        self._waiting: defaultdict[str, list[Callable[[], object]]] = defaultdict(list)
        self.dropped = 0

    def tell(self, name: str, message: Any) -> bool:
        """Send ``message`` to whoever has the name; False, and counted in ``dropped``, when nobody has."""
        receiver = self._receivers.get(name)
        if receiver is not None:
            try:
                receiver.tell(message)
            except pykka.ActorDeadError:
                pass
            else:
                return True
        with self._lock:
            self.dropped += 1
        return False

    def register(self, name: str, receiver: Receiver) -> None:
        """Give the name to ``receiver``, taking it from whoever had it."""
        with self._lock:
            self._receivers[name] = receiver

    def unregister(self, name: str, receiver: Receiver) -> None:
        """Free the name, unless it has passed to somebody else already."""
        with self._lock:
            if self._receivers.get(name) is not receiver:
                return
            del self._receivers[name]
            waiting = self._waiting.pop(name, [])
        for callback in waiting:
            callback()

    def find(self, name: str) -> Receiver | None:
        """Return who has the name now."""
        return self._receivers.get(name)

    def when_free(self, name: str, callback: Callable[[], object]) -> bool:
        """Return True when nobody has the name; else False, and call back (in any thread) once it is free."""
        with self._lock:
            if name not in self._receivers:
                return True
            self._waiting[name].append(callback)
            return False

    def next_incarnation(self, name: str) -> int:
        """Return 1, 2, 3 … for the actors that bear this name one after the other, whoever supervises them."""
        with self._lock:
            return next(self._incarnations[name])
