"""What ``lorch.json`` may say (SPEC §8): its keys, their types, limits and defaults.

Every key has a default, so an absent one, or ``null``, means that default. Values of the wrong type or out of range
are errors, and all errors of a file are told together. Keys that are not known are warnings, not errors: a file of
lorch 1.5 works unchanged, also with the comments that people keep in it under names that start with ``_``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from lorch_actors.protocol.checking import Checker, Remark, decode_json, did_you_mean
from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES, ROLES, Action, AgentRole, Count, Positive, Text
from lorch_actors.protocol.tasks import TASKS_MAX, TaskDocument, TaskSettings, check_tasks, raise_errors

_YEAR_S: Final = 31_536_000

DurationS = Annotated[float, Meta(gt=0, le=_YEAR_S)]
Permissions = Literal["allow", "workspace", "ask"]
"""What an agent may do: all it likes, what stays in the workspace, or more when somebody says so."""

DelayMs = Annotated[int, Meta(ge=0, le=86_400_000)]

DEFAULT_TIMEOUTS_S: Final[Mapping[str, float]] = {
    "implement": 600,
    "implement_changes": 600,
    "review": 300,
    "update_spec": 180,
    "intake": 180,
    "task_discovery": 180,
}
"""How long an agent has for a command, by action, in seconds."""


class _Section(Struct, frozen=True, kw_only=True):
    """A part of the file. Unknown keys are let through here and told as remarks by the parser."""


class Backoff(_Section, frozen=True):
    """Waits between restarts: ``initial_ms``, then ``multiplier`` times longer each, at most ``max_ms``."""

    initial_ms: DelayMs = 1000
    max_ms: DelayMs = 60_000
    multiplier: Annotated[float, Meta(ge=1, le=100)] = 2.0
    jitter: Literal["full", "none"] = "full"


class RetryPolicy(_Section, frozen=True):
    """How often a command is sent, the first time included, and how long to wait in between."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    backoff: Backoff = Backoff()


class Intensity(_Section, frozen=True):
    """How many restarts a supervisor takes within ``period_s`` seconds before it gives up."""

    restarts: Annotated[int, Meta(ge=0, le=1_000_000)] = 5
    period_s: DurationS = 30.0


class Amounts(_Section, frozen=True):
    """What may be spent: US dollars, tokens (input and output together), seconds of work. Absent is unlimited."""

    usd: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    tokens: Annotated[int, Meta(ge=1, le=10**15)] | None = None
    wall_s: DurationS | None = None


class Budget(Amounts, frozen=True):
    """What a run may spend in all, and in it each ``task``."""

    task: Amounts = Amounts()


def with_amounts(budget: Budget, changes: Mapping[str, float | None]) -> Budget:
    """Return the budget with these amounts changed, by their dotted keys below ``policy.budget``; None lifts one.

    Raises ConfigError for what is no such amount.
    """
    document: dict[str, Any] = msgspec.to_builtins(budget)
    for key, amount in changes.items():
        *path, name = key.split(".")
        place = document["task"] if path else document
        place[name] = int(amount) if amount is not None and amount.is_integer() else amount
    checker = Checker()
    found = checker.check(Budget, document, "budget")
    raise_errors(checker.errors, "--budget")
    assert isinstance(found, Budget), "no errors, so it is one"
    return found


class Policy(_Section, frozen=True):
    """What a run does when something is large, late, wrong or dead. Each key: docs/CONFIGURATION.md."""

    concurrency: Literal[1] = 1
    message_max_bytes: Annotated[int, Meta(ge=MESSAGE_MAX_BYTES, le=MESSAGE_MAX_BYTES)] = MESSAGE_MAX_BYTES
    artifact_max_bytes: Positive = 1_073_741_824
    retry: RetryPolicy = RetryPolicy()
    strict_version_pinning: bool = True
    parallel_reviews: Annotated[bool, Meta(extra_json_schema={"const": False})] = False
    redact_secrets_in_logs: bool = True
    max_bad_lines: Count = 1000
    max_events_per_command: Positive = 100_000
    verify_artifacts: Literal["strict", "warn", "off"] = "strict"
    max_wait_s: Annotated[float, Meta(ge=0, le=_YEAR_S)] = 21_600.0
    approval_timeout_s: Annotated[float, Meta(ge=0, le=_YEAR_S)] = 600.0
    budget: Budget = Budget()
    test_rounds: Count = 2
    max_rounds: Positive = 10
    git: Literal["commit", "off"] = "commit"
    max_agent_restarts: Count = 5
    max_orchestrator_deaths: Count = 5
    stdin_timeout_s: DurationS = 30.0
    worker_stall_s: DurationS = 10.0
    supervisor: Intensity = Intensity()


class AgentSettings(_Section, frozen=True):
    """How one agent is started. An empty ``cmd`` means: not set up yet."""

    enabled: bool = True
    cmd: list[str] = field(default_factory=list)
    heartbeat_interval_s: DurationS = 10.0
    timeouts_s: dict[str, DurationS] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    permissions: Permissions = "workspace"
    account: Annotated[str, Meta(min_length=1, max_length=128)] | None = None

    def timeout_s(self, action: str) -> float:
        """Return how long this agent has for a command of that action, in seconds."""
        return self.timeouts_s.get(action, DEFAULT_TIMEOUTS_S[action])


class Agents(_Section, frozen=True):
    """The four roles. ``orchestration`` is needed for instructions in plain language only."""

    builder: AgentSettings = field(default_factory=AgentSettings)
    reviewer: AgentSettings = field(default_factory=AgentSettings)
    spec_maintainer: AgentSettings = field(default_factory=AgentSettings)
    orchestration: AgentSettings = field(default_factory=AgentSettings)

    def of(self, role: AgentRole) -> AgentSettings:
        """Return the settings of that role."""
        found: AgentSettings = getattr(self, role)
        return found


