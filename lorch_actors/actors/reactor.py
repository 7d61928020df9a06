"""What actors have waited for on their behalf: files, processes and points in time."""

from collections.abc import Callable
from typing import Protocol

Callback = Callable[[], object]


class Timer(Protocol):
    """Something that will happen unless it is called off."""

    def cancel(self) -> None:
        """Call it off. Harmless when it has already happened."""
        ...


class Reactor(Protocol):
    """Waits for files, processes and times; see ``epoll_reactor`` for the promises.

    Callbacks run in the reactor's thread. ``owner`` is the name of the actor that is told to crash when one raises.
    """

    def watch_read(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back as long as ``fd`` has something to read, has ended or is broken."""
        ...

    def watch_arrivals(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back when more has come to ``fd``, once, so that who reads it need not pause it meanwhile.

        Whoever is called reads until there is nothing left. The end of a stream may come together with its last bytes.
        """
        ...

    def watch_write(self, fd: int, callback: Callback, owner: str) -> None:
        """Call back once, when ``fd`` can be written or is broken."""
        ...

    def watch_process(self, pidfd: int, callback: Callback, owner: str) -> None:
        """Call back once, when the process is dead."""
        ...

    def pause_read(self, fd: int) -> None:
        """Stop reading ``fd`` for now."""
        ...

    def resume_read(self, fd: int) -> None:
        """Go on reading ``fd``."""
        ...

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``; when this returns no callback runs for it."""
        ...

    def call_at(self, steady_ms: int, callback: Callback, owner: str = "") -> Timer:
        """Call back at a time of the steady clock."""
        ...

    def call_soon(self, callback: Callback, owner: str = "") -> None:
        """Call back as soon as possible."""
        ...

    def close(self) -> None:
        """Forget everything and end."""
        ...
