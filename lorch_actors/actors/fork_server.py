"""The fork server: a process without threads, from which worker processes are forked with everything imported.

The first one is the orchestrator's own younger self, forked before that had a thread: it costs a millisecond. When it
dies, the next one is a program of its own, since a process with threads must not be forked. Promises: asking never
blocks; a worker outlives the server it came from; a server that stands still, or never answers, is replaced; a server
is gone when its orchestrator is, also when it stands still.
"""

import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Final, NoReturn

from lorch_actors import processes
from lorch_actors.actors.clock import Clock
from lorch_actors.actors.reactor import Reactor
from lorch_actors.actors.worker_process import IGNORED, close_all_but, use_no_input, work

NAME: Final = "lorch-forks"
"""What ``ps`` calls it."""

_NUMBER_BYTES: Final = 8
_ANSWER_BYTES: Final = 64
_CONTROL_FD: Final = 0
"""Where a server that is a program of its own finds its socket."""
_END_MS: Final = 1000
_LOOK_MS: Final = 200
"""How often to look at a server that owes an answer: a busy one is left alone, one that was stopped is not."""
_ANSWER_MAX_MS: Final = 8000
"""How long an answer may take, whatever the reason: less than what a worker's front has for its start."""

Answer = Callable[["tuple[int, int] | OSError"], object]
"""Called in the reactor's thread: pid and pidfd of a worker, or why there is none. The pidfd is the callee's."""


