"""How long it took to notice each strike and to be back, told from the ledger and from outside.

The ledger says times to the millisecond, rounded down; they are taken as if rounded up: no figure is flattering. A
strike that another one overtook (the orchestrator went before the worker was back) is not measured.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from lorch_actors.chaos.report import RoleLine
from lorch_actors.chaos.settings import AGENT, CONDUCTOR, GUARDIAN, LEDGER, ORCHESTRATOR, VICTIMS, WORKERS
from lorch_actors.chaos.strikes import Strike
from lorch_actors.chaos.tail import Note

TAKEN_OVER = frozenset({"run_resumed", "run_started"})


class Latency(NamedTuple):
    """Milliseconds from the strike; None where it cannot be told."""

    noticed_ms: float | None = None
    back_ms: float | None = None


def role_lines(strikes: Sequence[Strike], notes: Sequence[Note]) -> list[RoleLine]:
    """Return a line for each role and signal that occurred."""
    lines = []
    for role in VICTIMS:
        for signal in ("KILL", "STOP"):
            some = [strike for strike in strikes if strike.card == (role, signal)]
            if some:
                lines.append(_line(role, signal, [_undisturbed(strike, strikes, notes) for strike in some]))
    return lines


def _undisturbed(strike: Strike, strikes: Sequence[Strike], notes: Sequence[Note]) -> Latency:
    """Return how long it took; what takes everything down is measured only if nobody else was hurt meanwhile."""
    found = latency(strike, notes)
    if strike.card.role not in {ORCHESTRATOR, GUARDIAN}:
        return found
    next_ms = min((other.at_ms for other in strikes if other.at_ms > strike.at_ms), default=float("inf"))
    return Latency(*(None if took is None or strike.at_ms + took > next_ms else took for took in found))


def latency(strike: Strike, notes: Sequence[Note]) -> Latency:
    """Return how long one strike took. notes: of all runs, in order."""
    after = [note for note in notes if note.seen_ms >= strike.at_ms]
    role = strike.card.role
    if role in {ORCHESTRATOR, GUARDIAN}:
        return _of_everything(strike, after)
    alone = _until_taken_over(after)
    if role == AGENT:
        return _of_agent(strike, alone)
    if role == CONDUCTOR:
        restarts = (note for note in alone if (note.name, note.who) == ("actor_restarted", role))
        return Latency(None, next((_since(strike, note) for note in restarts), None))
    if role not in WORKERS:
        return Latency()
    ended = strike.ended_ms - strike.at_ms if strike.ended_ms is not None and strike.card.signal == "STOP" else None
    if role == LEDGER:
        grown_ms = strike.grown_ms
        if grown_ms is None or any(note.name in TAKEN_OVER and note.seen_ms <= grown_ms for note in after):
            return Latency(ended)
        return Latency(ended, grown_ms - strike.at_ms)
    started = (n for n in alone if (n.name, n.who) == ("worker_started", role) and n.identity != strike.identity)
    return Latency(ended, next((_since(strike, note) for note in started), None))


def _of_agent(strike: Strike, alone: Sequence[Note]) -> Latency:
    exited = next((n for n in alone if (n.name, n.agent_id) == ("agent_exited", strike.agent_id)), None)
    if exited is None:
        return Latency()
    noticed_ms = _since(strike, exited)
    own = [note for note in alone[alone.index(exited) :] if note.who == strike.name]
    if not any(note.name == "retry_scheduled" for note in own[:2]):
        return Latency(noticed_ms)  # it had nothing to do, so it is started when it is needed
    return Latency(noticed_ms, next((_since(strike, note) for note in own if note.name == "agent_started"), None))


def _of_everything(strike: Strike, after: Sequence[Note]) -> Latency:
    """Measure until the next command; noticed is a killed orchestrator's resumption, and the end of a stopped one."""
    resumed = next((at for at, note in enumerate(after) if note.name in TAKEN_OVER), None)
    if resumed is None or (strike.card == (GUARDIAN, "STOP")):
        return Latency()
    ended = None if strike.ended_ms is None else strike.ended_ms - strike.at_ms
    by_ledger = _since(strike, after[resumed]) if strike.card == (ORCHESTRATOR, "KILL") else ended
    command = next((note for note in after[resumed:] if note.name == "command"), None)
    return Latency(by_ledger, None if command is None else command.seen_ms - strike.at_ms)


def _until_taken_over(notes: Sequence[Note]) -> Sequence[Note]:
    end = next((at for at, note in enumerate(notes) if note.name in TAKEN_OVER), len(notes))
    return notes[:end]


def _since(strike: Strike, note: Note) -> float:
    return max(0.0, note.said_ms + 1 - strike.at_ms)


def _line(role: str, signal: str, found: Sequence[Latency]) -> RoleLine:
    noticed = _middle_and_worst(one.noticed_ms for one in found)
    back = _middle_and_worst(one.back_ms for one in found)
    return RoleLine(
        role=role,
        signal=signal,
        strikes=len(found),
        measured=sum(one.back_ms is not None for one in found),
        noticed_median_ms=noticed[0],
        noticed_worst_ms=noticed[1],
        back_median_ms=back[0],
        back_worst_ms=back[1],
    )


def _middle_and_worst(given: Iterable[float | None]) -> tuple[float | None, float | None]:
    known = [each for each in given if each is not None]
    return (round(median(known), 1), round(max(known), 1)) if known else (None, None)
