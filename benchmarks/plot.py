"""Draws how each cost grows with its size: small multiples in one SVG, both axes logarithmic."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.figures import Growth

COLUMNS = 3
WIDTH, HEIGHT, GAP = 280, 190, 20
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 34, 40
INK, LINE, FAINT = "#3b4252", "#2563a8", "#c9d1dc"


def draw(growths: Sequence[Growth]) -> str:
    """Return the SVG."""
    rows = -(-len(growths) // COLUMNS)
    width, height = COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP
    cells = "".join(
        f'<g transform="translate({GAP + at % COLUMNS * (WIDTH + GAP)},{GAP + at // COLUMNS * (HEIGHT + GAP)})">'
        f"{_cell(growth)}</g>\n"
        for at, growth in enumerate(growths)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{cells}</svg>\n'
    )


def _cell(growth: Growth) -> str:
    x, y = (
        _Axis([p[0] for p in growth.points], LEFT, WIDTH - RIGHT),
        _Axis([p[1] for p in growth.points], HEIGHT - BOTTOM, TOP),
    )
    path = " ".join(f"{x.at(size):.1f},{y.at(cost):.1f}" for size, cost in growth.points)
    dots = "".join(f'<circle cx="{x.at(s):.1f}" cy="{y.at(c):.1f}" r="2.5" fill="{LINE}"/>' for s, c in growth.points)
    return (
        f'<text x="{LEFT}" y="14" font-weight="bold">{escape(growth.what)}</text>'
        f'<text x="{LEFT}" y="27" font-size="10">{escape(growth.cost)}</text>'
        + "".join(_grid(y.at(tick), tick) for tick in y.ticks())
        + "".join(_mark(x.at(tick), tick) for tick in x.ticks())
        + f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.8"/>{dots}'
        + f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle" font-size="10">'
        + f"{escape(growth.size)}</text>"
    )


def _grid(at: float, tick: float) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{FAINT}"/>'
        f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end" font-size="10">{_text(tick)}</text>'
    )


def _mark(at: float, tick: float) -> str:
    return f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle" font-size="10">{_text(tick)}</text>'


class _Axis:
    """A logarithmic scale from the power of ten below the smallest value to the one above the largest."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        values = [value for value in values if value > 0] or [1.0]
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        value = max(value, 10.0**self._low)
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def _text(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
