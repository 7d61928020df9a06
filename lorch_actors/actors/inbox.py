"""The inbox of the main thread: what actors tell it, and signals.

A handler of Python's runs in the main thread, as soon as that wakes up. One that waits for a queue does not, when the
signal came just before it began to wait, or when the kernel gave it to another thread: so it does while the main thread
has another signal to take. Therefore both come through one pipe, into which the interpreter writes the numbers of
signals at once, in whatever thread (``signal.set_wakeup_fd``).
"""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

_TOLD: Final = b"\0"
_READ_BYTES: Final = 4096


class Inbox:
    """What the main thread is told. Unbounded, but everybody tells it once or twice in a run."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._meanings: Mapping[int, Any] = {}
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writing, False)
        self._lock = threading.Lock()  # nobody writes where another file has got the number
        self._is_open = True

    def tell(self, message: Any) -> None:
        """Take a message, from any thread; not from the handler of a signal."""
        self._messages.append(message)
        with self._lock, contextlib.suppress(BlockingIOError):  # full: there is enough to wake up for
            if self._is_open:
                os.write(self._writing, _TOLD)

    def wait(self) -> Any:
        """Wait for the next message."""
        while not self._messages:
            for number in os.read(self._reading, _READ_BYTES):
                if (meaning := self._meanings.get(number)) is not None:
                    self._messages.append(meaning)
        return self._messages.popleft()

    @contextlib.contextmanager
    def hearing(self, meanings: Mapping[int, Any]) -> Iterator[None]:
        """Have these signals arrive as messages meanwhile; one that means None does nothing. In the main thread only.

        They are handled, not ignored: that would be passed on to every program that is started.
        """
        self._meanings = meanings
        wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda *_: None) for number in meanings}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

    def close(self) -> None:
        """Close the pipe; what is told from now on nobody hears."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._reading)
                os.close(self._writing)
