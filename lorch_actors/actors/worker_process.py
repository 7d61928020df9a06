"""The inside of a worker process.

``WorkerProcess`` is what the orchestrator sends to the fork server; the server's child unpickles it and calls
``_bootstrap``, the way ``multiprocessing`` starts its own ``Process`` objects (``multiprocessing.spawn._main``).
Promises: the process holds no descriptor but its socket and its standard streams (the fork server's alive descriptor
would keep that one up); it is gone as soon as the orchestrator is, busy or idle; the signals a terminal or a service
manager sends to everybody leave it alone, since its front ends it in order.
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

from lorch_actors.actors.frames import FrameReader, encode_frame
from lorch_actors.actors.worker import Frame, Worker
from lorch_actors.actors.worker_loop import WorkerLoop, failure

_CHUNK_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 8 * 1024 * 1024  # a batch is handed over when it has grown past this
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class WorkerProcess:
    """One worker to be run in a process of its own. ``create`` must be picklable."""

    def __init__(self, name: str, create: Callable[[], Worker]) -> None:
        self._name = name
        self._create = pickle.dumps(create)  # unpickled late, so that a failure can be told to the front

    def _bootstrap(self, _parent_sentinel: int) -> int:
        from multiprocessing import forkserver

        inherited = forkserver.get_inherited_fds()
        assert inherited is not None
        socket_fd, orchestrator_pidfd = inherited
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())  # the fork server has them blocked
        _close_all_but(socket_fd, orchestrator_pidfd)
        _set_name(f"lorch-{self._name}")
        threading.Thread(target=_end_with, args=(orchestrator_pidfd,), name="orphan watch", daemon=True).start()
        with socket.socket(fileno=socket_fd) as connection:
            return self._run(connection)

    def _run(self, connection: socket.socket) -> int:
        def send(frames: Sequence[Frame]) -> None:
            connection.sendall(b"".join(map(encode_frame, frames)))

        try:
            create = pickle.loads(self._create)  # noqa: S301 - our own, by way of the fork server
            loop = WorkerLoop(create(), send)
            loop.open()
            reader = FrameReader()
            while batch := _next_batch(connection, reader):
                loop.handle(batch)
            loop.close()
        except BaseException as error:  # noqa: BLE001 - the front is told, and the process ends
            with contextlib.suppress(OSError):
                send([failure(error)])
            return 1
        return 0


def _next_batch(connection: socket.socket, reader: FrameReader) -> list[Frame]:
    """Wait for messages and return all that have arrived; nothing when the front wants no more."""
    batch: list[Frame] = []
    size_bytes = 0
    while size_bytes < _BATCH_BYTES:
        try:
            data = connection.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT if batch else 0)
        except BlockingIOError:
            break
        if not data:
            break
        size_bytes += len(data)
        batch += reader.feed(data)
        if not batch:
            size_bytes = 0  # one large message is coming in; it is waited for whatever its size
    return batch


def _close_all_but(*kept: int) -> None:
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the one that listed the directory is closed already
                os.close(fd)


def _set_name(name: str) -> None:
    # What ``ps`` and ``top`` show; the kernel keeps 15 bytes.
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write(name[:15])


def _end_with(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os._exit(0)
