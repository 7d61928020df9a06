"""How git is called: plumbing only, with a deadline, without prompts, hooks, editors or background work.

The caller is a single-threaded process that may be killed at any moment; a git that outlived it would race with its
successor, so each git dies with its caller. What the surroundings say about *which* repository is meant (``GIT_DIR``,
``GIT_INDEX_FILE`` …) is taken away; who the user is and how git is configured stays.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lorch_actors.errors import GitError

DEADLINE_S: Final = 60.0
"""For calls whose work does not grow with the tree."""

LONG_DEADLINE_S: Final = 1800.0
"""For calls that read or write the whole working tree."""

_PROGRESS_INTERVAL_S: Final = 1.0
_STDERR_MAX_CHARS: Final = 600
_KEPT: Final = (
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_",
    "GIT_CONFIG_VALUE_", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH",
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL",
)  # fmt: skip
_SETTINGS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.splitIndex=false",  # the index is copied and replaced as one file
    "core.safecrlf=false",  # a warning for people at a terminal; as an error it would leave files unsaved
    "core.fsync=committed,reference",  # what is taken out of the tree must be on the disk before
    "core.fsyncMethod=batch",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "advice.addEmbeddedRepo=false",
    "i18n.commitEncoding=utf-8",
)


class Result(NamedTuple):
    """How a call ended: exit code (negative: a signal), stdout as it came, stderr as text."""

    code: int
    out: bytes
    err: str


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment git gets, made from the one given."""
    kept = {name: value for name, value in given.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    return kept | {
        "LANG": "C",
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_EDITOR": ":",
        "GIT_PAGER": "cat",
    }


class Git:
    """Calls git in one directory.

    on_progress: called about once a second while git works, so that whoever watches this process sees it live.
    """

    def __init__(self, directory: Path, on_progress: Callable[[], None] | None = None) -> None:
        self.directory = directory
        self._on_progress = on_progress

    def try_run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        index: Path | None = None,
        env: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Result:
        """Call git and return how it ended. index: a private index file. Raises GitError when the time is up."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        full = environment(os.environ) | dict(env or {})
        if index is not None:
            full["GIT_INDEX_FILE"] = os.fspath(index)
        call = ["git", *settings, *arguments]
        return execute(call, self.directory, full, stdin, deadline_s, self._on_progress)

    def run(self, *arguments: str, **options: Any) -> bytes:
        """Call git as `try_run` does and return its stdout. Raises GitError with git's own words if it fails."""
        result = self.try_run(*arguments, **options)
        if result.code:
            raise failed(arguments, result, self.directory)
        return result.out

    def line(self, *arguments: str, **options: Any) -> str:
        """Call git as `run` does and return its stdout without the line's end."""
        return os.fsdecode(self.run(*arguments, **options)).removesuffix("\n")

    def progress(self) -> None:
        """Tell that this process lives, while it waits for something else than git."""
        if self._on_progress is not None:
            self._on_progress()


def failed(arguments: Sequence[str], result: Result, directory: Path) -> GitError:
    """Return the error for a call that ended badly."""
    words = " ".join(result.err.split())[-_STDERR_MAX_CHARS:]
    ending = words or (f"killed by signal {-result.code}" if result.code < 0 else f"exit code {result.code}")
    return GitError(
        f"git {arguments[0]} failed: {ending}",
        where=str(directory),
        remedy="Repair it, then `lorch resume`; or set policy.git to off.",
    )


def execute(
    call: Sequence[str],
    directory: Path,
    env: Mapping[str, str],
    stdin: bytes | None,
    deadline_s: float,
    on_progress: Callable[[], None] | None,
) -> Result:
    """Run one program to its end, in a session of its own, so that Ctrl-C on the terminal does not reach it."""
    import subprocess

    ends = time.monotonic() + deadline_s
    try:
        process = subprocess.Popen(
            list(call),
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509 - the caller has one thread only
        )
    except OSError as error:
        raise GitError(
            f"{call[0]} cannot be started: {error.strerror}", where=str(directory), remedy="Install git."
        ) from error
    with process:
        try:
            while True:
                try:
                    out, err = process.communicate(stdin, timeout=min(_PROGRESS_INTERVAL_S, deadline_s))
                    return Result(process.returncode, out, err.decode(errors="replace"))
                except subprocess.TimeoutExpired:
                    if on_progress is not None:
                        on_progress()
                    if time.monotonic() >= ends:
                        raise _too_slow(call, directory, deadline_s) from None
        finally:
            _end(process)


def _end(process: Any) -> None:
    """End git and the helpers it started, which would else keep our pipes open.

    As long as git was not reaped, its pid and so its group cannot have passed to anybody else.
    """
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def _too_slow(call: Sequence[str], directory: Path, deadline_s: float) -> GitError:
    name = next((word for word in call[1:] if word != "-c" and "=" not in word), "")
    return GitError(
        f"git {name} did not end within {deadline_s:g} seconds",
        where=str(directory),
        remedy="Is the disk reachable? Then `lorch resume`; or set policy.git to off.",
    )


def _dying_with(parent: int) -> Callable[[], None]:
    """Return what the child does before it becomes git: ask the kernel to be killed when its parent dies (prctl(2))."""
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def ask() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