class ForkServer:
    """The orchestrator's hold on the fork server; all but ``close`` happens in the reactor's thread.

    preload: the modules that workers need: imported once here or in the server, not once more in each of them.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = preload
        self._reactor: Reactor | None = None
        self._clock: Clock | None = None
        self._waiting: deque[tuple[Answer, int]] = deque()  # with the time of the question
        self._looking = False
        self._control: socket.socket | None = None
        self.pid: int | None = None
        self._pidfd = -1
        self._begin()

    def attach(self, reactor: Reactor, clock: Clock) -> None:
        """Wait for answers with this reactor, which goes by this clock."""
        self._reactor = reactor
        self._clock = clock
        self._listen()

    def _listen(self) -> None:
        if self._reactor is not None and self._control is not None:
            self._reactor.watch_read(self._control.fileno(), self._on_answer, NAME)

    def fork(self, connection: socket.socket, answer: Answer) -> None:
        """Have a worker forked that speaks on this connection, which is closed here; call back when it is there."""
        assert self._reactor is not None
        self._reactor.call_soon(lambda: self._ask(connection, answer), NAME)

    def close(self) -> None:
        """End the server. The reactor must have ended before."""
        self._reactor = None
        self._give_up()

    # -- in the reactor's thread --------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start a server: fork oneself, or a program of its own once there are threads."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            alone = len(os.listdir("/proc/self/task")) == 1
            self.pid = _fork_oneself(theirs, self._preload) if alone else _spawn(theirs, self._preload)
        self._pidfd = os.pidfd_open(self.pid)
        self._control.settimeout(0)
        self._listen()

    def _ask(self, connection: socket.socket, answer: Answer) -> None:
        with connection:
            own_pidfd = os.pidfd_open(os.getpid())
            try:
                self._send([connection.fileno(), own_pidfd])
            except OSError as error:
                answer(error)
            else:
                self._waiting.append((answer, self._now_ms()))
                self._look_later()
            finally:
                os.close(own_pidfd)

    def _send(self, fds: list[int]) -> None:
        if self._control is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._control, [b"w"], fds)
                return
            self._give_up()
        self._begin()
        assert self._control is not None
        socket.send_fds(self._control, [b"w"], fds)

    def _on_answer(self) -> None:
        assert self._control is not None
        try:
            said, fds, _, _ = socket.recv_fds(self._control, _ANSWER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            said = b""
        if not said:
            self._give_up()
            return
        number = int.from_bytes(said, "big", signed=True)
        answer, _ = self._waiting.popleft()
        answer((number, fds[0]) if fds else OSError(-number, os.strerror(-number)))

    def _look_later(self) -> None:
        if self._reactor is not None and not self._looking:
            self._looking = True
            self._reactor.call_at(self._now_ms() + _LOOK_MS, self._look, NAME)

    def _look(self) -> None:
        """End a server that will not answer; who waits for it is told, and the next request goes to another."""
        self._looking = False
        if not self._waiting or self.pid is None:
            return
        overdue = self._now_ms() >= self._waiting[0][1] + _ANSWER_MAX_MS
        if overdue or processes.stands_still(self.pid):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._look_later()

    def _now_ms(self) -> int:
        assert self._clock is not None
        return self._clock.steady_ms()

    def _give_up(self) -> None:
        """Bury a server that has ended, or is to end now that nobody speaks with it any more."""
        control, self._control = self._control, None
        if control is None:
            return
        if self._reactor is not None:
            self._reactor.unwatch(control.fileno())
        control.close()
        with suppress(ProcessLookupError, ChildProcessError):  # a sweep that ended it has reaped it as well
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(_END_MS)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        while self._waiting:
            answer, _ = self._waiting.popleft()
            answer(ConnectionResetError("the fork server has died"))


def _fork_oneself(control: socket.socket, preload: Sequence[str]) -> int:
    _import(preload)
    parent_pid = os.getpid()
    gc.freeze()  # what is there now stays, and is shared as long as nobody's collector touches it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    pid = os.fork()
    if pid == 0:
        with _ending():
            processes.die_with_parent(parent_pid)  # it has no marker in its environment by which it could be found
            _serve(control)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _spawn(control: socket.socket, preload: Sequence[str]) -> int:
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main({list(preload)!r})"
    flags = ["-I", *(["-B"] if sys.dont_write_bytecode else [])]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *flags, "-c", program],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, control.fileno(), _CONTROL_FD)],
        setsigmask=IGNORED,
    )


# -- in the server ----------------------------------------------------------------------------------------------


def main(preload: Sequence[str]) -> NoReturn:
    """Be a fork server that is a program of its own."""
    with _ending():
        _import(preload)
        control = socket.socket(fileno=os.dup(_CONTROL_FD))
        use_no_input()
        gc.freeze()
        _serve(control)
    raise AssertionError("unreachable")


def _import(names: Sequence[str]) -> None:
    for name in names:
        import_module(name)


@contextmanager
def _ending() -> Iterator[None]:
    """End the process behind the block, whatever happens in it."""
    code = 1
    try:
        yield
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may go back to whom this process is a copy of
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(control: socket.socket) -> None:
    """Fork a worker for every request, until the orchestrator hangs up."""
    close_all_but(control.fileno())
    processes.set_name(NAME)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    control.settimeout(None)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == control.fileno():
                request, fds, _, _ = socket.recv_fds(control, 1, 2, socket.MSG_CMSG_CLOEXEC)
                if not request:
                    return
                pidfd = _answer(control, fds)
                if pidfd is not None:
                    poll.register(pidfd, select.POLLIN)
            else:
                poll.unregister(fd)
                os.waitid(os.P_PIDFD, fd, os.WEXITED)
                os.close(fd)


def _answer(control: socket.socket, fds: Sequence[int]) -> int | None:
    """Fork a worker, say which, and return a handle on it; None if there was no room for one."""
    try:
        pid = os.fork()
    except OSError as error:
        _close(fds)
        control.send((-(error.errno or 0)).to_bytes(_NUMBER_BYTES, "big", signed=True))
        return None
    if pid == 0:
        os._exit(work(*fds))
    _close(fds)
    pidfd = os.pidfd_open(pid)  # it is ours to reap, so the number is its own
    socket.send_fds(control, [pid.to_bytes(_NUMBER_BYTES, "big", signed=True)], [pidfd])
    return pidfd


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
