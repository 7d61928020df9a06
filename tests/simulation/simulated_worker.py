"""Workers under the scheduler: the face of a worker process, which may be killed between any two things it does.

Frames cross as they are. What was sent before a death still arrives, as from a socket; what was not is lost.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from scheduler import REACTOR, Scheduler

from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.actors.worker_loop import WorkerLoop, failure
from lorch_actors.processes import ProcessIdentity


class Death(BaseException):
    """A process is killed in the middle of what it does."""


class SimulatedHost:
    """Starts workers under the scheduler.

    links: of those that live, by name. before, after: called around everything that a worker does, with its link.
    """

    def __init__(self, scheduler: Scheduler, first_pid: int = 1000) -> None:
        self.scheduler = scheduler
        self.links: dict[str, SimulatedLink] = {}
        self._pid = first_pid

    def start(self, name: str, create: Callable[[], Worker], wake: Callable[[], object]) -> "SimulatedLink":
        self._pid += 1
        link = SimulatedLink(self, name, self._pid, create, wake)
        self.links[name] = link
        self.on_start(link)
        return link

    def close(self) -> None:
        """Start none any more."""

    def on_start(self, link: "SimulatedLink") -> None:
        """Note that a worker is started. To be overridden."""

    def at_work(self, link: "SimulatedLink", deed: Callable[[], object]) -> None:
        """Let a worker do something. To be extended."""
        self.scheduler.run_as(f"worker {link.name}", deed)

    def buried(self, link: "SimulatedLink") -> None:
        """Free what the process held. To be extended."""
        if self.links.get(link.name) is link:
            del self.links[link.name]


class SimulatedLink:
    """One worker; see ``worker.WorkerLink``. stalled: it lives and does nothing, as after SIGSTOP.

    owner: whose the files and locks are that it holds.
    """

    def __init__(
        self, host: SimulatedHost, name: str, pid: int, create: Callable[[], Worker], wake: Callable[[], object]
    ) -> None:
        self.name = name
        self.identity: ProcessIdentity | None = ProcessIdentity("simulated-boot", pid, pid)
        self.owner = f"worker {name} {pid}"
        self.stalled = False
        self.dies_before_sending = False
        self._host = host
        self._wake = wake
        self._create = create
        self._inbox: list[Frame] = []
        self._outbox: list[Frame] = []
        self._dead: str | None = None
        self._said = False
        self._closing = False
        self._closed = False
        self._loop: WorkerLoop | None = None
        host.scheduler.ready(self._open)

    # -- for the front ------------------------------------------------------------------------------------------

    def send(self, number: int, message: Any) -> None:
        self._inbox.append(Frame(FrameKind.MESSAGE, number, message))
        if len(self._inbox) == 1:
            self._host.scheduler.ready(self._handle)

    def take(self) -> list[Frame]:
        frames, self._outbox = self._outbox, []
        if self._dead is not None:
            self._said = True
        return frames

    def dead(self) -> str | None:
        return self._dead if self._said else None

    def close_sending(self) -> None:
        if not self._closing:
            self._closing = True
            self._host.scheduler.ready(self._close)

    def kill(self) -> None:
        self.die("its process died")

    def release(self, wait_ms: int = 0) -> None:
        self.kill()
        self._closed = True

    # -- the process --------------------------------------------------------------------------------------------

    def die(self, why: str) -> None:
        """End it, in whatever state it is."""
        if self._dead is None:
            self._host.scheduler.tell(f"worker {self.name} ends: {why}")
            self._dead = why
            self._inbox.clear()
            self._host.buried(self)
            self._host.scheduler.ready(self._tell)

    def go_on(self) -> None:
        """Wake up from standing still."""
        self.stalled = False
        for token in (self._open, self._handle, *((self._close,) if self._closing else ())):
            self._host.scheduler.ready(token)

    def _open(self) -> None:
        if self._loop is None and self._can_work():
            self._attempt(self._do_open)

    def _do_open(self) -> None:
        self._loop = WorkerLoop(self._create(), self._send, self._host.scheduler)
        self._loop.open()
        self._host.scheduler.ready(self._handle)
        if self._closing:  # it was told so before it could listen
            self._host.scheduler.ready(self._close)

    def _handle(self) -> None:
        if not self._inbox or self._loop is None or not self._can_work():
            return
        taken = 1 + self._host.scheduler.draw(len(self._inbox))
        batch, self._inbox = self._inbox[:taken], self._inbox[taken:]
        loop = self._loop
        self._attempt(lambda: loop.handle(batch))
        if self._inbox:
            self._host.scheduler.ready(self._handle)

    def _close(self) -> None:
        if self._loop is None or not self._can_work():
            return
        if self._inbox:
            self._host.scheduler.ready(self._close)
            return
        self._attempt(self._loop.close)
        self.die("closed")

    def _can_work(self) -> bool:
        return self._dead is None and not self.stalled

    def _attempt(self, deed: Callable[[], object]) -> None:
        try:
            self._host.at_work(self, deed)
        except Death:
            self.die("its process died")
        except BaseException as error:  # noqa: BLE001 - its front is told, as by a process
            with contextlib.suppress(Death):
                self._send([failure(error)])
            self.die("failed")

    def _send(self, frames: Sequence[Frame]) -> None:
        if self.dies_before_sending:
            raise Death
        if not self._outbox:
            self._host.scheduler.ready(self._tell)
        self._outbox += frames

    def _tell(self) -> None:
        if not self._closed:
            self._host.scheduler.run_as(REACTOR, self._wake)
