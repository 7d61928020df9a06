"""The two clocks of an actor system."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one people read, one that never jumps. Both in milliseconds."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch. May jump; only for what people read."""
        ...

    def steady_ms(self) -> int:
        """Return milliseconds of CLOCK_MONOTONIC. For deadlines, intervals and restart windows."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> int:
        """Return milliseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns() // 1_000_000
