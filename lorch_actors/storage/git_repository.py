"""Where a repository keeps what we touch, and the few changes to it that every git operation of ours is made of.

Nothing here leaves a lock behind: the user's index is read by copying it and replaced by renaming a finished file over
it; a lock that git itself left when it was killed with us is recognised by a marker written before, and removed.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from lorch_actors.errors import GitError
from lorch_actors.storage import disk
from lorch_actors.storage.git_runner import LONG_DEADLINE_S, Git
from lorch_actors.storage.workspace import OWN_DIRECTORIES

LOCK_WAIT_S = 10.0
"""How long somebody else's lock is waited for, in seconds."""

GITLINK: Final = "160000"
"""The mode of a tree entry that stands for another repository's commit."""

UNFINISHED: Final = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "BISECT_LOG": "bisect",
}
"""Files in the git directory that stand for an operation under way."""

_FORGETTABLE: Final = frozenset({"merge", "cherry-pick", "revert"})
_LOCK_POLL_S: Final = 0.02
_STALE_AFTER_S: Final = 1.0
_EXCLUDE_MAX_BYTES: Final = 1 << 24
_OWN: Final = (*(f"{name}/" for name in OWN_DIRECTORIES), "lorch.json")


class Repository(Struct, frozen=True):
    """One working tree. prefix: the workspace below it, ending in ``/``, or empty. git runs at the top level."""

    git: Git
    toplevel: Path
    prefix: str
    index: Path
    exclude: Path
    state: dict[str, Path]

    @property
    def index_lock(self) -> Path:
        """The lock git takes while it changes the index."""
        return Path(f"{self.index}.lock")

    def private_index(self, run_id: str) -> Path:
        """Return where our own index of that run lies: beside the user's, so that a rename can replace that one."""
        return self.index.parent / f"lorch-{run_id}.index"

    def own_pathspecs(self, *, exclude: bool) -> list[str]:
        """Return the pathspecs that stand for what belongs to us, or leave just that out."""
        magic = "top,exclude,literal" if exclude else "top,literal"
        return [f":({magic}){self.prefix}{name.rstrip('/')}" for name in _OWN]

    @staticmethod
    def left_out(path: str) -> str:
        """Return the pathspec that leaves out one path below the top level."""
        return f":(top,exclude,literal){path}"

    def unfinished(self) -> list[str]:
        """Return the operations under way in this working tree, such as ``merge``."""
        return sorted({word for name, word in UNFINISHED.items() if self.state[name].exists()})


def locate(root: Path, on_progress: Callable[[], None] | None = None) -> Repository:
    """Return the repository that the workspace lies in. Raises GitError if there is none with a working tree."""
    wanted = ["index", "info/exclude", *UNFINISHED]
    asked = [word for name in wanted for word in ("--git-path", name)]
    answer = Git(root, on_progress).line("rev-parse", "--show-toplevel", "--show-prefix", *asked).split("\n")
    if len(answer) != len(wanted) + 2:
        raise GitError("the repository's path holds a line break", where=str(root), remedy="Rename the directory.")
    toplevel, prefix = answer[0], answer[1]
    paths = {name: Path(os.path.join(root, found)) for name, found in zip(wanted, answer[2:], strict=True)}
    git = Git(Path(toplevel), on_progress)
    return Repository(git, Path(toplevel), prefix, paths["index"].resolve(), paths["info/exclude"], paths)


def exclude_own(repository: Repository) -> None:
    """Keep our own directories and ``lorch.json`` out of git through ``info/exclude``; what is in there stays.

    Raises StorageError.
    """
    path = Path(os.path.realpath(repository.exclude))
    before = disk.read_file(path, _EXCLUDE_MAX_BYTES) or b""
    present = set(before.split(b"\n"))
    missing = [line for name in _OWN if (line := _pattern(repository.prefix + name)) not in present]
    if not missing:
        return
    gap = b"\n" if before and not before.endswith(b"\n") else b""
    content = before + gap + b"# Kept out of git by lorch.\n" + b"".join(line + b"\n" for line in missing)
    disk.make_directory(path.parent)
    _replace_keeping_mode(path, content)


