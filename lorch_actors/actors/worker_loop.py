"""What every worker does, wherever it runs: say hello, handle batches, answer, acknowledge, say why it ends.

Knows neither sockets nor threads: frames go in, frames come out.
"""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

from lorch_actors.actors.clock import Clock, SystemClock
from lorch_actors.actors.worker import Frame, FrameKind, Worker
from lorch_actors.errors import LorchError

_TRACEBACK_FRAMES: Final = 8
_PROGRESS_EVERY_MS: Final = 250


class WorkerLoop:
    """Drives one worker. ``send`` takes the frames that belong together."""

    def __init__(self, worker: Worker, send: Callable[[Sequence[Frame]], None], clock: Clock | None = None) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._worker = worker
        self._send = send
        self._progress_at_ms = 0

    def open(self) -> None:
        """Open the worker and say hello."""
        self._send([Frame(FrameKind.HELLO, 0, self._worker.open())])

    def handle(self, frames: Sequence[Frame]) -> None:
        """Handle one batch of messages; send the acknowledgement of the last one, with all replies."""
        replies = list(self._worker.handle([frame.body for frame in frames], self))
        self._send([Frame(FrameKind.ACK, frames[-1].number, replies)])

    def close(self) -> None:
        """Close the worker."""
        self._worker.close()

    def progress(self) -> None:
        """Tell the front that there is still life, now and then; the ``WorkerContext`` of ``handle``."""
        now_ms = self.clock.steady_ms()
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + _PROGRESS_EVERY_MS
            self._send([Frame(FrameKind.PROGRESS)])


def failure(error: BaseException) -> Frame:
    """Return the frame that tells the front which exception ends the worker."""
    return Frame(FrameKind.FAILED, 0, _describe(error))


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, LorchError):
        return {"type": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
    where = "; ".join(
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-_TRACEBACK_FRAMES:]
    )
    return {"type": type(error).__name__, "what": f"{type(error).__name__}: {error}", "where": where, "remedy": ""}
