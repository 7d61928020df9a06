"""What a row yields: figures with their verdict, how a cost grows with its size, and what could not be measured."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured value beside the reference that was measured in the same run.

    target: what the ratio of value to reference may be at most, or has to be at least; None: only shown.
    A fixed limit is a reference of its own, with a target of 1.
    """

    what: str
    value: float
    unit: str
    reference: str
    reference_value: float
    target: float | None = None
    bound: Literal["at most", "at least"] = "at most"

    @property
    def ratio(self) -> float:
        """Value to reference."""
        return self.value / self.reference_value if self.reference_value else float("inf")

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target is None:
            return "shown"
        is_met = self.ratio <= self.target if self.bound == "at most" else self.ratio >= self.target
        return "met" if is_met else "missed"


@dataclass(frozen=True)
class Growth:
    """How a cost grows: (size, cost) pairs."""

    what: str
    size: str
    cost: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Skipped:
    """What could not be measured here, and why."""

    what: str
    reason: str


Result = Figure | Growth | Skipped
