"""What the ledger tells an actor that was restarted but has not asked for entries yet was meant for its predecessor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from actor_probes import Probe

from lorch_actors.actors import ring
from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.conductor import AHEAD_MAX, Conductor, Score
from lorch_actors.actors.messages import Down, Started, Stop
from lorch_actors.actors.ring import Append, Appended, Sealed, Subscribe, Subscribed, Work
from lorch_actors.actors.runtime import Runtime
from lorch_actors.actors.transcript import Transcript
from lorch_actors.protocol.messages import Entry, Event
from lorch_actors.protocol.parse import encode
from lorch_actors.records.history import Loaded
from lorch_actors.records.rebuild import transcript_of
from lorch_actors.storage.ledger import LedgerFile
from lorch_actors.storage.ledger_format import Position, seal
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow import system
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.state import Run

RUN_ID = "run-20260101-000000-00000000"
PROCESS = system.ProcessRef("boot", 1, 1)
NO_CHAIN = "0" * 16


class Link:
    """A guardian that is not interested."""

    def beat(self) -> None:
        pass

    def settled(self) -> None:
        pass


def event(note: system.Payload, *cause: object, task_id: str = RUN_ID) -> Event:
    return event_of(note, task_id=task_id, correlation_id=RUN_ID, now_ms=0, cause=cause)


@pytest.fixture
def told(tmp_path: Path) -> tuple[Workspace, Appended]:
    """Make a ledger of a run that was started; return it with its last entry as the ledger tells it."""
    workspace = Workspace(tmp_path)
    workspace.prepare()
    started = system.RunStarted(policy={}, agents={}, task_count=1, tasks=[{"id": "T"}], process=PROCESS)
    declared, last = (
        event(note, "T", task_id="T") for note in (system.TaskDeclared(0, {"id": "T"}), system.TaskStarted(1))
    )
    with LedgerFile.open(workspace.ledger(RUN_ID), RUN_ID) as ledger:
        chain, lines = RUN_ID, []
        for seq, message in enumerate((event(started), declared, last), 1):
            line, chain = seal(encode(message), seq, 0, chain)
            lines.append((seq, line))
        ledger.append(lines)
        ledger.sync()
        end = ledger.synced
    return workspace, Appended((Entry(3, end.chain, last),), (lines[-1][1],), end)


def test_transcript_holds_each_entry_once(
    runtime: Runtime, boss: Probe, log: Probe, context: Callable[[str], ActorContext], told: Any
) -> None:
    """A line that came before the answer to `Subscribe` is not written a second time."""
    workspace, appended = told
    runtime.directory.register(ring.LEDGER, log)
    path = workspace.transcript(RUN_ID)
    ref = Transcript.start(
        context("transcript"),
        ledger=workspace.ledger(RUN_ID),
        run_id=RUN_ID,
        path=path,
        mark=workspace.transcript_mark,
        console=None,
    )
    assert isinstance(log.next(), Subscribe)
    ref.tell(appended)
    ref.tell(Subscribed(appended.end))
    assert isinstance(boss.next(), Started)
    ref.tell(Stop())
    assert isinstance(boss.next(), Down)

    assert path.read_bytes() == transcript_of(workspace, RUN_ID)


@pytest.fixture
def conductor(runtime: Runtime, log: Probe, context: Callable[[str], ActorContext], told: Any) -> Any:
    """Start a conductor over that ledger, which has asked for entries."""
    workspace, _ = told
    runtime.directory.register(ring.LEDGER, log)
    loaded = Loaded(Run(RUN_ID), Position.start(RUN_ID))
    link: Any = Link()
    score = Score(workspace.root, workspace.ledger(RUN_ID), loaded, event(system.RunResumed(1)), PROCESS, link)
    ref = Conductor.start(context("conductor"), score=score)
    assert isinstance(log.next(), Subscribe)
    return ref


def test_conductor_folds_from_where_it_stands(conductor: Any, boss: Probe, log: Probe, told: Any) -> None:
    """An entry that came before the answer to `Subscribe` does not make it skip the ones before that entry."""
    _, appended = told
    conductor.tell(appended)
    conductor.tell(Subscribed(appended.end))
    assert isinstance(boss.next(), Started)
    following = log.next()
    conductor.tell(Stop())
    assert isinstance(boss.next(), Down)

    assert isinstance(following, Append)
    assert following.message.event == "system.snapshot_requested"


def test_conductor_does_nothing_but_append_until_it_is_durable(
    conductor: Any, runtime: Runtime, boss: Probe, log: Probe, told: Any
) -> None:
    """What is sealed may be lost yet: the snapshotter is not told of a request before that is on the disk."""
    _, appended = told
    snapshotter = Probe()
    runtime.directory.register(ring.SNAPSHOTTER, snapshotter)
    conductor.tell(Subscribed(appended.end))
    conductor.tell(Sealed((Entry(4, NO_CHAIN, log.next().message),)))
    conductor.ask(Appended((), (), appended.end))
    early = snapshotter.rest()
    conductor.tell(Appended((), (), Position(4, NO_CHAIN, appended.end.offset + 1)))
    then = snapshotter.next()
    conductor.tell(Stop())
    assert [type(boss.next()), type(boss.next())] == [Started, Down]

    assert early == []
    assert isinstance(then, Work)


def test_conductor_does_not_run_away_from_the_disk(conductor: Any, boss: Probe, log: Probe, told: Any) -> None:
    """Far ahead of what is durable it decides nothing; when the disk has come up, it does."""
    _, appended = told
    conductor.tell(Subscribed(Position(2, NO_CHAIN, 0)))
    begun = log.next().message
    far = 3 + AHEAD_MAX
    conductor.ask(Sealed(tuple(Entry(seq, NO_CHAIN, begun) for seq in range(3, far + 1))))
    early = log.rest()
    conductor.tell(Appended((), (), Position(far, NO_CHAIN, appended.end.offset + 1)))
    then = log.next()
    conductor.tell(Stop())
    assert [type(boss.next()), type(boss.next())] == [Started, Down]

    assert early == []
    assert then.message.event == "system.snapshot_requested"


def test_conductor_does_not_fold_over_a_gap(conductor: Any, boss: Probe, told: Any) -> None:
    """An entry whose predecessor it has not heard of is a mistake of ours: it starts anew, and reads the file."""
    _, appended = told
    conductor.tell(Subscribed(appended.end))
    assert isinstance(boss.next(), Started)
    conductor.tell(Sealed((Entry(5, NO_CHAIN, appended.entries[0].message),)))

    ended = boss.next()

    assert isinstance(ended, Down)
    assert "entry 5 came after entry 3" in str(ended.reason)
