"""Strikes are drawn from a deck, the same for the same seed; wrong orders are explained."""

from collections import Counter
from pathlib import Path

import pytest

from lorch_actors.chaos.settings import VICTIMS, Card, Dealer, Settings
from lorch_actors.cli.app import main
from lorch_actors.errors import ExitCode


def drawn(settings: Settings, number: int) -> list[Card]:
    """Return the first strikes."""
    dealer = Dealer(settings)
    return [dealer.card() for _ in range(number)]


def test_the_same_seed_draws_the_same_strikes():
    """And the same waits; another seed draws others."""
    one, same, other = (Dealer(Settings(seed)) for seed in (1, 1, 2))
    draws = [[(dealer.card(), dealer.gap_s()) for _ in range(40)] for dealer in (one, same, other)]

    assert draws[0] == draws[1] != draws[2]


def test_all_roles_have_their_turn_in_each_deck():
    """Twenty strikes leave nobody out."""
    assert {card.role for card in drawn(Settings(3), 20)} == set(VICTIMS)


@pytest.mark.parametrize("role", ["orchestrator", "fork-server"])
def test_who_is_missed_only_after_ten_seconds_stands_still_seldom(role: str):
    """Asked for alone, it happens all the same."""
    count = Counter(drawn(Settings(1), 100))
    alone = Settings(1, roles=(role,), signals=("STOP",))

    assert 1 <= count[Card(role, "STOP")] <= 2
    assert drawn(alone, 3) == [Card(role, "STOP")] * 3


def test_a_conductor_is_never_stopped():
    """A thread cannot be, from outside."""
    assert Card("conductor", "STOP") not in drawn(Settings(1), 200)


def test_only_the_roles_and_signals_asked_for_are_drawn():
    """Nobody else is hurt."""
    cards = drawn(Settings(1, roles=("agent", "ledger"), signals=("KILL",)), 50)

    assert set(cards) == {Card("agent", "KILL"), Card("ledger", "KILL")}


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["--roles", "agnet"], "did you mean agent?"),
        (["--roles", ","], "--roles names nobody"),
        (["--signals", "TERM"], "--signals does not know 'TERM'"),
        (["--kills", "0"], "0 is not in the range"),
        (["--kills", "1", "--minutes", "1"], "do not go together"),
        (["--roles", "conductor", "--signals", "STOP"], "nobody can be hurt so"),
    ],
)
def test_wrong_orders_are_explained_before_anything_is_made(
    argv: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Exit code 2, and no workspace."""
    code = main(["chaos", "--workspace", str(tmp_path / "w"), *argv])

    assert code == ExitCode.USAGE
    assert what in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
