"""``render(entry) -> lines``: what the console and the transcript say about an entry.

A line depends on its entry alone, so the transcript can be written again from the ledger, byte for byte.
Terminal control characters of agents are made visible, never sent.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from lorch_actors.protocol.ids import shown_approval_id
from lorch_actors.protocol.messages import AgentType, Artifact, Command, Entry, Event, Heartbeat, Log, LogLevel, Object

TEXT_MAX_CHARS: Final = 400
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_QUIET: Final = frozenset(
    {
        "system.task_declared",
        "system.snapshot_requested",
        "system.agent_started",
        "system.agent_lost",
        "system.worker_started",
        "system.artifacts_verified",
        "system.commit_intended",
    }
)


def visible(text: str) -> str:
    """Return the text in one line, with control characters spelled out and cut to a readable length."""
    shown = _CONTROL.sub(lambda found: " " if found[0] == "\n" else _escaped(found[0]), text)
    return shown if len(shown) <= TEXT_MAX_CHARS else shown[:TEXT_MAX_CHARS] + "…"


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def size_text(size_bytes: int) -> str:
    """Return a size for people: ``12 B``, ``1.4 KiB``, ``3.0 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def render(entry: Entry) -> tuple[str, ...]:
    """Return the lines for an entry, without newlines; most entries have one, heartbeats none."""
    message = entry.message
    if isinstance(message, Heartbeat):
        return ()
    if isinstance(message, Log):
        if message.level is LogLevel.INFO:
            return ()
        return (f"[log] {message.level}: {visible(message.message)}",)
    if isinstance(message, Command):
        return (_command(message),)
    if message.sender.agent_type is AgentType.SYSTEM:
        return () if message.event in _QUIET or _is_orderly_exit(message) else (_system(message),)
    return _agent_event(message)


def _is_orderly_exit(event: Event) -> bool:
    """Tell whether an agent was asked to go, and went: why it was asked is told by the entry that asked."""
    note = event.payload or {}
    return event.event == "system.agent_exited" and note.get("code") == 0 and bool(note.get("reason"))


def _command(command: Command) -> str:
    requested_by = command.inputs.get("requested_by")
    notes = [f"task: {command.task_id}"]
    if isinstance(requested_by, str):
        notes.append(f"asked by {visible(requested_by)}")
    if command.retry.attempt:
        notes.append(f"attempt {command.retry.attempt + 1} of {command.retry.max_attempts}")
    return f"[lorch→{command.to.agent_type}] {command.action} ({', '.join(notes)})"


def _agent_event(event: Event) -> tuple[str, ...]:
    who = event.sender.agent_type
    payload = event.payload or {}
    if event.event == "artifact.produced":
        return tuple(f"[{who}] artifact.produced: {_artifact(artifact)}" for artifact in event.artifacts or ())
    details = _details(event, payload)
    return (f"[{who}] {event.event}: {', '.join(details)}" if details else f"[{who}] {event.event}",)


def _artifact(artifact: Artifact) -> str:
    return f"{visible(artifact.path)} ({size_text(artifact.size)})"


def _details(event: Event, payload: Object) -> list[str]:
    details: list[str] = []
    if event.event == "builder.completed":
        tests = payload.get("tests")
        status = tests.get("status") if isinstance(tests, dict) else None
        details.append(f"tests: {visible(str(status)) if status is not None else 'not told'}")
    elif event.event == "review.completed":
        details.append(f"status: {visible(event.status or 'not told')}")
        if event.status == "changes_requested" and event.artifacts:
            details.append(f"review: {visible(event.artifacts[0].path)}")
    elif event.event == "error":
        details.append(_words(payload, ("code", "message", "error", "details")) or "no reason given")
    elif event.event == "approval.requested":
        details.append(_wish(payload))
    elif event.event == "builder.progress":
        details.append(_words(payload, ("stage", "message")))
    else:
        details.append(_words(payload, ("summary",)))
    if event.event not in {"review.completed", "error"} and event.artifacts:
        details.append(", ".join(_artifact(artifact) for artifact in event.artifacts[:5]))
        if len(event.artifacts) > 5:
            details.append(f"{len(event.artifacts) - 5} more")
    return [detail for detail in details if detail]


def _wish(note: Object) -> str:
    """Return what leave is asked for: the tool, and what it would be given."""
    given = note.get("input")
    what = json.dumps(given, ensure_ascii=False) if given else ""
    return f"{_word(note, 'tool')} {visible(what)}".strip()


def _words(payload: Object, keys: tuple[str, ...]) -> str:
    return ": ".join(visible(str(payload[key])) for key in keys if payload.get(key) not in (None, ""))


def _system(event: Event) -> str:
    note = event.payload or {}
    told = _SYSTEM_LINES.get(event.event)
    text = told(event, note) if told else f"{event.event.removeprefix('system.')} {_words(note, ('code', 'message'))}"
    return f"[lorch] {text.strip()}"


def _task_finished(event: Event, note: Object) -> str:
    if note.get("status") == "completed":
        return f"DONE {event.task_id}"
    return f"FAILED {event.task_id}: {_reason(note)}"


def _reason(note: Object) -> str:
    failure = note.get("failure")
    return _words(failure, ("code", "message")) if isinstance(failure, dict) else ""


