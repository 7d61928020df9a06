"""lorch.json is read tolerantly where it may be, and refused with everything that is wrong where it must be."""

import json

import pytest

from lorch_actors.errors import ConfigError, ExitCode
from lorch_actors.protocol.configuration import (
    DEFAULT_TIMEOUTS_S,
    Configuration,
    check_configuration,
    default_configuration,
    parse_configuration,
)
from lorch_actors.protocol.messages import Action

LORCH_1_5 = {
    "_comment": "kept by a person",
    "version": "1.0",
    "workspace_root": ".",
    "policy": {
        "concurrency": 1,
        "message_max_bytes": 262144,
        "artifact_max_bytes": 1073741824,
        "retry": {
            "max_attempts": 3,
            "backoff": {"initial_ms": 1000, "max_ms": 60000, "multiplier": 2.0, "jitter": "full"},
        },
        "strict_version_pinning": True,
        "parallel_reviews": False,
        "redact_secrets_in_logs": True,
    },
    "agents": {
        "builder": {
            "cmd": ["claude"],
            "heartbeat_interval_s": 10,
            "timeouts_s": {"implement": 600, "implement_changes": 600},
            "env": {"CLAUDE_AGENT_ROLE": "builder", "LOG_LEVEL": "info"},
        },
        "reviewer": {"cmd": ["claude"], "heartbeat_interval_s": 10, "timeouts_s": {"review": 300}},
        "spec_maintainer": {"cmd": ["claude"], "timeouts_s": {"update_spec": 180}, "env": None},
        "orchestration": None,
    },
    "tasks": [],
}


def read(document: object) -> Configuration:
    """Return the configuration of a document that has to be right."""
    return parse_configuration(json.dumps(document).encode(), "lorch.json")[0]


def errors(document: object) -> dict[str, str]:
    """Return what is wrong with a document, by path."""
    _, found, _ = check_configuration(json.dumps(document).encode())
    return {error.path: error.what for error in found}


def warnings(document: object) -> dict[str, str]:
    """Return what is accepted with a word, by path."""
    return {warning.path: warning.what for warning in parse_configuration(json.dumps(document).encode(), "x")[1]}


def test_an_empty_object_means_the_defaults():
    """Every key has a default."""
    assert read({}) == default_configuration()


def test_the_defaults_are_those_of_the_specification():
    """The numbers people rely on without writing them down."""
    policy = default_configuration().policy

    assert (policy.concurrency, policy.message_max_bytes, policy.artifact_max_bytes) == (1, 262_144, 1_073_741_824)
    assert (policy.retry.max_attempts, policy.retry.backoff.initial_ms, policy.retry.backoff.max_ms) == (
        3,
        1000,
        60_000,
    )
    assert (policy.retry.backoff.multiplier, policy.retry.backoff.jitter) == (2.0, "full")
    assert (policy.max_bad_lines, policy.max_events_per_command, policy.max_wait_s) == (1000, 100_000, 21_600)
    assert (policy.test_rounds, policy.max_rounds, policy.verify_artifacts, policy.git) == (2, 10, "strict", "commit")


def test_a_lorch_1_5_file_works_unchanged():
    """Its keys, its nulls and the comments people keep in it raise neither error nor warning."""
    configuration, remarks = parse_configuration(json.dumps(LORCH_1_5).encode(), "lorch.json")

    assert remarks == []
    assert configuration.agents.builder.env == {"CLAUDE_AGENT_ROLE": "builder", "LOG_LEVEL": "info"}
    assert configuration.agents.spec_maintainer.heartbeat_interval_s == 10


def test_null_means_the_default():
    """An encoder that writes absent things as null changes nothing."""
    assert read({"tasks": None, "policy": None, "agents": {"builder": {"cmd": None}}}) == default_configuration()


def test_all_errors_come_at_once():
    """Nobody mends a file error by error."""
    found = errors(
        {
            "version": "2.0",
            "policy": {"concurrency": 2, "retry": {"backoff": {"jitter": "some"}}},
            "agents": {"builder": {"cmd": "claude"}},
            "tasks": [{"id": "../escape", "goal": ""}, {"goal": "x"}],
        }
    )

    assert list(found) == [
        "$.version",
        "$.policy.concurrency",
        "$.policy.retry.backoff.jitter",
        "$.agents.builder.cmd",
        "$.tasks[0].id",
        "$.tasks[0].goal",
        "$.tasks[1].id",
    ]


