"""Telling what a command prints while it runs, without flooding anybody: a digest at most every second."""

import time
from collections.abc import Callable
from typing import Final

from lorch_actors.agents.running import readable

_INTERVAL_S: Final = 1.0
_LINES_MAX: Final = 20
_LINE_MAX_BYTES: Final = 500


class Digest:
    """Collects lines; hands over at most `_LINES_MAX` of them at a time, and the number of those left out."""

    def __init__(self, tell: Callable[[str, int], None], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock_s = clock_s
        self._told_s = float("-inf")
        self._begun = bytearray()
        self._lines: list[bytes] = []
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take a piece of output."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._extend(piece)
            self._end_line()
        self._extend(rest)
        if self._lines and self._clock_s() - self._told_s >= _INTERVAL_S:
            self._hand_over()

    def close(self) -> None:
        """Hand over what is left."""
        if self._begun:
            self._end_line()
        if self._lines:
            self._hand_over()

    def _extend(self, piece: bytes) -> None:
        self._begun += piece[: _LINE_MAX_BYTES - len(self._begun)]

    def _end_line(self) -> None:
        if len(self._lines) < _LINES_MAX:
            self._lines.append(bytes(self._begun))
        else:
            self._left_out += 1
        self._begun.clear()

    def _hand_over(self) -> None:
        self._tell(readable(b"\n".join(self._lines)), self._left_out)
        self._told_s = self._clock_s()
        self._lines.clear()
        self._left_out = 0
