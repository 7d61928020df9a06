"""What actors stand on: clocks, randomness, threads, the reactor, names, and the hosts of workers and agents.

Everything that makes one run differ from the next comes through a ``Runtime``, so that a simulator can put seeded
parts in its place. Promise: no actor touches time, threads or selectors but through here.
"""

import random
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from lorch_actors.actors.agent_link import AgentHost
from lorch_actors.actors.agent_process import ProcessAgents
from lorch_actors.actors.clock import Clock, SystemClock
from lorch_actors.actors.directory import Directory
from lorch_actors.actors.epoll_reactor import EpollReactor
from lorch_actors.actors.execution import Execution, ThreadExecution
from lorch_actors.actors.fork_server import ForkServer
from lorch_actors.actors.messages import CallbackFailed
from lorch_actors.actors.process_host import ProcessHost
from lorch_actors.actors.reactor import Reactor, Timer
from lorch_actors.actors.worker import WorkerHost


class Runtime(Struct):
    """The parts of one actor system. Build the real one with ``start_runtime``."""

    clock: Clock
    random: random.Random
    reactor: Reactor
    workers: WorkerHost
    agents: AgentHost
    execution: Execution
    directory: Directory = field(default_factory=Directory)

    def tell(self, name: str, message: Any) -> bool:
        """Send ``message`` to whoever has that name now; nobody there: dropped, counted, False."""
        return self.directory.tell(name, message)

    def tell_at(self, steady_ms: int, name: str, message: Any) -> Timer:
        """Send ``message`` at a time of the steady clock to whoever has that name then."""
        return self.reactor.call_at(steady_ms, lambda: self.directory.tell(name, message))

    def close(self) -> None:
        """End the reactor, then what starts workers. Actors must have ended before."""
        self.reactor.close()
        self.workers.close()


def start_runtime(
    *,
    clock: Clock | None = None,
    workers: WorkerHost | None = None,
    preload: Sequence[str] = (),
    seed: int | None = None,
) -> Runtime:
    """Return a running system of threads, worker processes and one reactor.

    Call it before there are other threads: then workers are forked from what is imported now. ``preload`` names the
    modules that they need: imported before the first is forked, and by a fork server that has to be replaced.
    ``seed`` is for tests.
    """
    server = ForkServer(preload) if workers is None else None
    directory = Directory()
    chosen = clock if clock is not None else SystemClock()

    def report(owner: str, error: BaseException) -> None:
        directory.tell(owner, CallbackFailed(error))

    reactor = EpollReactor(chosen, report)
    reactor.start()
    host = ProcessHost(reactor, chosen, server) if server is not None else workers
    assert host is not None
    return Runtime(
        chosen, random.Random(seed), reactor, host, ProcessAgents(reactor), ThreadExecution(reactor, chosen), directory
    )
