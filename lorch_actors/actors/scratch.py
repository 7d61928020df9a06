"""A directory of the run below the system's temporary one, where the fork server has its socket.

``multiprocessing`` makes one of its own otherwise, and leaves it behind in every process that is killed or ends without
the interpreter's farewell. Ours is named after the run: whoever resumes it uses it again, and removes it at the end. It
is not in the workspace, whose path may be longer than a socket's may be.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process
from typing import Final

from lorch_actors.errors import StorageError

SOCKET_PATH_MAX: Final = 107
_NAME_ROOM: Final = len("/listener-12345678")


@contextmanager
def scratch(run_id: str) -> Iterator[str]:
    """Have ``multiprocessing`` keep its files in the run's directory, and remove it in the end.

    Raises StorageError if it cannot be made, or is not ours alone.
    """
    path = os.path.join(tempfile.gettempdir(), f"lorch-{run_id}")
    if len(os.fsencode(path)) + _NAME_ROOM > SOCKET_PATH_MAX:
        path = os.path.join("/tmp", f"lorch-{run_id}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise StorageError(
            f"no temporary directory can be made: {error.strerror}", where=path, remedy="Set TMPDIR to another place."
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StorageError("this is not a directory of ours alone", where=path, remedy="Remove it.")
    configuration = process.current_process()._config  # type: ignore[attr-defined]  # noqa: SLF001 - its only place
    configuration["tempdir"] = path
    try:
        yield path
    finally:
        configuration.pop("tempdir", None)
        shutil.rmtree(path, ignore_errors=True)
