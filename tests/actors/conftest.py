"""Running systems for the tests of this room."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from actor_probes import ManualClock, Probe

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.runtime import Runtime, start_runtime
from lorch_actors.actors.thread_host import ThreadHost

sys.path.append(str(Path(__file__).parent.parent / "simulation"))  # where the scheduler is


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runtime(clock: ManualClock) -> Iterator[Runtime]:
    """Make a system with a clock moved by hand; workers are threads."""
    system = start_runtime(clock=clock, workers=ThreadHost(), seed=1)
    clock.on_move = system.reactor.wake
    yield system
    system.close()


@pytest.fixture
def boss(runtime: Runtime) -> Probe:
    """Stand in for a supervisor named ``boss`` and keep what it is told."""
    probe = Probe()
    runtime.directory.register("boss", probe)
    return probe


@pytest.fixture
def log() -> Probe:
    return Probe()


@pytest.fixture
def context(runtime: Runtime) -> Callable[[str], ActorContext]:
    """Make the context of an actor below ``boss``."""

    def make(name: str) -> ActorContext:
        return ActorContext(name, runtime.directory.next_incarnation(name), "boss", runtime)

    return make
