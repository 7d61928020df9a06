"""Whatever process dies or stands still, at whatever stage: the run completes, each step executed once."""

import signal
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, WORKERS, Bench, gone_within

WRITE = {"type": "write", "path": "src/work.txt", "content": "done\n"}
PASSED = {"type": "builder.completed", "status": "success", "payload": {"tests": {"status": "pass"}}}
DELAY = {"delay_ms": 250}


def builder() -> dict[str, Any]:
    done = {**DELAY, "events": [WRITE, PASSED]}
    return {"responses": {"implement": done, "implement_changes": done}}


def reviewer() -> dict[str, Any]:
    asks = {
        **DELAY,
        "events": [{"type": "review.completed", "status": "changes_requested", "payload": {"issues": ["x"]}}],
    }
    content = {**DELAY, "events": [{"type": "review.completed", "status": "approved"}]}
    return {"responses": {"review": [asks, content]}}


def spec_maintainer() -> dict[str, Any]:
    return {"responses": {"update_spec": {**DELAY, "events": [{"type": "spec.updated", "payload": {}}]}}}


SCRIPTS = {"builder": builder(), "reviewer": reviewer(), "spec_maintainer": spec_maintainer()}
VICTIMS = (*ROLES, *WORKERS, "orchestrator")
STAGES = ("implement", "review", "implement_changes", "update_spec")
ACTIONS = ["implement", "review", "implement_changes", "review", "update_spec"]
QUICK = {"worker_stall_s": 0.5, "supervisor": {"restarts": 50, "period_s": 30}}


def bench(tmp_path: Path) -> Bench:
    agents = {role: {"heartbeat_interval_s": 0.5} for role in ROLES}
    return Bench(tmp_path / "w", SCRIPTS, policy=QUICK, agents=agents)


def check(there: Bench, ended: Any) -> None:
    """Every step was asked for in order, executed to its end once, and every promise is kept."""
    assert ended.code == 0, ended
    assert there.state()["status"] == "completed"
    keys = list(dict.fromkeys(command["idempotency_key"] for command in there.commands()))
    actions = {command["idempotency_key"]: command["action"] for command in there.commands()}
    assert [actions[key] for key in keys] == ACTIONS
    finished = there.finished_keys()
    assert sorted(finished) == sorted(keys)
    assert there.findings() == []
    assert gone_within(there, 1.0) == []


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=pytest.mark.long if n % 2 else ()) for n in range(len(VICTIMS))]
)
def test_one_killed_at_each_stage(tmp_path: Path, first: int) -> None:
    """Four processes killed in one run, another one at each stage; the seven runs hold every pair of the two once."""
    there = bench(tmp_path)
    running = there.start()
    for number, stage in enumerate(STAGES, first):
        running.until(rf"\] {stage} \(")
        running.signal(VICTIMS[number % len(VICTIMS)], signal.SIGKILL)

    check(there, running.wait())


IN_SHORT = {("builder", "implement"), ("ledger", "review"), ("orchestrator", "update_spec")}


@pytest.mark.parametrize(
    ("victim", "stage"),
    [
        pytest.param(victim, stage, marks=() if (victim, stage) in IN_SHORT else pytest.mark.long)
        for victim in VICTIMS
        for stage in STAGES
    ],
)
def test_stopped(tmp_path: Path, victim: str, stage: str) -> None:
    """A process that stands still from a stage on is replaced."""
    there = bench(tmp_path)
    running = there.start()
    running.until(rf"\] {stage} \(")
    running.signal(victim, signal.SIGSTOP)

    check(there, running.wait())
