"""The guardian's hold on a workspace: `state/guardian.lock`.

The kernel releases it when the guardian dies, and no process below inherits it. What is written in the file is for
people and tools; the lock does not depend on it. A lock that no run came of is taken away again: a command line that
was refused leaves a directory as it was.
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
_RUN_LOCK: Final = "lorch.lock"
_TRIES: Final = 10
"""How often a lock file may be taken away between opening and locking it; one refused command does so once."""


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
        self._made_directory = False
        self._fd = self._take(workspace)

    def _take(self, workspace: str) -> int:
        """Return a descriptor that holds the lock on the file that has the name now."""
        for _ in range(_TRIES):
            try:
                fd = self._open()
            except OSError as error:
                raise _refusal(workspace, error) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                named = _read_holder(fd)
                os.close(fd)
                if not isinstance(error, BlockingIOError):
                    raise _refusal(workspace, error) from error
                raise self._held(named) from error
            if _has_name(fd, self.path):
                return fd
            os.close(fd)
        raise self._held("others that come and go")

    def _open(self) -> int:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(self.path), 0o700)
            self._made_directory = True
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _held(self, named: str) -> LockedError:
        return LockedError(
            f"another run holds this workspace: {named}",
            where=self.path,
            remedy="Wait for it, or stop it with `kill PID`; then `lorch resume` continues it.",
        )

    def tell(self, **facts: object) -> None:
        """Write who holds the lock, with these facts, for whoever asks."""
        self._holder |= facts
        text = json.dumps(self._holder).encode() + b"\n"
        with suppress(OSError):  # a full disk must not end a run for a text that only informs
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))

    def release(self) -> None:
        """Give the workspace back; where no orchestrator has locked it, nothing is left of the lock."""
        directory = os.path.dirname(self.path)
        if not os.path.lexists(os.path.join(directory, _RUN_LOCK)):
            with suppress(OSError):  # a file that stays is no obstacle to anybody
                os.unlink(self.path)
                if self._made_directory:
                    os.rmdir(directory)
        os.close(self._fd)

    def close_copy(self) -> None:
        """In a forked child: close the copy that it has inherited."""
        os.close(self._fd)


def _has_name(fd: int, path: str) -> bool:
    """Tell whether the open file is the one of that name: one that was unlinked meanwhile locks nobody out."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


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
