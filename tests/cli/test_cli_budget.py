"""``--budget KEY=AMOUNT``: what it takes, what it refuses, and what becomes of the configured budget."""

import pytest

from lorch_actors.cli.budget import amounts, with_budget
from lorch_actors.errors import ConfigError, UsageError
from lorch_actors.protocol.configuration import Configuration, Policy, parse_configuration

CONFIGURED = b'{"policy": {"budget": {"usd": 20, "task": {"tokens": 5000}}, "max_rounds": 3}}'


def test_amounts_are_changed_one_by_one_and_the_rest_stays():
    """Also below `task`; `none` lifts a limit."""
    configuration, _ = parse_configuration(CONFIGURED, "lorch.json")
    found = with_budget(configuration, ("usd=none", "wall_s=0.5", "task.usd=2")).policy

    assert (found.budget.usd, found.budget.wall_s, found.budget.tokens) == (None, 0.5, None)
    assert (found.budget.task.usd, found.budget.task.tokens) == (2.0, 5000)
    assert found.max_rounds == 3


def test_the_last_word_on_an_amount_counts_and_no_word_changes_nothing():
    """As with every option that is given twice."""
    assert amounts(("usd=1", "usd=3")) == {"usd": 3.0}
    assert with_budget(Configuration(), ()).policy == Policy()


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("money=5", "there is no budget 'money'"),
        ("usb=5", "there is no budget 'usb' (did you mean usd?)"),
        ("usd", "'' is no amount"),
        ("usd=much", "'much' is no amount"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_there_is(word, what):
    """In one message."""
    with pytest.raises(UsageError) as refused:
        amounts((word,))

    assert refused.value.what == what


@pytest.mark.parametrize("word", ["usd=0", "usd=-1", "usd=nan", "usd=inf", "tokens=1.5", "wall_s=1e9", "task.tokens=0"])
def test_amounts_have_the_limits_that_the_configuration_has(word):
    """They name the place and what is allowed."""
    with pytest.raises(ConfigError) as refused:
        with_budget(Configuration(), (word,))

    assert "allowed: a" in refused.value.what
