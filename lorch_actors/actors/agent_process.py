"""One process of an agent, with everything it starts: begun, written to, ended for certain; see ``agent_link``.

Not blocking: commands wait in a buffer that the reactor writes on, output is read in pieces when there is some. The
process leads a session of its own and carries the run's and its own marker in its environment, so that whatever it
leaves behind can be found.
"""

import fcntl
import os
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from lorch_actors import processes
from lorch_actors.actors.reactor import Reactor
from lorch_actors.processes import ProcessIdentity

AGENT_ID_VARIABLE: Final = "LORCH_AGENT_ID"
RUN_ID_VARIABLE: Final = "LORCH_RUN_ID"
SWEEP_S: Final = 2.0

_BEGINNING: Final = threading.Lock()
"""Held while a process is forked: until it has executed its command it has no marker and looks like a stray."""

_OWNED: Final[set[int]] = set()
"""Pids of agents whose end their actors will ask for. No sweep for others ends them: just after it has executed its
command a process has no environment to be seen yet, and looks like a stray as well."""


class AgentProcess:
    """See the module. Raises OSError from the constructor if the command cannot be executed."""

    def __init__(
        self,
        cmd: Sequence[str],
        *,
        workspace: str,
        env: Mapping[str, str],
        agent_id: str,
        reactor: Reactor,
        owner: str,
    ) -> None:
        self.agent_id = agent_id
        self._reactor = reactor
        self._owner = owner
        with _BEGINNING:
            self._popen = subprocess.Popen(
                list(cmd),
                cwd=workspace,
                env={**env, AGENT_ID_VARIABLE: agent_id},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            _OWNED.add(self._popen.pid)
        self.pid = self._popen.pid
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)
        except OSError:  # no descriptor left: it is no use to us, and nobody would ever end it
            with self._popen:
                self._popen.kill()
            _OWNED.discard(self.pid)
            raise
        self.identity: ProcessIdentity | None = processes.identify(self.pid)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._stdin = self._popen.stdin
        self.stdout = self._popen.stdout.fileno()
        self.stderr = self._popen.stderr.fileno()
        for fd in (self._stdin.fileno(), self.stdout, self.stderr):
            os.set_blocking(fd, False)
        self._unwritten = bytearray()
        self._killed = False  # by us
        self._never_read = 0  # bytes of input that were left when it was closed

    def watch(self, on_exit: Callable[[], object]) -> None:
        """Call back in the reactor's thread when the process has died."""
        assert self._pidfd is not None
        self._reactor.watch_process(self._pidfd, on_exit, self._owner)

    def read(self, output: int, size_bytes: int) -> bytes | None:
        """Return what is there of ``stdout`` or ``stderr``, nothing at its end, None if there is nothing yet."""
        try:
            return os.read(output, size_bytes)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    @property
    def is_reading(self) -> bool:
        """Whether everything that was written has been taken."""
        return not self._unwritten

    def write(self, data: bytes) -> bool:
        """Write what the process takes now, the rest as it takes it; False when it takes nothing any more."""
        self._unwritten += data
        return self.flush()

    def flush(self) -> bool:
        """Go on writing; False when the process does not read any more."""
        if self._stdin.closed:
            return False
        try:
            while self._unwritten:
                written = os.write(self._stdin.fileno(), self._unwritten)
                del self._unwritten[:written]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def on_writable(self, callback: Callable[[], object]) -> None:
        """Call back in the reactor's thread when there is room for what waits to be written."""
        if not self._stdin.closed:
            self._reactor.watch_write(self._stdin.fileno(), callback, self._owner)

    def unread_bytes(self) -> int:
        """Return how much output waits in the pipe."""
        return _waiting_bytes(self.stdout)

    def unread_input_bytes(self) -> int:
        """Return how much of what was to be written the process has not read; what it left once its input is closed."""
        if self._stdin.closed:
            return self._never_read
        return len(self._unwritten) + _waiting_bytes(self._stdin.fileno())

    def close_stdin(self) -> None:
        """Say that no command will come any more."""
        if not self._stdin.closed:
            self._reactor.unwatch(self._stdin.fileno())
            self._never_read = self.unread_input_bytes()
            self._stdin.close()

    def terminate(self) -> None:
        """SIGTERM to the process and its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def end_tree(self) -> None:
        """SIGKILL the process and all that it started, whatever session it is in, and wait until it is gone.

        We inherit its orphans, so all of it is below us, and found without a look at every process of the machine.
        """
        self._killed |= self._popen.poll() is None  # whom the sweep ends it reaps as well, and the status is lost
        processes.end_all(self._tree, deadline_s=SWEEP_S)

    def _tree(self) -> set[int]:
        """Return the pids of the tree: by descent, by marker, and strays that were adopted and carry no marker."""
        found = {self.pid} if self._popen.returncode is None else set()
        with _BEGINNING:
            adopted = processes.nearest(os.getpid()) - _OWNED
            found |= {pid for pid in adopted if self._is_ours(pid) or _is_stray(pid)}
        return found.union(*map(processes.below, found)) - {os.getpid()}

    def _escaped(self) -> set[int]:
        """Return the pids of the tree and of those that somebody else adopted, or started at its wish."""
        table = processes.parents()
        found = self._tree() | processes.marked(AGENT_ID_VARIABLE, self.agent_id)
        with _BEGINNING:
            ours = {pid for pid, parent in table.items() if parent == os.getpid()} - _OWNED
            found |= {pid for pid in ours if _is_stray(pid)}
        return found.union(*(processes.descendants(pid, table) for pid in found)) - {os.getpid()}

    def _is_ours(self, pid: int) -> bool:
        return processes.environment_marker(pid, AGENT_ID_VARIABLE) == self.agent_id

    def reap(self) -> tuple[int | None, int | None]:
        """Return exit code and signal of the dead process, one of them None."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(SWEEP_S)
        code = self._popen.returncode
        if code is None:
            return None, None
        _OWNED.discard(self.pid)
        if self._killed:
            return None, signal.SIGKILL
        return (None, -code) if code < 0 else (code, None)

    def end_escaped(self) -> None:
        """End whoever has left the tree as well: that takes a look at every process."""
        processes.end_all(self._escaped, deadline_s=SWEEP_S)

    def release(self) -> None:
        """Free every descriptor."""
        self.close_stdin()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None and not stream.closed:
                self._reactor.unwatch(stream.fileno())
                stream.close()
        if self._pidfd is not None:
            self._reactor.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


class ProcessAgents:
    """Starts agents as processes of the machine; see ``agent_link.AgentHost``."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def start(
        self, cmd: Sequence[str], *, workspace: str, env: Mapping[str, str], agent_id: str, owner: str
    ) -> AgentProcess:
        """Start one."""
        return AgentProcess(cmd, workspace=workspace, env=env, agent_id=agent_id, reactor=self._reactor, owner=owner)


def _waiting_bytes(pipe: int) -> int:
    """Return how much waits in a pipe, asked at either end, also when nobody is left at the other."""
    found = bytearray(4)
    with suppress(OSError):
        fcntl.ioctl(pipe, termios.FIONREAD, found)
    return int.from_bytes(found, "little")


def _is_stray(pid: int) -> bool:
    """Tell whether a child of ours was adopted from an agent and hides it: no marker, and not of our session."""
    try:
        elsewhere = os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:
        return False
    return elsewhere and processes.environment_marker(pid, RUN_ID_VARIABLE) is None


def reap_strays() -> None:
    """Reap children that were adopted from agents and have ended; what somebody waits for is left alone."""
    with _BEGINNING:
        processes.reap_adopted(_OWNED)