class SnapshotSettings(_Section, frozen=True):
    """What snapshots track: directories below the workspace, less the paths that match an ``exclude`` pattern."""

    include: list[str] = field(default_factory=lambda: ["specs", "src", "tests", "docs"])
    exclude: list[str] = field(default_factory=list)


class _Settings(_Section, frozen=True):
    version: Literal["1.0"] = "1.0"
    workspace_root: Text = "."
    policy: Policy = Policy()
    agents: Agents = field(default_factory=Agents)
    snapshot: SnapshotSettings = field(default_factory=SnapshotSettings)


class ConfigurationDocument(_Settings, frozen=True):
    """The file as it is written: what the JSON Schema describes."""

    tasks: Annotated[list[TaskDocument], Meta(max_length=TASKS_MAX)] = field(default_factory=list)


class Configuration(_Settings, frozen=True):
    """The configuration in force."""

    tasks: tuple[TaskSettings, ...] = ()

    def missing_agents(self) -> list[AgentRole]:
        """Return the roles every task needs that have no command yet."""
        return [role for role in ROLES if role != "orchestration" and not self.agents.of(role).cmd]

    def disabled_agents(self) -> list[AgentRole]:
        """Return the roles every task needs that are switched off."""
        return [role for role in ROLES if role != "orchestration" and not self.agents.of(role).enabled]


configuration_schema_type = ConfigurationDocument
"""The type that ``schemas/v1/configuration.json`` is generated from."""


def default_configuration() -> Configuration:
    """Return the configuration of a workspace that says nothing."""
    return Configuration()


def parse_configuration(data: bytes, where: str) -> tuple[Configuration, list[Remark]]:
    """Read ``lorch.json``; return the configuration and what is accepted but worth a word.

    where: the file's name for messages. Raises `ConfigError` that tells all errors at once, each with its JSON path,
    the value and what is allowed.
    """
    configuration, errors, warnings = check_configuration(data)
    raise_errors(errors, where)
    assert configuration is not None, "no errors, so there is a configuration"
    return configuration, warnings


def check_configuration(data: bytes) -> tuple[Configuration | None, list[Remark], list[Remark]]:
    """Judge ``lorch.json``; return the configuration (None when there are errors), the errors and the warnings."""
    checker = Checker(open_types=(TaskDocument,), hidden=".env.")
    try:
        value = decode_json(data)
    except ValueError as error:
        checker.error("$", str(error))
    else:
        configuration = _check(checker, value)
        if not checker.errors:
            return configuration, [], checker.warnings
    return None, checker.errors, checker.warnings


def _check(checker: Checker, value: object) -> Configuration | None:
    given, tasks = value, None
    if isinstance(value, dict) and isinstance(value.get("tasks"), list):
        tasks = value["tasks"]
        given = {key: item for key, item in value.items() if key != "tasks"}
    document: ConfigurationDocument | None = checker.check(ConfigurationDocument, given, "$")
    found: tuple[TaskSettings, ...] = ()
    if tasks is not None and len(tasks) > TASKS_MAX:
        checker.error("$.tasks", f"has {len(tasks)} entries; allowed: at most {TASKS_MAX}")
    elif tasks is not None:
        found = check_tasks(checker, tasks, [f"$.tasks[{at}]" for at in range(len(tasks))])
    if isinstance(value, dict):
        _check_agents(checker, value.get("agents"))
        _check_paths(checker, value.get("snapshot"))
    if document is None:
        return None
    sections = {name: getattr(document, name) for name in ("version", "workspace_root", "policy", "agents", "snapshot")}
    return Configuration(**sections, tasks=found)


def _check_agents(checker: Checker, agents: object) -> None:
    actions = [str(action) for action in Action]
    for role in ROLES:
        agent = agents.get(role) if isinstance(agents, dict) else None
        if not isinstance(agent, dict):
            continue
        path = f"$.agents.{role}"
        if agent.get("enabled") is False and role != "orchestration":
            checker.warn(f"{path}.enabled", "has no effect: every task needs this agent")
        cmd = agent.get("cmd")
        if isinstance(cmd, list):
            if cmd and cmd[0] == "":
                checker.error(f"{path}.cmd[0]", "is empty; allowed: the program to start")
            for at, word in enumerate(cmd):
                if isinstance(word, str) and "\0" in word:
                    checker.error(f"{path}.cmd[{at}]", "holds a NUL character, which no program can be given")
        timeouts = agent.get("timeouts_s")
        for action in timeouts if isinstance(timeouts, dict) else ():
            if action not in actions and not action.startswith("_"):
                checker.warn(f"{path}.timeouts_s.{action}", f"is not a known action{did_you_mean(action, actions)}")
        _check_env(checker, agent.get("env"), f"{path}.env")


def _check_env(checker: Checker, env: object, path: str) -> None:
    for name, text in env.items() if isinstance(env, dict) else ():
        if not name or "=" in name or "\0" in name:
            checker.error(f"{path}.{name}", "is not a name of an environment variable: no `=`, no NUL, not empty")
        if isinstance(text, str) and "\0" in text:
            checker.error(f"{path}.{name}", "holds a NUL character, which no program can be given")


def _check_paths(checker: Checker, snapshot: object) -> None:
    for key in ("include", "exclude"):
        listed = snapshot.get(key) if isinstance(snapshot, dict) else None
        for at, path in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(path, str) and (not path or path.startswith("/") or ".." in path.split("/")):
                checker.error(
                    f"$.snapshot.{key}[{at}]",
                    f"{checker.shown('', path)} is not allowed; allowed: a path below the workspace, without `..`",
                )
