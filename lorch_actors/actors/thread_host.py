"""Workers in threads: for tests, and for whoever has no need of a process.

Same face and same promises as worker processes, but that a thread cannot be killed: it is cut off instead, and what
it says from then on is dropped. Messages cross as frames' bytes, so what would not cross to a process does not here.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.actors.worker_loop import WorkerLoop, failure
from lorch_actors.processes import ProcessIdentity


class ThreadLink:
    """A worker in a thread of its own; see ``worker.WorkerLink``."""

    def __init__(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> None:
        self.identity: ProcessIdentity | None = None
        self._wake = wake
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._outbox: list[Frame] = []
        self._dead: str | None = None
        self._thread = threading.Thread(target=self._run, args=(create,), name=f"worker {name}", daemon=True)
        self._thread.start()

    def send(self, number: int, message: object) -> None:
        """Hand the message over."""
        self._inbox.put(encode_frame(Frame(FrameKind.MESSAGE, number, message)))

    def take(self) -> list[Frame]:
        """Return what has arrived."""
        with self._lock:
            frames, self._outbox = self._outbox, []
            return frames

    def dead(self) -> str | None:
        """Return why the worker is dead."""
        with self._lock:
            return self._dead if not self._outbox else None

    def close_sending(self) -> None:
        """Ask the worker to end after what was sent."""
        self._inbox.put(None)

    def kill(self) -> None:
        """Cut it off."""
        self._die("killed")
        self._inbox.put(None)

    def release(self, wait_ms: int = 0) -> None:
        """Cut it off; wait for its thread."""
        self.kill()
        self._thread.join(wait_ms / 1000)

    def _die(self, why: str) -> None:
        with self._lock:
            if self._dead is not None:
                return
            self._dead = why
        self._wake()

    def _send(self, frames: Sequence[Frame]) -> None:
        reader = FrameReader()
        crossed = [one for frame in frames for one in reader.feed(encode_frame(frame))]
        with self._lock:
            if self._dead is not None:
                raise SystemExit  # cut off: nobody is there any more
            self._outbox += crossed
        self._wake()

    def _run(self, create: Callable[[], Worker]) -> None:
        try:
            loop = WorkerLoop(create(), self._send)
            loop.open()
            while batch := self._next_batch():
                loop.handle(batch)
            loop.close()
        except BaseException as error:  # noqa: BLE001 - as a process would end of it, so does this thread
            self._fail(error)
        else:
            self._die("closed")

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(SystemExit):
            self._send([failure(error)])
        self._die("failed")

    def _next_batch(self) -> list[Frame]:
        reader = FrameReader()
        batch: list[Frame] = []
        data = self._inbox.get()
        while data is not None:
            batch += reader.feed(data)
            if self._inbox.empty():
                return batch
            data = self._inbox.get()
        if batch:
            self._inbox.put(None)
        return batch


class ThreadHost:
    """Starts workers in threads."""

    def start(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> ThreadLink:
        """Start one."""
        return ThreadLink(name, create, wake)

    def close(self) -> None:
        """There is nothing to end."""