def test_an_error_names_path_value_and_what_is_allowed():
    """The three things one needs to mend it."""
    with pytest.raises(ConfigError) as caught:
        parse_configuration(b'{"policy": {"max_rounds": 0}}', "here/lorch.json")

    assert "$.policy.max_rounds: 0 is not allowed; allowed: a whole number (at least 1)" in caught.value.what
    assert caught.value.where == "here/lorch.json"
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("policy", "path", "allowed"),
    [
        ({"concurrency": 4}, "$.policy.concurrency", "only 1"),
        ({"parallel_reviews": True}, "$.policy.parallel_reviews", "only false"),
        ({"message_max_bytes": 1024}, "$.policy.message_max_bytes", "only 262144"),
        ({"verify_artifacts": "maybe"}, "$.policy.verify_artifacts", '"strict" or "warn" or "off"'),
        ({"strict_version_pinning": "yes"}, "$.policy.strict_version_pinning", "true or false"),
        ({"max_wait_s": -1}, "$.policy.max_wait_s", "at least 0"),
        ({"retry": {"max_attempts": 0}}, "$.policy.retry.max_attempts", "at least 1"),
    ],
)
def test_a_value_that_is_not_supported_is_an_error(policy: dict, path: str, allowed: str):
    """A setting that would be ignored is worse than one that is refused."""
    found = errors({"policy": policy})

    assert list(found) == [path]
    assert allowed in found[path]


def test_unknown_keys_are_warnings_with_a_guess():
    """A misspelt key is told, a file from elsewhere still works."""
    found = warnings({"policy": {"max_round": 3}, "agents": {"builder": {"timeouts_s": {"implment": 5}}}})

    assert found == {
        "$.policy.max_round": "is not a known key (did you mean max_rounds?)",
        "$.agents.builder.timeouts_s.implment": "is not a known action (did you mean implement?)",
    }


def test_disabling_an_agent_that_every_task_needs_is_told_to_have_no_effect():
    """`enabled` is for orchestration."""
    assert warnings({"agents": {"reviewer": {"enabled": False}, "orchestration": {"enabled": False}}}) == {
        "$.agents.reviewer.enabled": "has no effect: every task needs this agent"
    }


def test_values_of_the_environment_are_never_repeated():
    """A secret with a typing error around it does not end up on the console."""
    found = errors({"agents": {"builder": {"env": {"API_TOKEN": 123456789}}}})

    assert "123456789" not in found["$.agents.builder.env.API_TOKEN"]


@pytest.mark.parametrize(
    ("agent", "path"),
    [
        ({"cmd": [""]}, "cmd[0]"),
        ({"cmd": ["a", "b\0c"]}, "cmd[1]"),
        ({"cmd": ["a", 1]}, "cmd[1]"),
        ({"env": {"A=B": "x"}}, "env.A=B"),
        ({"env": {"A": "x\0y"}}, "env.A"),
        ({"timeouts_s": {"review": 0}}, "timeouts_s.review"),
        ({"heartbeat_interval_s": 0}, "heartbeat_interval_s"),
    ],
)
def test_what_no_process_could_be_started_with_is_an_error(agent: dict, path: str):
    """It would fail at night otherwise."""
    assert list(errors({"agents": {"reviewer": agent}})) == [f"$.agents.reviewer.{path}"]


@pytest.mark.parametrize("path", ["../out", "/etc", "a/../../b", ""])
def test_snapshot_paths_stay_in_the_workspace(path: str):
    """Absolute paths and `..` are refused."""
    assert list(errors({"snapshot": {"include": ["src", path]}})) == ["$.snapshot.include[1]"]


def test_every_action_has_a_timeout_and_settings_override_it():
    """No command is without a deadline."""
    settings = read({"agents": {"builder": {"timeouts_s": {"implement": 5}}}}).agents.builder

    assert set(DEFAULT_TIMEOUTS_S) == {action.value for action in Action}
    assert (settings.timeout_s("implement"), settings.timeout_s("implement_changes")) == (5, 600)


def test_roles_without_a_command_are_named():
    """A run cannot start without them; orchestration is another matter."""
    configuration = read({"agents": {"reviewer": {"cmd": ["x"]}}})

    assert configuration.missing_agents() == ["builder", "spec_maintainer"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'{"policy":\n  {"max_rounds": 3,,}}', "line 2, column"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        (b"", "is not JSON"),
        (b"[]", "allowed: an object"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b"[" * 100_000, "is nested too deep"),
        (b'{"tasks": [], "policy": {}, "tasks": []}', "has 'tasks' twice in one object"),
        (b'{"tasks": [{"goal\\u003a": 1, "goal:": 2}]}', "has 'goal:' twice in one object"),
    ],
)
def test_what_is_no_json_object_is_said_with_its_place(data: bytes, what: str):
    """The person is led to the spot."""
    with pytest.raises(ConfigError) as caught:
        parse_configuration(data, "lorch.json")

    assert what in caught.value.what
