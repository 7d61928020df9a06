"""What a run has spent, and what it may: money, tokens, time.

What agents tell is counted when a command ends, whatever came of it; what they do not tell is unknown and counted as
that, so a limit in money alone does not hold for agents that tell none. Time is that of our own entries in the ledger:
a run that is read again has spent the same. Before a command is sent, all that is left is reserved for it.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.configuration import Amounts, Budget
from lorch_actors.protocol.messages import ROLE_OF_ACTION, BudgetLeft, Event, Object
from lorch_actors.protocol.times import from_timestamp
from lorch_actors.workflow.accounts import limit_of
from lorch_actors.workflow.parts import FailureNote
from lorch_actors.workflow.state import Moment, Run, Spent, Task

MICRO: Final = 1_000_000
USD_MAX: Final = 1e9
TOKENS_MAX: Final = 10**15
_UNLIMITED: Final = Budget()
_UNITS: Final = {"usd": "US dollars", "tokens": "tokens", "wall_s": "seconds of work"}


# -- what the ledger says ---------------------------------------------------------------------------------------


def sent(run: Run) -> Run:
    """Return the run after a command was sent: what it costs is unknown as yet."""
    return replace(run, spent=replace(run.spent, commands=run.spent.commands + 1))


def told(run: Run, event: Event, heard: Collection[str]) -> Run:
    """Return the run after a command has come to its end with this event, good or bad.

    heard: the ids of the command's events so far. An agent that repeats an answer names the event that told it first in
    ``usage.told_by``: whether that one was heard only we know. If it was, its cost is counted already.
    """
    usage = (event.payload or {}).get("usage")
    if not isinstance(usage, dict):
        return run
    usd, tokens = _usd(usage), _tokens(usage)
    if usage.get("told_by") in heard:
        usd, tokens = usd and 0, tokens and 0
    spent = run.spent
    if usd is not None:
        spent = replace(spent, usd_micro=spent.usd_micro + usd, priced=spent.priced + 1)
    if tokens is not None:
        spent = replace(spent, tokens=spent.tokens + tokens, counted=spent.counted + 1)
    return replace(run, spent=spent)


def _usd(usage: Object) -> int | None:
    cost = usage.get("cost_usd")
    if not isinstance(cost, int | float) or isinstance(cost, bool) or not 0 <= cost <= USD_MAX:
        return None
    return round(cost * MICRO)


def _tokens(usage: Object) -> int | None:
    found = [usage.get(name) for name in ("input_tokens", "output_tokens")]
    known = [n for n in found if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= TOKENS_MAX]
    return sum(known) if known else None


def ticked(run: Run, occurred_at: str, *, is_after_pause: bool) -> Run:
    """Return the run with the time that has passed since our last entry, which this one ends.

    is_after_pause: what lies before this entry was nobody's time.
    """
    now_ms = from_timestamp(occurred_at)
    passed_ms = 0 if is_after_pause else _worked_ms(run, now_ms)
    return replace(run, spent=replace(run.spent, work_ms=run.spent.work_ms + passed_ms), ticked_ms=now_ms)


def _worked_ms(run: Run, now_ms: int) -> int:
    """Return the time since our last entry in which nobody waited for a limit or a person."""
    task = run.task
    pending = task.pending if task is not None else None
    if not run.ticked_ms or (pending is not None and pending.asks_a_person):
        return 0
    step = task.step if task is not None else None
    action = pending.command.action if pending is not None else step.action if step is not None else None
    limit = limit_of(run, ROLE_OF_ACTION[action]) if action is not None else None
    return max(0, now_ms - max(run.ticked_ms, limit.until.wall_ms if limit is not None else 0))


# -- what comes next --------------------------------------------------------------------------------------------


def spent_now(run: Run, now: Moment) -> Spent:
    """Return what the run has spent up to now."""
    return replace(run.spent, work_ms=run.spent.work_ms + _worked_ms(run, now.wall_ms))


def minus(spent: Spent, before: Spent) -> Spent:
    """Return what was spent since."""
    return Spent(
        usd_micro=spent.usd_micro - before.usd_micro,
        tokens=spent.tokens - before.tokens,
        commands=spent.commands - before.commands,
        priced=spent.priced - before.priced,
        counted=spent.counted - before.counted,
        work_ms=spent.work_ms - before.work_ms,
    )


def _scopes(run: Run, task: Task | None, now: Moment) -> Iterator[tuple[str, str, Amounts, Spent]]:
    if run.policy.budget == _UNLIMITED:
        return
    spent = spent_now(run, now)
    yield "the run", "", run.policy.budget, spent
    if task is not None:
        yield f"task {task.task_id}", "task.", run.policy.budget.task, minus(spent, task.spent_before)


class Exhausted(NamedTuple):
    """An amount that is used up. whose: run or task, in words. key: its name below ``policy.budget``."""

    whose: str
    key: str
    limit: float
    used: float
    spent: Spent

    def more(self) -> str:
        """Return what to give `lorch resume` to go on: twice as much as before."""
        return f"--budget {self.key}={2 * self.limit:.10g}"


def exhausted(run: Run, task: Task | None, now: Moment) -> Exhausted | None:
    """Return the first amount of run or task that is used up; None while something is left of all."""
    for whose, prefix, amounts, spent in _scopes(run, task, now):
        for name, limit, used in (
            ("usd", amounts.usd, spent.usd_micro / MICRO),
            ("tokens", amounts.tokens, spent.tokens),
            ("wall_s", amounts.wall_s, spent.work_ms / 1000),
        ):
            if limit is not None and used >= limit:
                return Exhausted(whose, f"{prefix}{name}", limit, used, spent)
    return None


def used_up(run: Run, task: Task | None, now: Moment) -> FailureNote | None:
    """Return which budget of run or task is used up, what was spent, and how to go on; None while something is left."""
    found = exhausted(run, task, now)
    if found is None:
        return None
    name, spent = found.key.removeprefix("task."), found.spent
    silent = {"usd": spent.commands - spent.priced, "tokens": spent.commands - spent.counted}.get(name, 0)
    unknown = f", and what {silent} of {spent.commands} commands cost is unknown" if silent else ""
    message = (
        f"the budget of {found.whose} is used up: {found.used:.10g} of {found.limit:.10g} {_UNITS[name]} "
        f"(policy.budget.{found.key}){unknown}; `lorch resume {found.more()}` goes on with more"
    )
    return FailureNote(FailureCode.OVER_BUDGET, message)


def left_ms(run: Run, task: Task, now: Moment) -> int | None:
    """Return how much time is left, in milliseconds; None without a limit."""
    found = [
        round(amounts.wall_s * 1000) - spent.work_ms
        for _, _, amounts, spent in _scopes(run, task, now)
        if amounts.wall_s is not None
    ]
    return max(0, min(found)) if found else None


def reserved(run: Run, task: Task, now: Moment) -> BudgetLeft | UnsetType:
    """Return what a command may spend at most: all that is left."""
    scopes = [(amounts, spent) for _, _, amounts, spent in _scopes(run, task, now)]
    usd = [amounts.usd - spent.usd_micro / MICRO for amounts, spent in scopes if amounts.usd is not None]
    tokens = [amounts.tokens - spent.tokens for amounts, spent in scopes if amounts.tokens is not None]
    if not usd and not tokens:
        return UNSET
    return BudgetLeft(usd=max(0.0, round(min(usd), 6)) if usd else None, tokens=max(0, min(tokens)) if tokens else None)
