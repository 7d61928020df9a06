"""What git writes over in silence: ignored files that lie where another tree has files of its own.

``git add -A`` passes them by, and since git 2.34 ``git read-tree -u`` replaces them without a word. Whoever brings a
working tree to another commit takes them into the private index first, so that they are saved like all the rest.
"""

import os
from pathlib import Path

from lorch_actors.storage import git_commits as commits
from lorch_actors.storage import git_repository as repositories
from lorch_actors.storage.git_repository import Repository
from lorch_actors.storage.git_runner import LONG_DEADLINE_S


def take_in(repository: Repository, private: Path, tree: str, target: str) -> str:
    """Return the tree of the private index with what lies in the way of the files that ``target`` has more."""
    differing = commits.contents_changed(repository, target, tree)
    lacking = [path for path, (mode, _) in differing.items() if mode == commits.NO_FILE]
    hidden = {place for path in lacking if (place := _in_the_way(repository.toplevel, path)) is not None}
    if not hidden:
        return tree
    pathspecs = b"".join(os.fsencode(f":(top,literal){place}") + b"\0" for place in sorted(hidden))
    chosen = ("--pathspec-from-file=-", "--pathspec-file-nul")
    repository.git.run("add", "-A", "-f", *chosen, index=private, stdin=pathspecs, deadline_s=LONG_DEADLINE_S)
    repositories.restore_own(repository, private)
    return repository.git.line("write-tree", index=private)


def _in_the_way(toplevel: Path, path: str) -> str | None:
    """Return what lies at this path, or as no directory on the way to it; None if nothing does."""
    names = path.split("/")
    for depth in range(1, len(names) + 1):
        place = "/".join(names[:depth])
        whole = os.path.join(toplevel, place)
        if not os.path.lexists(whole):
            return None
        if depth == len(names) or os.path.islink(whole) or not os.path.isdir(whole):
            return place
    return None
