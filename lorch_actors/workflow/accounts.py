"""Limits of accounts: who shares one, until when it is not to be used, and when waiting for it makes no sense.

A rate or usage limit belongs to an account, not to the agent that ran into it. Whoever uses the account is left alone
until the limit ends, across tasks and resumes.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.messages import Object
from lorch_actors.protocol.times import from_timestamp, to_timestamp
from lorch_actors.workflow.parts import FailureNote, LimitNote
from lorch_actors.workflow.state import Limit, Moment, NotBefore, Run, Told

LIMITS_MAX: Final = 100
_INTERPRETER: Final = re.compile(r"(python|pypy|node|deno|bun|ruby|perl|bash|dash|sh|zsh|env|npx|uvx)[0-9.]*")
_OWN_MODULES: Final = frozenset({"lorch_actors", "lorch_actors.agents"})
_OWN_PROGRAMS: Final = frozenset({"lorch", "lorch-agent"})


def account_of(run: Run, role: str) -> str:
    """Return the account of a role: as configured, else as it told itself, else by the program it runs."""
    return _configured(run, role) or run.accounts.get(role) or _by_program(run, role)


def _configured(run: Run, role: str) -> str:
    given = run.agent_settings.get(role, {}).get("account")
    return given if isinstance(given, str) else ""


def _by_program(run: Run, role: str) -> str:
    cmd = run.agent_settings.get(role, {}).get("cmd")
    words = [word for word in cmd if isinstance(word, str)] if isinstance(cmd, list) else []
    return program_of(words) or role


def program_of(cmd: Sequence[str]) -> str:
    """Return what to call the program that a command line starts: of our own agents their name, of a script its name.

    What stands after ``--`` in the command line of our own ``acp`` is the program that is meant.
    """
    words = list(cmd)
    while words:
        name = words.pop(0).rstrip("/").rpartition("/")[2]
        if _INTERPRETER.fullmatch(name):
            if "-m" in words and words.index("-m") + 1 < len(words):
                words = words[words.index("-m") + 1 :]
                name = words[0]
                if name not in _OWN_MODULES:
                    return name
                words.pop(0)
            words = _from_first_word(words)
        elif name in _OWN_PROGRAMS:
            words = _from_first_word(words)
        elif name == "acp" and "--" in words:
            words = words[words.index("--") + 1 :]
        else:
            return name
    return ""


def _from_first_word(words: list[str]) -> list[str]:
    at = next((at for at, word in enumerate(words) if not word.startswith("-") and "=" not in word), len(words))
    return words[at:]


def limited(run: Run, role: str, note: LimitNote, told: Told) -> Run:
    """Return the run after an agent of that role has run into a limit of an account."""
    steady_ms = told.heard_ms + note.wait_ms if told.heard_ms else None
    until = NotBefore(from_timestamp(note.until), steady_ms, note.wait_ms)
    limit = Limit(until=until, since=told.occurred_at, role=role, code=note.code, message=note.message)
    own = _configured(run, role) or _by_program(run, role)
    limits = {**run.limits, own: limit, note.account: limit}
    accounts = run.accounts if _configured(run, role) else {**run.accounts, role: note.account}
    return replace(run, limits=dict(list(limits.items())[-LIMITS_MAX:]), accounts=accounts)


def limit_of(run: Run, role: str) -> Limit | None:
    """Return the latest limit of the role's account, which may be over."""
    return run.limits.get(account_of(run, role)) if run.limits else None


def wait_ms(run: Run, role: str, now: Moment) -> int:
    """Return how long the role's account is not to be used, in milliseconds; 0 when it may be."""
    limit = limit_of(run, role)
    return limit.until.wait_ms(now) if limit is not None else 0


def not_worth_waiting(run: Run, roles: Sequence[str], now: Moment) -> FailureNote | None:
    """Return why nothing can go on: a limit that lasts longer than anybody may wait, of an account of these roles."""
    for role in roles:
        if wait_ms(run, role, now) > run.policy.max_wait_s * 1000:
            limit = limit_of(run, role)
            assert limit is not None
            until = to_timestamp(limit.until.wall_ms)
            message = (
                f"the account {account_of(run, role)} is limited until {until}, longer than "
                f"policy.max_wait_s ({run.policy.max_wait_s:g} s) allows to wait: {limit.message}; resume after that, "
                "or at once with `lorch resume --no-wait` if the limit is gone"
            )
            return FailureNote(FailureCode.WAIT_EXHAUSTED, message, role)
    return None


def resumed(run: Run, told: Told, *, no_wait: bool) -> Run:
    """Return the run with its limits on the clock of the process that goes on with it, or without any."""
    if no_wait:
        agents = {role: replace(agent, not_before=None) for role, agent in run.agents.items()}
        return replace(run, limits={}, agents=agents)
    limits = {name: replace(one, until=on_this_clock(one.until, told)) for name, one in run.limits.items()}
    return replace(run, limits=limits)


def on_this_clock(until: NotBefore, told: Told) -> NotBefore:
    """Return the wait of an earlier process on this one's steady clock: never longer than it was decided to be."""
    if not told.heard_ms:
        return replace(until, steady_ms=None)
    left_ms = max(0, until.wall_ms - from_timestamp(told.occurred_at))
    return replace(until, steady_ms=told.heard_ms + min(left_ms, until.delay_ms))


def told_account(payload: Object) -> str:
    """Return the account that an `error` names, empty if it names none."""
    given = payload.get("account")
    return given[:128] if isinstance(given, str) else ""
