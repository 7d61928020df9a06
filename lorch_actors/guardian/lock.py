"""The guardian's hold on a workspace: `state/guardian.lock`.

The kernel releases it when the guardian dies, and no process below inherits it. What is written in the file is for
people and tools; the lock does not depend on it.
"""

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from typing import Final

from lorch_actors.errors import InterruptedRun, LockedError, LorchError, UsageError

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_HOLDER_MAX_BYTES: Final = 16384


class GuardianLock:
    """Held from construction to `release`, or to the end of this process.

    Raises LockedError, naming the holder; UsageError when nothing can be written in the workspace; InterruptedRun when
    its disk is full.
    """

    def __init__(self, workspace: str, *, command: str, run_id: str | None) -> None:
        self.path = os.path.join(workspace, "state", "guardian.lock")
        self._holder: dict[str, object] = {
            "pid": os.getpid(),
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": os.uname().nodename,
            "command": command,
        }
        if run_id is not None:
            self._holder["run_id"] = run_id
        try:
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(self.path), 0o700)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _refusal(workspace, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            named = _read_holder(self._fd)
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise _refusal(workspace, error) from error
            raise LockedError(
                f"another run holds this workspace: {named}",
                where=self.path,
                remedy="Wait for it, or stop it with `kill PID`; then `lorch resume` continues it.",
            ) from error

    def tell(self, **facts: object) -> None:
        """Write who holds the lock, with these facts, for whoever asks."""
        self._holder |= facts
        text = json.dumps(self._holder).encode() + b"\n"
        with suppress(OSError):  # a full disk must not end a run for a text that only informs
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))

    def release(self) -> None:
        """Give the workspace back; in a forked child, only the copy of the lock that it has inherited."""
        os.close(self._fd)


def _read_holder(fd: int) -> str:
    try:
        holder = json.loads(os.pread(fd, _HOLDER_MAX_BYTES, 0))
        return f"process {holder['pid']} on {holder['host']}, since {holder['started_at']}: {holder['command']}" + (
            f" ({holder['run_id']})" if "run_id" in holder else ""
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said yet who it is"


def _refusal(workspace: str, error: OSError) -> LorchError:
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return InterruptedRun(
            f"there is no room in the workspace: {reason}", where=workspace, remedy="Free some space."
        )
    return UsageError(
        f"the workspace cannot be used: {reason}",
        where=workspace,
        remedy="Name a directory that exists and that you may write to with `--workspace DIR`.",
    )
