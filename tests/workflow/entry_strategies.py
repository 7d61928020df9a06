"""Random entries: everything the schemas accept, and what is likely to be confused with a real run's entries."""

import msgspec
from harness import RUN_ID, SNAPSHOT
from hypothesis import strategies as st

from lorch_actors.protocol.messages import (
    AGENT_EVENTS,
    ROLES,
    Action,
    AgentType,
    Artifact,
    Command,
    Entry,
    Event,
    ExpectedOutput,
    Heartbeat,
    HeartbeatAgent,
    HeartbeatStatus,
    Log,
    LogLevel,
    ObservedVersion,
    Recipient,
    Retry,
    Sender,
    Version,
)
from lorch_actors.workflow.system import PAYLOADS

TEXTS = st.text(max_size=12)
NAMES = st.sampled_from(["builder-1", "reviewer-1", "builder-2", ""])
TASK_IDS = st.sampled_from(["T-1", "T-2", RUN_ID])
CORRELATIONS = st.sampled_from(["c-1", "c-2", "T-1"])
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-02-31T23:59:60.5Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)
NUMBERS = (
    st.integers(-3, 6) | st.sampled_from([10**9, 2**63, 10**40]) | st.floats(allow_nan=False, allow_infinity=False)
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | NAMES | TASK_IDS | CORRELATIONS | TIMES | st.sampled_from(ROLES)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)

_KNOWN = {
    "agent_type": st.sampled_from(ROLES),
    "agent_id": NAMES,
    "task": st.fixed_dictionaries(
        {"id": TASK_IDS, "goal": TEXTS}, optional={"priority": JUNK, "expected_outputs": JUNK}
    ),
    "tasks": st.just([{"id": "T-1", "goal": "g"}, {"id": "T-2", "goal": "h"}]),
    "task_count": st.integers(0, 3),
    "policy": st.just({}) | st.just({"retry": {"max_attempts": 1}, "max_orchestrator_deaths": 0}) | JUNK,
    "agents": st.just({}) | st.dictionaries(st.sampled_from(ROLES), st.dictionaries(st.just("timeouts_s"), JUNK)),
    "git": st.just({"mode": "commit", "branch": "lorch/x"}) | st.just({}),
    "status": st.sampled_from(["running", "completed", "failed", "aborted", "odd"]),
    "code": TEXTS,
    "message": TEXTS,
    "reason": TEXTS,
    "purpose": st.sampled_from(["commit", "set_aside"]),
    "failure": st.fixed_dictionaries({"code": TEXTS, "message": TEXTS}),
    "not_before": TIMES,
    "event_seq": st.integers(1, 30),
    "snapshot_id": st.just(SNAPSHOT),
    "retry_failed": st.booleans(),
    "decision": st.sampled_from(["allow", "deny"]),
    "by": st.sampled_from(["policy", "operator", "timeout"]),
    "approval_id": st.sampled_from(["ap-1", "ap-2"]),
    "request_id": TEXTS,
    "tool": TEXTS,
    "input": st.dictionaries(TEXTS, JUNK, max_size=2),
    "expires_at": TIMES,
}


def _payload_of(kind):
    """Return payloads that mostly fit a system event's shape, and sometimes do not."""
    given_ = {f.name: _KNOWN.get(f.name, st.integers(0, 5)) for f in msgspec.structs.fields(kind)}
    required = {f.name: given_[f.name] for f in msgspec.structs.fields(kind) if f.required}
    rest = {name: strategy for name, strategy in given_.items() if name not in required}
    likely = st.fixed_dictionaries(required, optional=rest)
    spoiled = st.tuples(likely, st.sampled_from(sorted(given_) or ["x"]), JUNK).map(lambda t: t[0] | {t[1]: t[2]})
    return st.one_of(likely, likely, spoiled, st.none(), st.dictionaries(TEXTS, JUNK, max_size=3))


def _events(names, senders, payloads):
    return st.builds(
        Event,
        message_id=TEXTS.map(lambda text: text or "m"),
        correlation_id=CORRELATIONS,
        task_id=TASK_IDS,
        sender=st.builds(Sender, senders, st.none() | NAMES),
        event=names,
        status=st.none() | st.sampled_from(["approved", "changes_requested", "x"]) | TEXTS,
        payload=payloads,
        artifacts=st.none()
        | st.lists(st.builds(Artifact, TEXTS, st.just("sha256:" + "0" * 64), st.integers(0, 10**18)), max_size=7),
        observed_version=st.none() | st.builds(ObservedVersion, st.sampled_from([SNAPSHOT, "other", None])),
        occurred_at=TIMES,
    )


_ANSWERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"tests": st.fixed_dictionaries({"status": st.sampled_from(["pass", "fail"]) | JUNK})}),
    st.fixed_dictionaries({"request_id": TEXTS, "tool": TEXTS, "input": st.dictionaries(TEXTS, JUNK, max_size=2)}),
    st.dictionaries(st.sampled_from(["retryable", "retriable", "retry_after_s", "resets_at", "code", "tests"]), JUNK),
    st.dictionaries(TEXTS, JUNK, max_size=3),
)
SYSTEM_EVENTS = st.sampled_from(sorted(PAYLOADS.items())).flatmap(
    lambda item: _events(st.just(item[0]), st.just(AgentType.SYSTEM), _payload_of(item[1]))
)
AGENT_EVENTS_ = _events(st.sampled_from(AGENT_EVENTS) | st.just("system.odd"), st.sampled_from(AgentType), _ANSWERS)
COMMANDS = st.builds(
    Command,
    message_id=TEXTS.map(lambda text: text or "m"),
    correlation_id=CORRELATIONS,
    task_id=TASK_IDS,
    idempotency_key=st.just("ik:0123456789abcdef"),
    to=st.builds(Recipient, st.sampled_from(ROLES), NAMES),
    action=st.sampled_from(Action),
    inputs=st.dictionaries(TEXTS, JUNK, max_size=3),
    expected_outputs=st.lists(
        st.builds(ExpectedOutput, TEXTS.map(lambda text: text or "p"), st.booleans()), max_size=2
    ),
    version=st.builds(Version, st.just(SNAPSHOT)),
    deadline=TIMES,
    retry=st.builds(Retry, st.integers(0, 5), st.integers(1, 5)),
    priority=st.integers(0, 9),
)
OTHERS = st.builds(Log, level=st.sampled_from(LogLevel), message=TEXTS, timestamp=TIMES) | st.builds(
    Heartbeat,
    agent=st.builds(HeartbeatAgent, st.sampled_from(ROLES), NAMES),
    seq=st.just(1),
    status=st.sampled_from(HeartbeatStatus),
    pid=st.just(2),
    uptime_s=st.just(1.0),
    last_activity_at=TIMES,
)
MESSAGES = st.one_of(SYSTEM_EVENTS, SYSTEM_EVENTS, AGENT_EVENTS_, COMMANDS, OTHERS)


def entries(messages, heard_ms=0):
    """Return the messages as entries, numbered from 1."""
    return [Entry(seq, f"{seq:016x}", message, heard_ms) for seq, message in enumerate(messages, start=1)]
