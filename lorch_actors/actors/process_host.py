"""Worker processes, as the orchestrator holds them.

A worker is a child of the fork server, watched by pidfd (the fork server may die while it lives) and spoken to over one
socket pair. Promises: neither starting nor sending blocks; ``dead`` is said only when the kernel has said so, after
everything the process had sent was taken; a fork server that hangs is replaced.

``multiprocessing`` is left out on purpose: its fork server takes two further interpreters, which import everything
anew, and ``Process`` runs the main script again in every child and joins children without a deadline at exit.
"""

import contextlib
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from lorch_actors.actors.clock import Clock
from lorch_actors.actors.fork_server import ForkServer
from lorch_actors.actors.frames import FrameError, FrameReader, encode_frame
from lorch_actors.actors.reactor import Reactor
from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.actors.worker_process import introduction
from lorch_actors.processes import ProcessIdentity, identify

_CHUNK_BYTES: Final = 256 * 1024


class ProcessHost:
    """Starts workers in processes, with the help of a fork server."""

    def __init__(self, reactor: Reactor, clock: Clock, server: ForkServer) -> None:
        self._reactor = reactor
        self.server = server
        server.attach(reactor, clock)

    def start(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> "ProcessLink":
        """Start one; see ``worker.WorkerHost``."""
        return ProcessLink(name, introduction(name, create), wake, self._reactor, self.server)

    def close(self) -> None:
        """End the fork server."""
        self.server.close()


class ProcessLink:
    """A worker in a process of its own; see ``worker.WorkerLink``."""

    def __init__(
        self,
        name: str,
        introduction: Frame,
        wake: Callable[[], object],
        reactor: Reactor,
        server: ForkServer,
    ) -> None:
        self.identity: ProcessIdentity | None = None
        self._name = name
        self._wake = wake
        self._reactor = reactor
        self._reader = FrameReader()
        self._outgoing: deque[memoryview] = deque()
        self._closing = False
        self._open = True
        self._damage: str | None = None
        self._reported: str | None = None
        self._lock = threading.Lock()  # over the fields below, which the reactor touches too
        self._launching = True
        self._pidfd: int | None = None
        self._kill_wanted = False
        self._gone: str | None = None
        self._gone_event = threading.Event()
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(0)
        self._fd = self._socket.fileno()
        reactor.watch_arrivals(self._fd, wake, name)
        self._send(introduction)
        server.fork(theirs, self._on_forked)

    def send(self, number: int, message: object) -> None:
        """Send a message, now or as soon as the worker takes it."""
        self._send(Frame(FrameKind.MESSAGE, number, message))

    def _send(self, frame: Frame) -> None:
        self._outgoing.append(memoryview(encode_frame(frame)))
        if len(self._outgoing) == 1:
            self._flush()

    def take(self) -> list[Frame]:
        """Return what has arrived."""
        with self._lock:
            gone = self._gone
            launching = self._launching
        if launching:
            return []  # the end of the launch wakes again
        frames = self._receive() if self._open else []
        self._flush()
        self._reported = gone if gone is None or self._damage is None else self._damage
        return frames

    def dead(self) -> str | None:
        """Return why the worker is dead."""
        return self._reported

    def close_sending(self) -> None:
        """Ask the worker to end after what was sent."""
        self._closing = True
        self._flush()

    def kill(self) -> None:
        """SIGKILL, through the pidfd: it cannot meet another process."""
        with self._lock:
            self._kill_wanted = True
            self._kill_now()

    def release(self, wait_ms: int = 0) -> None:
        """Kill it, wait for its death, close the socket. The pidfd is closed when it is dead."""
        if not self._gone_event.is_set():
            self.kill()
            self._gone_event.wait(wait_ms / 1000)
        self._close_socket()

    def _receive(self) -> list[Frame]:
        frames: list[Frame] = []
        try:
            while data := self._socket.recv(_CHUNK_BYTES):
                frames += self._reader.feed(data)
                if len(data) < _CHUNK_BYTES:
                    return frames  # that was all; what comes from now on wakes again
        except BlockingIOError:
            return frames
        except FrameError as error:
            self._damage = f"it sent damage: {error.what}"
        except OSError:
            pass  # reset by its death, which the pidfd reports
        self._close_socket()
        self.kill()  # a worker that has closed its socket, or sends damage, is of no use alive
        return frames

    def _flush(self) -> None:
        try:
            while self._outgoing and self._open:
                data = self._outgoing[0]
                sent = self._socket.send(data)
                if sent < len(data):
                    self._outgoing[0] = data[sent:]
                else:
                    self._outgoing.popleft()
            if self._closing and self._open:
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._reactor.watch_write(self._fd, self._wake, self._name)
        except OSError:
            self._outgoing.clear()  # it is dead, which the pidfd reports; what it has not acknowledged goes to the next

    def _close_socket(self) -> None:
        if self._open:
            self._open = False
            self._reactor.unwatch(self._fd)
            self._socket.close()

    # -- in the reactor's thread --------------------------------------------------------------------------------

    def _on_death(self) -> None:
        with self._lock:
            pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            with contextlib.suppress(ChildProcessError):  # ours to reap only when its fork server died before it
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            os.close(pidfd)
        self._set_gone("its process died")

    def _on_forked(self, answer: tuple[int, int] | OSError) -> None:
        if isinstance(answer, OSError):
            self._set_gone(f"it could not be started: {answer}")
            return
        pid, pidfd = answer
        with self._lock:
            self.identity = identify(pid)
            self._pidfd = pidfd
            self._launching = False
            if self._kill_wanted:
                self._kill_now()
        self._reactor.watch_process(pidfd, self._on_death, self._name)
        self._wake()

    def _kill_now(self) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _set_gone(self, why: str) -> None:
        with self._lock:
            self._gone = why
            self._launching = False
        self._gone_event.set()
        self._wake()
