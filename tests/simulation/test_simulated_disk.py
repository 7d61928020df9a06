"""The simulated disk keeps what was synced, and nothing else for certain; who meets its refusals claims nothing."""

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
from scheduler import Scheduler
from simulated_disk import SimulatedDisk, simulated

from lorch_actors.actors import ring
from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.ring import Appended
from lorch_actors.actors.transcript import Transcript
from lorch_actors.errors import LockedError
from lorch_actors.protocol.messages import Entry
from lorch_actors.storage import disk as layer
from lorch_actors.storage.ledger_format import Position
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.system import RunStopped

FATES = 200


def crashed(prepare: Any) -> set[bytes | None]:
    """Return every content that a file has after a power cut, over many cuts."""
    found: set[bytes | None] = set()
    for seed in range(FATES):
        there = SimulatedDisk(("/w",))
        with simulated(there):
            prepare()
        there.crash(random.Random(seed))
        content = there.content("/w/f")
        found.add(None if content is None else bytes(content))
    return found


def test_a_power_cut_tears_only_what_was_not_synced() -> None:
    """Synced bytes and names stay; an unsynced tail is there, gone, torn anywhere, or zeros."""

    def prepare() -> None:
        fd = layer.open_append("/w/f")
        layer.write(fd, b"safe")
        layer.sync_data(fd)
        layer.sync_directory("/w")
        layer.write(fd, b"tail")

    found = crashed(prepare)

    assert {b"safe", b"safetail", b"safeta", b"safe\0\0"} <= found
    assert all(content is not None and content.startswith(b"safe") for content in found)


def test_a_power_cut_may_take_a_name_that_was_not_synced() -> None:
    """A new file is there or not until its directory is synced; a rename is done or not."""

    def prepare() -> None:
        fd = layer.create("/w/g")
        layer.write(fd, b"new")
        layer.sync_file(fd)
        layer.replace("/w/g", "/w/f")

    assert crashed(prepare) == {None, b"new"}


def test_descriptors_and_locks_end_with_their_process() -> None:
    """What a killed worker held is free for the next one, and not before."""
    there = SimulatedDisk(("/w",))
    with simulated(there):
        there.owner = "worker 1"
        fd = layer.create("/w/f")
        there.hold(Path("/w/f.lock"))
        there.owner = "worker 2"
        with pytest.raises(LockedError):
            there.hold(Path("/w/f.lock"))
        there.let_go("worker 1")
        there.hold(Path("/w/f.lock"))
        with pytest.raises(OSError, match="Bad file descriptor"):
            there.read(fd, 1)


def test_a_transcript_that_lacks_a_line_is_not_said_to_be_whole() -> None:
    """After a refused write nothing is marked and nothing answered, although the disk has room again."""
    scheduler, told = Scheduler(1), []

    class Listener:
        def tell(self, message: Any) -> None:
            told.append(message)

    there = SimulatedDisk(("/w", "/w/state"))
    for name in (ring.MAIN, ring.CONDUCTOR):
        scheduler.runtime.directory.register(name, Listener())
    with simulated(there):
        ref = Transcript.start(
            ActorContext(ring.TRANSCRIPT, 1, None, scheduler.runtime),
            ledger=Path("/w/l"),
            run_id="run-20260101-000000-0000abcd",
            path=Path("/w/t"),
            mark=Path("/w/state/m"),
            console=None,
        )
        scheduler.settle()
        scheduler.actors[ring.TRANSCRIPT]._announced = True
        event = event_of(RunStopped(0, "signal", "why"), task_id="r", correlation_id="r", now_ms=0, cause=(0,))
        appended = Appended((Entry(1, "0" * 16, event),), (b"",), Position(1, "0" * 16, 1))
        there.on_call = _refusing("/w/t")
        ref.tell(appended)
        scheduler.settle()
        there.on_call = lambda _name, _path: None
        ref.tell(ring.FlushAll(ring.TRANSCRIPT))
        scheduler.settle()

    assert [type(message) for message in told] == [ring.Broken]
    assert there.content("/w/state/m") is None


def _refusing(path: str) -> Any:
    def refuse(name: str, at: str) -> None:
        if (name, at) == ("write", path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return refuse