def _commit_made(event: Event, note: Object) -> str:
    if not note.get("commit"):
        return f"nothing to commit for {event.task_id}"
    verb = "set aside" if note.get("purpose") == "set_aside" else "committed"
    commit = f"{_word(note, 'commit')[:12]} ({_files(note, 'files')})"
    return f"{verb} {event.task_id} on {_word(note, 'branch')} as {commit}"


def _agent_exited(_event: Event, note: Object) -> str:
    if note.get("signal") is not None:
        how = f"was killed by signal {_word(note, 'signal')}"
    else:
        how = f"exited with code {_word(note, 'code')}" if note.get("code") is not None else "ended"
    reason = _word(note, "reason")
    return f"{_word(note, 'agent_id')} {how}{f' ({reason})' if reason else ''}"


def _retry(_event: Event, note: Object) -> str:
    limit = note.get("limit")
    if isinstance(limit, dict):
        whose = f"the account {_word(limit, 'account')} is limited until {_word(limit, 'until')}"
        return f"{_word(note, 'agent_type')} waits, {whose}: {_words(note, ('code', 'message'))}"
    delay_ms = note.get("delay_ms")
    delay = f"{delay_ms / 1000:.1f} s" if isinstance(delay_ms, int) and 0 < delay_ms < 10**12 else "no wait"
    return f"trying {_word(note, 'agent_type')} again after {delay}: {_words(note, ('code', 'message'))}"


def _run_started(event: Event, note: Object) -> str:
    plan = note.get("git")
    git = plan if isinstance(plan, dict) else {}
    how = "each a commit" if git.get("mode") == "commit" else f"no commits: {_word(git, 'reason') or 'git is off'}"
    count = _word(note, "task_count")
    return f"run {event.task_id} started: {count} task{'' if count == '1' else 's'}, {how}"


def _run_resumed(event: Event, note: Object) -> str:
    changes = note.get("config_changes")
    told = (
        f"; it goes on as it was, although lorch.json now differs in {', '.join(map(str, changes[:5]))}"
        if (isinstance(changes, list) and changes)
        else ""
    )
    return visible(f"run {event.task_id} resumed{told}")


def _approval_requested(_event: Event, note: Object) -> str:
    name = shown_approval_id(_word(note, "approval_id"))
    return f"{name}: `lorch approve {name}` or `lorch deny {name}`; denied at {_word(note, 'expires_at')}"


def _approval_answered(_event: Event, note: Object) -> str:
    said = "allowed" if note.get("decision") == "allow" else "denied"
    reason = _word(note, "reason")
    name = shown_approval_id(_word(note, "approval_id"))
    return f"{name} {said} by {_word(note, 'by')}{f': {reason}' if reason else ''}"


def _word(note: dict[str, Any], key: str) -> str:
    value = note.get(key)
    return "" if value is None else visible(str(value))


def _files(note: dict[str, Any], key: str) -> str:
    count = _word(note, key) or "0"  # a payload leaves out what holds its default
    return f"{count} file" if count == "1" else f"{count} files"


_SYSTEM_LINES: Final[dict[str, Callable[[Event, Object], str]]] = {
    "system.run_started": _run_started,
    "system.run_resumed": _run_resumed,
    "system.run_stopped": lambda _event, note: f"stopped, resumable: {_words(note, ('code', 'message'))}",
    "system.run_finished": lambda event, note: f"run {event.task_id} {_word(note, 'status')}",
    "system.task_started": lambda event, note: f"START {event.task_id} {_word(note, 'title')}",
    "system.task_finished": _task_finished,
    "system.snapshot_captured": lambda _event, note: f"{_word(note, 'snapshot_id')}: {_files(note, 'files')}",
    "system.snapshot_failed": lambda _event, note: f"no snapshot: {_word(note, 'message')}",
    "system.workspace_drift": lambda _event, note: _drift(note),
    "system.agent_exited": _agent_exited,
    "system.agent_start_failed": lambda _event, note: f"cannot start: {_word(note, 'message')}",
    "system.agent_hung": lambda _event, note: f"{_word(note, 'agent_id')}: {_words(note, ('code', 'message'))}",
    "system.command_timed_out": lambda _event, note: _word(note, "message"),
    "system.command_failed": lambda _event, note: f"given up: {_reason(note)}",
    "system.retry_scheduled": _retry,
    "system.approval_requested": _approval_requested,
    "system.approval_answered": _approval_answered,
    "system.artifacts_rejected": lambda _event, note: f"artifacts rejected: {_word(note, 'message')}",
    "system.branch_created": lambda _event, note: f"on branch {_word(note, 'branch')}",
    "system.commit_made": _commit_made,
    "system.commit_failed": lambda _event, note: f"git: {_word(note, 'message')}",
    "system.actor_restarted": lambda _event, note: f"restarted {_word(note, 'actor')}: {_word(note, 'reason')}",
    "error": lambda _event, note: f"error: {_words(note, ('code', 'message'))}",
}


def _drift(note: Object) -> str:
    if not note.get("count"):
        return "no file changed without a step having claimed it"
    paths = note.get("paths")
    shown = ", ".join(visible(str(path)) for path in paths[:5]) if isinstance(paths, list) else ""
    it = "it" if note["count"] == 1 else "them"
    return f"{_files(note, 'count')} changed without any step having claimed {it}: {shown}"