def _pattern(path: str) -> bytes:
    escaped = "".join(f"\\{letter}" if letter in "\\*?[" else letter for letter in path)
    return b"/" + os.fsencode(escaped)


def _replace_keeping_mode(path: Path, content: bytes) -> None:
    mode = os.stat(path).st_mode & 0o777 if path.exists() else 0o644
    temporary = path.parent / f".{path.name}.tmp.{os.getpid()}.{os.urandom(4).hex()}"
    fd = disk.create(temporary)
    try:
        os.fchmod(fd, mode)
        disk.write(fd, content)
        disk.sync_file(fd)
    finally:
        os.close(fd)
    disk.replace(temporary, path)


def copy_index(repository: Repository, run_id: str) -> Path:
    """Return a fresh copy of the user's index, whose file times let git skip files that did not change.

    Its mtime has to be kept: git takes entries younger than the index for racy and reads those files again.
    """
    import shutil

    private = repository.private_index(run_id)
    disk.unlink(private)
    disk.unlink(f"{private}.lock")  # left by a git that was killed with us; nobody else writes this index
    if repository.index.exists():
        shutil.copy2(repository.index, private)
    else:
        repository.git.run("read-tree", "HEAD", index=private)
    return private


def publish_index(repository: Repository, private: Path) -> None:
    """Put our index in place of the user's, so that ``git status`` says what is true after our commit."""
    wait_for_index_lock(repository)
    disk.replace(private, repository.index)


def wait_for_index_lock(repository: Repository) -> None:
    """Wait while somebody else changes the index. Raises GitError naming the lock when that does not end."""
    _wait_until_gone(repository, repository.index_lock, LOCK_WAIT_S)
    if os.path.lexists(repository.index_lock):
        raise GitError(
            "another git holds the index, or was killed and left its lock",
            where=str(repository.index_lock),
            remedy="Make sure that no git runs here, remove the file, then `lorch resume`.",
        )


def _wait_until_gone(repository: Repository, lock: Path, wait_s: float) -> None:
    ends = time.monotonic() + wait_s
    while os.path.lexists(lock) and time.monotonic() < ends:
        repository.git.progress()
        time.sleep(_LOCK_POLL_S)


def update_ref(repository: Repository, run_id: str, ref: str, new: str, old: str | None) -> None:
    """Move a reference from ``old`` (None: it must not exist) to ``new``. Raises GitError if it is elsewhere."""
    changed = ("update-ref", "-m", f"lorch: {run_id}", "--no-deref", ref, new, old or "")
    _with_marker(repository, run_id, ref, changed)


def point_head(repository: Repository, run_id: str, ref: str) -> None:
    """Let HEAD stand for that branch. Neither index nor working tree change."""
    _with_marker(repository, run_id, ref, ("symbolic-ref", "-m", f"lorch: start of {run_id}", "HEAD", ref))


def _with_marker(repository: Repository, run_id: str, ref: str, arguments: Sequence[str]) -> None:
    marker = _marker(repository, run_id)
    disk.unlink(marker)
    fd = disk.create(marker)
    try:
        disk.write(fd, ref.encode())
    finally:
        os.close(fd)
    repository.git.run(*arguments)
    disk.unlink(marker)


def remove_own_locks(repository: Repository, run_id: str) -> None:
    """Remove the reference locks of a git call of ours that was killed half-way.

    The marker says that such a call was under way; a lock older than the marker is somebody else's.
    """
    marker = _marker(repository, run_id)
    ref = disk.read_file(marker, 4096)
    if ref is None:
        return
    asked = [word for name in ("HEAD.lock", f"{ref.decode()}.lock") for word in ("--git-path", name)]
    for found in repository.git.line("rev-parse", *asked).split("\n"):
        lock = repository.toplevel / found
        _wait_until_gone(repository, lock, _STALE_AFTER_S)
        if os.path.lexists(lock) and lock.stat().st_mtime_ns >= marker.stat().st_mtime_ns:
            disk.unlink(lock)
    disk.unlink(marker)


