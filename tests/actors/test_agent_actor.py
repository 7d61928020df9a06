"""The agent actor: what it records of the processes it keeps."""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from actor_probes import Probe

from lorch_actors.actors import ring
from lorch_actors.actors.agent import AgentActor
from lorch_actors.actors.agent_keeper import Part
from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.messages import Down, Started, Stop
from lorch_actors.actors.ring import StartAgent, Subscribe, Subscribed
from lorch_actors.actors.runtime import Runtime
from lorch_actors.protocol.configuration import parse_configuration
from lorch_actors.protocol.redaction import Redactor
from lorch_actors.storage.ledger_format import Position

RUN_ID = "run-20260101-000000-00000000"
UP = Subscribed(Position.start(RUN_ID))


@dataclass
class Keeping:
    """Agent actors of one role, whose process is `cat`; the test is their ledger and their supervisor."""

    runtime: Runtime
    boss: Probe
    log: Probe
    context: Callable[[str], ActorContext]
    part: Part

    def start(self) -> Any:
        """Start one; it is up when it has been told `UP`."""
        ref = AgentActor.start(self.context("builder"), part=self.part, redactor=Redactor())
        assert isinstance(self.log.next(), Subscribe)
        return ref

    def up(self) -> None:
        assert isinstance(self.boss.next(), Started)

    def noted(self) -> Any:
        """Return the next event that it appends."""
        return self.log.next().message

    def stop(self, ref: Any) -> None:
        ref.tell(Stop())
        assert isinstance(self.boss.next(), Down)


@pytest.fixture
def keeping(
    runtime: Runtime, boss: Probe, log: Probe, context: Callable[[str], ActorContext], tmp_path: Path
) -> Keeping:
    runtime.directory.register(ring.LEDGER, log)
    policy = parse_configuration(b"{}", "lorch.json")[0].policy
    part = Part("builder", RUN_ID, ("cat",), {}, 10.0, tmp_path, tmp_path / "log.ndjson", policy)
    return Keeping(runtime, boss, log, context, part)


def test_no_process_is_started_before_the_loss_of_the_last_is_recorded(keeping: Keeping) -> None:
    """Told the other way round, the ledger would say that the new process is the one that was lost, for ever."""
    keeping.context("builder")  # the first incarnation
    ref = keeping.start()
    ref.tell(StartAgent("builder", 1))
    ref.tell(UP)
    keeping.up()
    ref.tell(StartAgent("builder", 1))
    noted = [keeping.noted().event for _ in range(2)]
    keeping.stop(ref)

    assert noted == ["system.agent_lost", "system.agent_started"]


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [(OSError(errno.EAGAIN, "again"), True), (OSError(errno.ENOENT, "none"), False), (ValueError("NUL"), False)],
)
def test_a_start_that_fails_tells_whether_the_next_one_might_not(
    keeping: Keeping, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, error: Exception, *, is_transient: bool
) -> None:
    """What the machine has no room for is not the command's fault."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(runtime.agents, "start", refuse)
    ref = keeping.start()
    ref.tell(UP)
    keeping.up()
    ref.tell(StartAgent("builder", 0))
    noted = keeping.noted()
    keeping.stop(ref)

    assert noted.event == "system.agent_start_failed"
    assert noted.payload.get("transient", False) is is_transient
    assert ("lorch.json" in noted.payload["message"]) is not is_transient


@pytest.mark.parametrize(
    ("end", "is_ours"), [(Stop(), True), ("what nobody expects", True), (signal.SIGKILL, False)], ids=repr
)
def test_an_exit_tells_whose_doing_it_was(keeping: Keeping, end: Any, *, is_ours: bool) -> None:
    """A process that ends with its actor has done nothing wrong; one that ends by itself has."""
    ref = keeping.start()
    ref.tell(UP)
    keeping.up()
    ref.tell(StartAgent("builder", 0))
    pid = keeping.noted().payload["process"]["pid"]
    if isinstance(end, signal.Signals):
        os.kill(pid, end)
    else:
        ref.tell(end)
    exited = keeping.noted()
    if end is signal.SIGKILL:
        ref.tell(Stop())
    assert isinstance(keeping.boss.next(), Down)

    assert exited.event == "system.agent_exited"
    assert exited.payload.get("ours", False) is is_ours
