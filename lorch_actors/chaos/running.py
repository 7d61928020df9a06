"""The whole of it: from settings to report."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lorch_actors.chaos.measuring import role_lines
from lorch_actors.chaos.promises import Accounts
from lorch_actors.chaos.report import ChaosReport
from lorch_actors.chaos.session import Session
from lorch_actors.chaos.settings import Settings
from lorch_actors.chaos.workload import HEARTBEAT_S, LIMITS


def run_chaos(
    root: Path,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
    detail: Callable[[str], None] = lambda _: None,
    *,
    keep: bool = True,
) -> ChaosReport:
    """Carry it out in the workspace below ``root`` and return what it came to; SIGINT and SIGTERM end it early.

    say: takes remarks on the way. detail: takes one about each strike.
    keep: leave the workspace behind although every promise held; when one broke, it is left behind in any case.
    Raises UsageError if the workspace is not a new or empty directory.
    """
    session = Session(root, settings, say, detail)
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        found = session.play()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    is_kept = keep or bool(found.broken) or session.interrupted
    report = _report(session, found, kept=is_kept)
    if is_kept:
        path = session.workload.notes / "report.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    else:
        shutil.rmtree(root, ignore_errors=True)
    return report


def limits() -> dict[str, float]:
    """Return the limits that the runs are given, by the path of their key in ``lorch.json``."""
    found: dict[str, float] = {"agents.*.heartbeat_interval_s": HEARTBEAT_S}
    waiting: list[tuple[str, Any]] = [("policy", LIMITS)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{key}", item) for key, item in value.items()]
        else:
            found[path] = value
    return dict(sorted(found.items()))


def _report(session: Session, found: Accounts, *, kept: bool) -> ChaosReport:
    return ChaosReport(
        ok=not found.broken,
        interrupted=session.interrupted,
        seed=session.settings.seed,
        workspace=str(session.root),
        kept=kept,
        duration_s=round(session.duration_s, 1),
        limits=limits(),
        runs=len(session.tails),
        resumed_by_guardian=max(0, found.resumed - session.by_hand),
        resumed_by_hand=session.by_hand,
        strikes=len(session.strikes),
        roles=role_lines(session.strikes, session.notes),
        tasks=session.workload.tasks,
        tasks_completed=found.tasks_completed,
        steps=found.steps,
        executions=found.executions,
        executed_twice=found.executed_twice,
        entries=found.entries,
        entries_lost=found.lost,
        entries_doubled=found.doubled,
        orphans=len(session.orphans.found),
        zombies=len(session.resources.zombies),
        descriptors_leaked=session.resources.leaked(),
        resources=session.resources.lines(),
        broken=found.broken,
    )