def _marker(repository: Repository, run_id: str) -> Path:
    return repository.index.parent / f"lorch-{run_id}.ref"


def forget_unfinished(repository: Repository) -> None:
    """Forget a merge, cherry-pick or revert that an agent left half done; index and files stay as they are."""
    for word in repository.unfinished():
        if word in _FORGETTABLE:
            repository.git.run(word, "--quit")


def write_worktree(repository: Repository, private: Path) -> tuple[str, tuple[str, ...]]:
    """Bring a private index in line with the working tree; return its tree and the nested repositories left out.

    A repository inside ours would enter as a bare commit id without its content, which saves nothing: it stays where
    it is, and is named. Registered submodules are recorded as git does.
    """
    git = repository.git
    new_links = [path for path, old, new in _staged(repository, private) if GITLINK == new[0] != old[0]]
    dropped = _unregistered(repository, new_links)
    if dropped:
        git.run("update-index", "--force-remove", "-z", "--stdin", index=private, stdin=_joined(dropped))
    left_out = nested(repository, private)
    pathspecs = _joined([".", *map(repository.left_out, left_out)])
    chosen = ("--pathspec-from-file=-", "--pathspec-file-nul")
    git.run("add", "-A", *chosen, index=private, stdin=pathspecs, deadline_s=LONG_DEADLINE_S)
    restore_own(repository, private)
    return git.line("write-tree", index=private), left_out


def nested(repository: Repository, private: Path) -> tuple[str, ...]:
    """Return the repositories in the working tree that are neither in the index, ignored nor registered submodules."""
    call = ("ls-files", "-o", "-z", "--exclude-standard")
    listed = unpack_paths(repository.git.run(*call, index=private, deadline_s=LONG_DEADLINE_S))
    return tuple(_unregistered(repository, [path.rstrip("/") for path in listed if path.endswith("/")]))


def restore_own(repository: Repository, private: Path) -> None:
    """Take back what entered of our own files: some may be tracked, or were added by force."""
    changed = _staged(repository, private, "--", *repository.own_pathspecs(exclude=False))
    lines = [f"{old[0]} {old[1]}\t{path}" for path, old, _ in changed]
    if lines:
        repository.git.run("update-index", "-z", "--index-info", index=private, stdin=_joined(lines))


_Side = tuple[str, str]


def _staged(repository: Repository, private: Path, *options: str) -> list[tuple[str, _Side, _Side]]:
    """Return path, and mode and object id before and after, of what an index holds other than HEAD."""
    call = ("diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", "HEAD", *options)
    fields = unpack_paths(repository.git.run(*call, index=private))
    found = []
    for said, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, old_id, new_id, _ = said.removeprefix(":").split()
        found.append((path, (old_mode, old_id), (new_mode, new_id)))
    return found


def remove_empty_parents(repository: Repository, paths: Iterable[str]) -> None:
    """Remove the empty directories that files at these paths lay in; git does, but not after it was killed."""
    for parent in sorted({os.path.dirname(path) for path in paths} - {""}, reverse=True):
        while parent:
            place = os.path.join(repository.toplevel, parent)
            if os.path.realpath(place) != place:  # a link now: what is behind it is not ours
                break
            try:
                os.rmdir(place)
            except OSError:  # not empty, or not there: both are as they should be
                break
            parent = os.path.dirname(parent)  # noqa: PLW2901 - upwards


def _unregistered(repository: Repository, paths: list[str]) -> list[str]:
    """Return the paths that are no submodule named in ``.gitmodules``."""
    modules = repository.toplevel / ".gitmodules"
    if not paths or modules.is_symlink() or not modules.is_file():
        return paths
    said = repository.git.try_run("config", "-z", "-f", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$").out
    registered = {entry.partition("\n")[2] for entry in unpack_paths(said)}
    return [path for path in paths if path not in registered]


def unpack_paths(listed: bytes) -> list[str]:
    """Return the entries of NUL-terminated output."""
    return os.fsdecode(listed).split("\0")[:-1]


def _joined(paths: Sequence[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
