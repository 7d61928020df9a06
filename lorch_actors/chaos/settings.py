"""What a chaos run is asked for: how long, whom to hurt, and how."""

import random
from typing import Final, NamedTuple

from msgspec import Struct

from lorch_actors.protocol.messages import ROLES

LOOP_AGENTS: Final = tuple(role for role in ROLES if role != "orchestration")
WORKERS: Final = ("ledger", "snapshotter", "run-state")
AGENT, LEDGER, FORK_SERVER, CONDUCTOR = "agent", "ledger", "fork-server", "conductor"
ORCHESTRATOR, GUARDIAN = "orchestrator", "guardian"
VICTIMS: Final = (AGENT, *WORKERS, FORK_SERVER, CONDUCTOR, ORCHESTRATOR, GUARDIAN)
"""Who can be hurt, as ``--roles`` names them."""
BELOW: Final = (AGENT, *WORKERS, FORK_SERVER, CONDUCTOR)
"""Those below the orchestrator: a soak hurts only them, so that what grows in one long-lived orchestrator shows."""
SIGNALS: Final = ("KILL", "STOP")

PACE_S: Final = (0.02, 0.6)
"""Between two strikes, in seconds, drawn evenly."""
SOAK_PACE_S: Final = (0.5, 3.5)

_CARDS: Final = {
    (AGENT, "KILL"): 4,
    (AGENT, "STOP"): 1,
    (LEDGER, "KILL"): 2,
    (ORCHESTRATOR, "KILL"): 2,
    (CONDUCTOR, "STOP"): 0,  # it is no process that could be stopped from outside
}
_SELDOM: Final = {(ORCHESTRATOR, "STOP"), (FORK_SERVER, "STOP")}
"""One in each fourth deck: it takes ten seconds and more until one that stands still is given up."""
_SELDOM_DECKS: Final = 4


class Card(NamedTuple):
    """Whom to hurt, and with which signal."""

    role: str
    signal: str


class Settings(Struct, frozen=True):
    """What is asked for.

    kills: so many strikes, or None: strikes for ``duration_s`` seconds. pace_s: shortest and longest time between two.
    """

    seed: int
    kills: int | None = None
    duration_s: float = 0.0
    roles: tuple[str, ...] = VICTIMS
    signals: tuple[str, ...] = SIGNALS
    pace_s: tuple[float, float] = PACE_S


class Dealer:
    """Draws strikes and the time between them, the same ones for the same seed.

    Strikes come from a shuffled deck that holds each role and signal, so that all have their turn early.
    """

    def __init__(self, settings: Settings) -> None:
        self._random = random.Random(settings.seed)
        self._settings = settings
        self._decks = 0
        self._cards: list[Card] = []

    def card(self) -> Card:
        """Draw the next strike."""
        while not self._cards:
            self._cards = self._deck()
        return self._cards.pop()

    def put_under(self, card: Card) -> None:
        """Take a strike back for later: nobody is there to be hurt."""
        self._cards.insert(0, card)

    def gap_s(self) -> float:
        """Draw the time until the next strike, in seconds."""
        return self._random.uniform(*self._settings.pace_s)

    def choose(self, names: list[str]) -> str:
        """Draw one of several."""
        return self._random.choice(sorted(names))

    def _deck(self) -> list[Card]:
        self._decks += 1
        cards = []
        for role in self._settings.roles:
            for signal in self._settings.signals:
                number = _CARDS.get((role, signal), 1)
                if (role, signal) in _SELDOM and "KILL" in self._settings.signals:
                    number = int(self._decks % _SELDOM_DECKS == 0)
                cards += [Card(role, signal)] * number
        self._random.shuffle(cards)
        return cards
