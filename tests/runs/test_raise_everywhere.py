"""Whatever actor raises an exception, at whatever stage: the run completes, each step settled once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import ROLES, Bench, gone_within
from raising import Raiser

DELAY = {"delay_ms": 250}
WRITE = {"type": "write", "path": "src/work.txt", "content": "done\n"}
PASSED = {"type": "builder.completed", "status": "success", "payload": {"tests": {"status": "pass"}}}
SCRIPTS = {
    "builder": {"responses": {"implement": {**DELAY, "events": [WRITE, PASSED]}}},
    "reviewer": {"responses": {"review": {**DELAY, "events": [{"type": "review.completed", "status": "approved"}]}}},
    "spec_maintainer": {"responses": {"update_spec": {**DELAY, "events": [{"type": "spec.updated", "payload": {}}]}}},
}
STAGES = ("implement", "review", "update_spec")
ACTORS = ("restart-recorder", "ledger", "run-state", "snapshotter", "transcript", "conductor", *ROLES)


@pytest.fixture
def raiser(tmp_path: Path) -> Iterator[Raiser]:
    made = Raiser(tmp_path / "raising")
    yield made
    made.close()


def struck(tmp_path: Path, raiser: Raiser, stage: str, *actors: str) -> Bench:
    """Let actors raise at a stage; return the bench after a run that has kept its promises."""
    there = Bench(tmp_path / "w", SCRIPTS)
    running = there.start(env=raiser.env)
    running.until(rf"\] {stage} \(")
    raiser.strike(*actors)
    ended = running.wait()

    assert ended.code == 0, ended
    assert there.state()["status"] == "completed"
    keys = list(dict.fromkeys(command["idempotency_key"] for command in there.commands()))
    actions = {command["idempotency_key"]: command["action"] for command in there.commands()}
    assert [actions[key] for key in keys] == list(STAGES)
    assert Counter(there.finished_keys()) == Counter(keys)
    assert there.findings() == []
    assert gone_within(there, 1.0) == []
    return there


@pytest.mark.parametrize(
    "actor",
    [
        *("ledger", "conductor", "builder", "ring-supervisor"),
        *(
            pytest.param(actor, marks=pytest.mark.long)
            for actor in ("restart-recorder", "run-state", "snapshotter", "transcript", *ROLES[1:], "agent-supervisor")
        ),
    ],
)
def test_raised_while_the_builder_works(tmp_path: Path, raiser: Raiser, actor: str) -> None:
    """An actor that raises is restarted and catches up; the restart is on record."""
    there = struck(tmp_path, raiser, "implement", actor)

    assert there.events("system.actor_restarted") != []


def test_raised_before_the_start_was_acknowledged(tmp_path: Path, raiser: Raiser) -> None:
    """A first start that fails is tried again like any other: nobody but the supervisors has to do anything."""
    there = Bench(tmp_path / "w", SCRIPTS)
    ended = there.run("run", "--all", env=raiser.env_at_start(*ACTORS))

    assert ended.code == 0, ended
    restarted = {line["payload"]["actor"] for line in there.events("system.actor_restarted")}
    # the ring is started once more with the recorder, perhaps while the first of it is about to be started again
    assert restarted >= {"ledger", "restart-recorder", "snapshotter", "conductor"}
    assert there.findings() == []


def test_several_raised_at_once(tmp_path: Path, raiser: Raiser) -> None:
    """The ledger and those around it raise together: what they had in hand is found in the file."""
    struck(tmp_path, raiser, "review", "transcript", "reviewer", "conductor", "ledger")


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("actor", [*ACTORS, "ring-supervisor", "agent-supervisor"])
def test_raised_later(tmp_path: Path, raiser: Raiser, actor: str, stage: str) -> None:
    """The same holds at every later stage."""
    struck(tmp_path, raiser, stage, actor)


def test_topmost_supervisor_raised(tmp_path: Path, raiser: Raiser) -> None:
    """Nobody is above it to restart it: the run stops, and a resume completes it."""
    there = Bench(tmp_path / "w", SCRIPTS)
    running = there.start(env=raiser.env)
    running.until(r"\] implement \(")
    raiser.strike("run-supervisor")
    stopped = running.wait()
    left = gone_within(there, 1.0)
    resumed = there.run("resume")

    assert (stopped.code, resumed.code) == (5, 0), (stopped, resumed)
    assert left == []
    assert there.state()["status"] == "completed"
