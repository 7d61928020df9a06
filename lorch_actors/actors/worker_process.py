"""The inside of a worker process.

The fork server's child calls ``work``; which worker it is to be, it is told by the first frame from its front.
Promises: the process holds no descriptor but its socket, a pidfd and its standard streams; it is gone as soon as the
orchestrator is, busy or idle; the signals a terminal or a service manager sends to everybody leave it alone, since its
front ends it in order.
"""

import contextlib
import os
import pickle
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from lorch_actors import processes
from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.actors.worker_loop import WorkerLoop, failure

_CHUNK_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 8 * 1024 * 1024  # a batch is handed over when it has grown past this
_ORPHANED_S: Final = 10.0
IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a service manager sends to everybody: it is the orchestrator's business."""


def introduction(name: str, create: Callable[[], Worker]) -> Frame:
    """Return what a worker process has to be sent first. Raises whatever pickling ``create`` raises."""
    return Frame(FrameKind.MESSAGE, 0, [name, pickle.dumps(create)])


def work(socket_fd: int, orchestrator_pidfd: int) -> int:
    """Be the worker process at the other end of this socket; return its exit code."""
    use_no_input()
    close_all_but(socket_fd, orchestrator_pidfd)
    watch = _OrphanWatch(orchestrator_pidfd)
    code = 0
    with socket.socket(fileno=socket_fd) as connection:

        def send(frames: Sequence[Frame]) -> None:
            connection.sendall(b"".join(map(encode_frame, frames)))

        try:
            _work(connection, send, watch)
        except BaseException as error:  # noqa: BLE001 - the front is told, and the process ends
            with contextlib.suppress(OSError):
                send([failure(error)])
            code = 1
    watch.finish()
    return code


def _work(connection: socket.socket, send: Callable[[Sequence[Frame]], None], watch: "_OrphanWatch") -> None:
    reader = FrameReader()
    arrivals = select.poll()
    arrivals.register(connection, select.POLLIN)
    batch = _next_batch(connection, reader, arrivals)
    if not batch:
        return  # the front has given it up already
    name, create = batch.pop(0).body
    processes.set_name(f"lorch-{name}")
    worker: Worker = pickle.loads(create)()  # noqa: S301 - our own
    loop = WorkerLoop(worker, send)
    loop.open()
    watch.then = worker.orphaned
    while batch or (batch := _next_batch(connection, reader, arrivals)):
        loop.handle(batch)
        batch = []
    loop.close()


def _next_batch(connection: socket.socket, reader: FrameReader, arrivals: select.poll) -> list[Frame]:
    """Wait for messages and return all that have arrived; nothing when the front wants no more.

    Waited for in ``poll``: who waits in ``recv`` is woken also when the other side takes an answer.
    """
    batch: list[Frame] = []
    size_bytes = 0
    while size_bytes < _BATCH_BYTES:
        if not batch:
            arrivals.poll()
        try:
            data = connection.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        if not data:
            break
        size_bytes += len(data)
        batch += reader.feed(data)
        if batch and len(data) < _CHUNK_BYTES:
            break  # that was all
        if not batch:
            size_bytes = 0  # one large message is coming in; it is waited for whatever its size
    return batch


def close_all_but(*kept: int) -> None:
    """Close every descriptor but these and the standard streams."""
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the one that listed the directory is closed already
                os.close(fd)


def use_no_input() -> None:
    """Read nothing from standard input."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


class _OrphanWatch:
    """Ends this process when the orchestrator is dead, whatever it is doing; before that, does what is left to do."""

    def __init__(self, orchestrator_pidfd: int) -> None:
        self.then: Callable[[], None] | None = None
        self._orchestrator = orchestrator_pidfd
        self._thread = threading.Thread(target=self._watch, name="orphan watch", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Leave an orphan's end to the thread; return at once if the orchestrator lives.

        One that is about to end has closed its sockets before its pidfd tells of it.
        """
        if processes.is_exiting(self._orchestrator):
            self._thread.join(_ORPHANED_S)

    def _watch(self) -> None:
        try:
            poll = select.poll()
            poll.register(self._orchestrator, select.POLLIN)
            poll.poll()
            if self.then is not None:
                self.then()
        finally:
            os._exit(0)
