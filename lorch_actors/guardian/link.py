"""What guardian and orchestrator know of each other: a pipe for signs of life, and a pidfd in return."""

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Final, NamedTuple

from lorch_actors.processes import ProcessIdentity

_BEAT: Final = b"."
_SETTLED: Final = b"s"
_READ_BYTES: Final = 65536


class GuardianLink:
    """What an orchestrator knows of the guardian above it.

    run_id: chosen by the guardian; None for `resume`. start: 0 for the first orchestrator, one more each time it had
    to be started again. predecessors: those that this guardian started before. workspace: absolute path. pidfd:
    becomes readable when the guardian dies. beat_fd: where signs of life go, a pipe that does not block.
    """

    def __init__(
        self,
        *,
        run_id: str | None,
        start: int,
        predecessors: Collection[ProcessIdentity],
        workspace: str,
        guardian_pid: int,
        pidfd: int,
        beat_fd: int,
    ) -> None:
        self.run_id = run_id
        self.start = start
        self.predecessors = predecessors
        self.workspace = workspace
        self.guardian_pid = guardian_pid
        self.pidfd = pidfd
        self._beat_fd = beat_fd
        self._has_settled = False

    def beat(self) -> None:
        """Give a sign of life; never blocks, and a dead guardian is no error here."""
        self._tell(_BEAT)

    def settled(self) -> None:
        """Say that a step was settled: the restarts so far no longer count. Once: none follows while this one lives."""
        if not self._has_settled:
            self._has_settled = self._tell(_SETTLED)

    def _tell(self, word: bytes) -> bool:
        with suppress(BlockingIOError, BrokenPipeError):  # full means that there are signs enough to read
            os.write(self._beat_fd, word)
            return True
        return False


class Heard(NamedTuple):
    """What came through the pipe. is_over: nothing will come any more."""

    has_settled: bool
    is_over: bool


def hear(beats: int) -> Heard:
    """Read the signs of life that wait in the pipe; never blocks."""
    try:
        words = os.read(beats, _READ_BYTES)
    except BlockingIOError:
        return Heard(has_settled=False, is_over=False)
    return Heard(has_settled=_SETTLED in words, is_over=not words)
