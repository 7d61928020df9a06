"""docs/CONFIGURATION.md tells every key with the default that is in force, and its example is valid."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from lorch_actors.protocol.configuration import DEFAULT_TIMEOUTS_S, ConfigurationDocument, parse_configuration

PAGE = (Path(__file__).parents[2] / "docs" / "CONFIGURATION.md").read_text()


def flat(value: object, path: str = "") -> dict[str, object]:
    """Return the leaves of the defaults by their dotted keys; of the agents, the builder stands for all."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    items = value.items() if path != "agents" else [("builder", value["builder"])]
    return {key: leaf for name, item in items for key, leaf in flat(item, f"{path}.{name}".strip(".")).items()}


DEFAULTS = {key: value for key, value in flat(msgspec.to_builtins(ConfigurationDocument())).items() if key != "tasks"}


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_every_key_stands_there_with_its_default(key: str):
    """Whoever changes a default changes the page."""
    told = re.search(rf"^\| `{re.escape(key)}` \| [^|]*\| `?([^|]*?)`? \|", PAGE, re.MULTILINE)

    assert told is not None
    assert json.loads(told[1]) == DEFAULTS[key]


def test_every_default_timeout_stands_there():
    """By action."""
    assert all(f"`{action}` {seconds}" in PAGE for action, seconds in DEFAULT_TIMEOUTS_S.items())


def test_the_example_is_valid_without_a_warning():
    """It can be copied."""
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    configuration, warnings = parse_configuration(example.encode(), "example")

    assert warnings == []
    assert configuration.missing_agents() == []
    assert [task.id for task in configuration.tasks] == ["T-1"]
