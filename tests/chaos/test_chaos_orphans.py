"""Whoever outlives the run is found by its marker, wherever it hides, and does not outlive the chaos."""

import subprocess
from collections.abc import Iterator

import pytest

from lorch_actors.chaos.orphans import MARKER, OrphanWatch, alive
from lorch_actors.chaos.promises import Accounts
from lorch_actors.chaos.settings import Card
from lorch_actors.chaos.strikes import Strike, wall_ms
from lorch_actors.processes import ProcessIdentity, identify, now_ticks

GONE = ProcessIdentity("boot", 1 << 30, 1)


@pytest.fixture
def watch() -> OrphanWatch:
    """Return a watch over accounts of its own."""
    return OrphanWatch(Accounts(), within_s=0.3)


@pytest.fixture
def orphan(watch: OrphanWatch) -> Iterator[ProcessIdentity]:
    """Leave a process behind in a session of its own, whose parent is gone."""
    script = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"
    environment = {MARKER: watch.token, "PATH": "/usr/bin:/bin"}
    told = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True)
    found = identify(int(told.stdout))
    assert found is not None
    yield found
    watch.look_at_the_end()


def strike(role: str, ago_ms: float) -> Strike:
    """Return a strike that long ago."""
    return Strike(Card(role, "KILL"), GONE, wall_ms() - ago_ms)


def noted(watch: OrphanWatch) -> list[str]:
    """Return where the accounts say that the promise broke."""
    return [line.where for line in watch._accounts.broken if line.promise == "no-orphans"]


def test_an_orphan_of_the_orchestrator_is_noted_once(watch: OrphanWatch, orphan: ProcessIdentity):
    """With its pid, however often it is met."""
    killed = strike("orchestrator", 1000)
    for _ in range(2):
        watch.look_after_orchestrator(killed, now_ticks() + 1, [killed])

    assert noted(watch) == [str(orphan.pid)]


def test_who_was_started_after_the_kill_is_no_orphan(watch: OrphanWatch, orphan: ProcessIdentity):
    """It belongs to the next orchestrator."""
    killed = strike("orchestrator", 1000)
    watch.look_after_orchestrator(killed, orphan.start_ticks, [killed])

    assert noted(watch) == []


def test_orchestrator_and_guardian_both_at_once_are_another_promise(watch: OrphanWatch, orphan: ProcessIdentity):
    """Nobody is left to end anything; a resume does it."""
    orchestrator, guardian = strike("orchestrator", 500), strike("guardian", 100)
    watch.look_after_orchestrator(orchestrator, now_ticks() + 1, [orchestrator, guardian])
    watch.look_after_guardian([orchestrator, guardian], meanwhile=lambda: None)

    assert noted(watch) == []


def test_an_orphan_of_the_guardian_is_noted_when_its_time_is_up(watch: OrphanWatch, orphan: ProcessIdentity):
    """Meanwhile the victims are watched on."""
    looks: list[int] = []
    watch.look_after_guardian([strike("guardian", 100)], meanwhile=lambda: looks.append(1))

    assert noted(watch) == [str(orphan.pid)]
    assert looks


def test_at_the_end_who_is_left_is_noted_and_ended(watch: OrphanWatch, orphan: ProcessIdentity):
    """Chaos leaves nobody behind itself."""
    watch.look_at_the_end()

    assert noted(watch) == [str(orphan.pid)]
    watch.look_at_the_end()
    assert alive(watch.token) == {}
