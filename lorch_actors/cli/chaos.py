"""`chaos`: run a workload under random kills, and count what they cost."""

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lorch_actors.cli.options import given_workspace, global_options, output
from lorch_actors.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lorch_actors.chaos.report import ChaosReport
    from lorch_actors.chaos.settings import Settings

KILLS_BY_DEFAULT: Final = 50
KILLS_MAX: Final = 100_000
MINUTES_MAX: Final = 24 * 60
_SEED_BELOW: Final = 1 << 32


@click.command("chaos")
@click.option("--kills", type=click.IntRange(1, KILLS_MAX), metavar="N", help="Strike so often; 50 by default.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, MINUTES_MAX, min_open=True),
    metavar="M",
    help="Soak: strike lightly for so long, by default only below the orchestrator, and watch what grows.",
)
@click.option("--seed", type=click.IntRange(0), metavar="S", help="Draw the same strikes again.")
@click.option("--roles", metavar="LIST", help="Whom to hurt, separated by commas; everybody by default.")
@click.option("--signals", metavar="LIST", help="KILL, STOP or both; both by default.")
@global_options
def chaos_command(
    kills: int | None, minutes: float | None, seed: int | None, roles: str | None, signals: str | None
) -> int:
    """Run tasks with scripted agents, kill and stop the processes of the run at random, and check every promise.

    Each task writes a real file in a git repository made for it; --workspace has to be a new or empty directory, and
    is a temporary one by default, kept only if a promise broke. Its lorch.json widens the restart limits, as printed.

    \b
    Roles:
      agent         any of the three agents; each has left a process in another session
      ledger, snapshotter, run-state
                    the worker processes
      fork-server   what starts the workers; that it is gone is noticed when it is needed next
      conductor     no process, so no signal kills it: SIGUSR1 makes it raise at its next message
      orchestrator  with STOP, the guardian replaces it after ten seconds
      guardian      with KILL, the run is resumed as you would; with STOP, it is woken after a second

    Noticed is the time from the signal to the first sign of it, back the time until the work goes on: the next start
    of an agent that had a command, the ledger's next line, the restart of a worker or the conductor, the next command
    after everything died. A dash means that it cannot be told from outside, or that another strike came first.

    Exit codes: 0 every promise was kept, 1 one broke (workspace, seed and report are kept), 2 wrong usage, 5 you
    stopped it.
    """  # noqa: D301 - click takes a backspace for "leave these lines as they are"
    from lorch_actors.chaos.running import limits, run_chaos

    if kills is not None and minutes is not None:
        raise UsageError("--kills and --minutes do not go together", remedy="Leave one of them out.")
    to, given = output(), given_workspace()
    settings = _settings(kills, minutes, seed, roles, signals)
    root = given if given is not None else Path(tempfile.mkdtemp(prefix="lorch-chaos-"))
    to.say(f"Chaos in {root}, seed {settings.seed}.")
    to.say(
        "Limits: " + ", ".join(f"{path.removeprefix('policy.')} {value:g}" for path, value in limits().items()) + "."
    )
    report = run_chaos(root, settings, to.say, to.say if to.verbose else lambda _: None, keep=given is not None)
    to.result(report, _text(report))
    if report.broken:
        return ExitCode.FAILED
    return ExitCode.INTERRUPTED if report.interrupted else ExitCode.DONE


def _settings(
    kills: int | None, minutes: float | None, seed: int | None, roles: str | None, signals: str | None
) -> "Settings":
    from lorch_actors.chaos import settings

    is_soak = minutes is not None
    found = settings.Settings(
        seed=seed if seed is not None else random.SystemRandom().randrange(_SEED_BELOW),
        kills=None if is_soak else kills or KILLS_BY_DEFAULT,
        duration_s=(minutes or 0.0) * 60,
        roles=_chosen("--roles", roles, settings.VICTIMS, settings.BELOW if is_soak else settings.VICTIMS),
        signals=_chosen("--signals", signals, settings.SIGNALS, settings.SIGNALS),
        pace_s=settings.SOAK_PACE_S if is_soak else settings.PACE_S,
    )
    if found.roles == (settings.CONDUCTOR,) and found.signals == ("STOP",):
        raise UsageError("nobody can be hurt so: the conductor is no process", remedy="Use --signals KILL.")
    return found


def _chosen(option: str, given: str | None, known: tuple[str, ...], by_default: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return by_default
    from lorch_actors.protocol.checking import did_you_mean

    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{option} does not know {name!r}{did_you_mean(name, list(known))}",
                remedy=f"It takes {', '.join(known)}, separated by commas.",
            )
    if not names:
        raise UsageError(f"{option} names nobody", remedy=f"It takes {', '.join(known)}, separated by commas.")
    return tuple(name for name in known if name in names)


def _text(report: "ChaosReport") -> str:
    lines = ["", f"{'':<22}{'strikes':>8}  {'noticed ms':>18}  {'back ms':>18}"]
    lines.append(f"{'':<22}{'':>8}  {'median':>9}{'worst':>9}  {'median':>9}{'worst':>9}")
    for line in report.roles:
        noticed = f"{_figure(line.noticed_median_ms):>9}{_figure(line.noticed_worst_ms):>9}"
        back = f"{_figure(line.back_median_ms):>9}{_figure(line.back_worst_ms):>9}"
        lines.append(f"{line.role:<15}{line.signal:<7}{line.strikes:>8}  {noticed}  {back}")
    lines += ["", *_counts(report)]
    if report.resources:
        lines += ["", *_resources(report)]
    lines += ["", *(f"broken: {one.promise}: {one.where}: {one.what}" for one in report.broken)]
    if report.broken:
        lines.append(f"A promise broke. Seed {report.seed}; the evidence is kept in {report.workspace}.")
    elif report.interrupted:
        lines.append(f"Stopped early; nothing had broken. The workspace is {report.workspace}.")
    else:
        lines.append("Every promise was kept." + (f" The workspace is {report.workspace}." if report.kept else ""))
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _counts(report: "ChaosReport") -> list[str]:
    rows = [
        ("time", f"{report.duration_s:g} s, {report.strikes} strikes"),
        ("runs", str(report.runs)),
        ("resumed by the guardian, by hand", f"{report.resumed_by_guardian}, {report.resumed_by_hand}"),
        ("tasks finished", f"{report.tasks_completed} of {report.tasks}"),
        ("steps", f"{report.steps}, in {report.executions} executions"),
        ("executed again after the answer was recorded", str(report.executed_twice)),
        ("entries", str(report.entries)),
        ("entries lost", str(report.entries_lost)),
        ("entries doubled", str(report.entries_doubled)),
        ("orphans", str(report.orphans)),
        ("zombies", str(report.zombies)),
        ("descriptors leaked", str(report.descriptors_leaked)),
    ]
    return [f"{name:<46}{value}" for name, value in rows]


def _resources(report: "ChaosReport") -> list[str]:
    lines = []
    for line in report.resources:
        start, end = line.resident_start_bytes / (1 << 20), line.resident_end_bytes / (1 << 20)
        slope = line.resident_slope_bytes_per_minute / 1024
        lines.append(
            f"{line.process:<13} over {line.observed_s:.0f} s: resident {start:.1f} → {end:.1f} MiB "
            f"({slope:+.1f} KiB a minute), descriptors {line.descriptors_start} → {line.descriptors_end}, "
            f"threads {line.threads_start} → {line.threads_end}, "
            f"processes below {line.processes_start} → {line.processes_end}"
        )
    return lines
