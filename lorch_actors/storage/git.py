"""Each finished task as one commit on ``lorch/<run_id>``, each failed one out of the way (SPEC §7).

Runs in a process that may be killed at any moment and is then called again with the same arguments, so every function
can be repeated: what is already done is recognised, what is half done is finished. Nothing is taken out of the working
tree that is not in a commit. The user's index is never locked, only replaced whole.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from lorch_actors.errors import GitError, StorageError
from lorch_actors.storage import git_commits as commits
from lorch_actors.storage import git_hidden
from lorch_actors.storage import git_repository as repositories
from lorch_actors.storage.git_commits import Commit, Known, Label, failed_branch, run_branch
from lorch_actors.storage.git_repository import Repository
from lorch_actors.storage.git_runner import LONG_DEADLINE_S, Git

Progress = Callable[[], None]

_PASSES_MAX: Final = 5


class GitSituation(Struct, frozen=True):
    """Whether a run can keep its tasks in git. reason: one sentence, empty under ``commit``.

    head: the commit checked out. branch: its short name, empty when HEAD stands for no branch.
    """

    mode: Literal["commit", "off"]
    reason: str = ""
    toplevel: str = ""
    head: str = ""
    branch: str = ""


def examine(root: Path, on_progress: Progress | None = None) -> GitSituation:
    """Say whether the workspace is in a repository where we can commit, after keeping our own files out of it.

    Raises GitError if git does not answer.
    """
    if shutil.which("git") is None:
        return _off("git is not installed")
    inside = Git(root, on_progress).try_run("rev-parse", "--is-inside-work-tree")
    if inside.code and "not a git repository" not in inside.err:
        return _off(f"git refuses the repository: {' '.join(inside.err.split())[:300]}")
    if inside.out.strip() != b"true":
        return _off("the workspace is not in a git repository with a working tree")
    repository = repositories.locate(root, on_progress)
    obstacle = _obstacle(repository)
    if obstacle:
        return _off(obstacle)
    head = repository.git.try_run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head.code:
        return _off("the repository has no commits yet")
    try:
        repositories.exclude_own(repository)
    except StorageError as error:
        return _off(f"our own files cannot be kept out of git ({error.where}: {error.what})")
    dirty = _dirty(repository)
    if dirty:
        return _off(f"the working tree has changes that are not committed ({dirty})")
    branch = repository.git.try_run("symbolic-ref", "--quiet", "--short", "HEAD").out.decode(errors="replace").strip()
    return GitSituation("commit", "", str(repository.toplevel), head.out.decode().strip(), branch)


def _off(reason: str) -> GitSituation:
    return GitSituation("off", reason)


def _obstacle(repository: Repository) -> str:
    git = repository.git
    unfinished = repository.unfinished()
    if unfinished:
        return f"a {unfinished[0]} is under way in the repository"
    if git.try_run("config", "--type=bool", "core.sparseCheckout").out.strip() == b"true":
        return "the repository is checked out sparsely"
    if repository.prefix and git.try_run("check-ignore", "--quiet", repository.prefix).code == 0:
        return "git ignores the directory of the workspace"
    for name in ("lorch", "lorch-failed"):
        if git.try_run("show-ref", "--verify", "--quiet", f"refs/heads/{name}").code == 0:
            return f"a branch named {name} stands where the branches {name}/… belong"
    return ""


def _dirty(repository: Repository) -> str:
    """Return one path that differs from HEAD, empty if none does. Our own files do not count."""
    listed = repository.git.run(
        "status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=none", "--no-renames",
        "--", ".", *repository.own_pathspecs(exclude=True), deadline_s=LONG_DEADLINE_S,
    )  # fmt: skip
    first = listed.partition(b"\0")[0]
    return first[3:].decode(errors="replace")


def begin(root: Path, run_id: str, head: str, on_progress: Progress | None = None) -> None:
    """Create the run's branch at ``head`` and let HEAD stand for it; index and working tree do not change.

    Raises GitError if HEAD is elsewhere by now.
    """
    repository = repositories.locate(root, on_progress)
    repositories.remove_own_locks(repository, run_id)
    ref = run_branch(run_id)
    existing = commits.find(repository, ref)
    if existing is not None and _head_ref(repository) == ref:
        return
    current = commits.find(repository, "HEAD")
    if current is None or current.commit != head or (existing is not None and existing.commit != head):
        raise GitError(
            f"HEAD or the branch {ref.removeprefix('refs/heads/')} is no longer where the run was to start",
            where=str(repository.toplevel),
            remedy="Start a new run with `lorch run --new`.",
        )
    if existing is None:
        repositories.update_ref(repository, run_id, ref, head, None)
    repositories.point_head(repository, run_id, ref)


def commit_task(
    root: Path,
    run_id: str,
    task_id: str,
    title: str,
    when: str,
    body: str = "",
    on_progress: Progress | None = None,
) -> Commit:
    """Commit what a task left in the working tree to the run's branch, and bring the index in line.

    when: RFC 3339, becomes both dates of the commit. Commits that an agent made itself stay below ours. Raises
    GitError if HEAD is not on the run's branch or the index stays locked, StorageError.
    """
    label = Label.of(run_id, task_id, when)
    repository, head = _ready(root, run_id, run_branch(run_id), on_progress)
    private = repositories.copy_index(repository, run_id)
    if head.is_of(label):
        return _finish(repository, private, head)
    tree, left_out = repositories.write_worktree(repository, private)
    made = None
    if tree != head.tree:
        made = commits.write(repository, label, title, body, tree, [head.commit])
        repositories.update_ref(repository, run_id, run_branch(run_id), made, head.commit)
    repositories.publish_index(repository, private)
    return Commit(made, len(commits.contents_changed(repository, head.tree, tree)), head.commit, left_out)


def _finish(repository: Repository, private: Path, done: Known) -> Commit:
    """Finish a commit whose reference was moved already."""
    git = repository.git
    git.run("read-tree", "--reset", done.commit, index=private)
    git.try_run("update-index", "-q", "--refresh", index=private, deadline_s=LONG_DEADLINE_S)
    repositories.publish_index(repository, private)
    parent = done.parents[0]
    files = len(commits.contents_changed(repository, parent, done.commit))
    return Commit(done.commit, files, parent, repositories.nested(repository, private))


def _ready(root: Path, run_id: str, ref: str, on_progress: Progress | None) -> tuple[Repository, Known]:
    """Return the repository, cleared of what a killed call left, and the commit the run's branch stands at."""
    repository = repositories.locate(root, on_progress)
    repositories.remove_own_locks(repository, run_id)
    repositories.exclude_own(repository)
    current = _head_ref(repository)
    branch = ref.removeprefix("refs/heads/")
    if current != ref:
        raise GitError(
            f"HEAD was moved from {branch} to {current.removeprefix('refs/heads/') or 'no branch'}",
            where=str(repository.toplevel),
            remedy=f"`git symbolic-ref HEAD {ref}` goes back and keeps the files as they are; then `lorch resume`.",
        )
    head = commits.find(repository, "HEAD")
    if head is None:
        raise GitError(
            f"the branch {branch} is gone", where=str(repository.toplevel), remedy="Find it in `git reflog`."
        )
    repositories.wait_for_index_lock(repository)
    repositories.forget_unfinished(repository)
    return repository, head


def _head_ref(repository: Repository) -> str:
    return repository.git.try_run("symbolic-ref", "--quiet", "HEAD").out.decode(errors="replace").strip()


def set_aside(
    root: Path,
    run_id: str,
    task_id: str,
    title: str,
    when: str,
    reason: str,
    base: str | None = None,
    on_progress: Progress | None = None,
) -> Commit:
    """Commit what a failed task left to ``lorch-failed/<run_id>/<task_id>`` and take it out of the working tree.

    base: where the run's branch stood before the task; commits that the agent made itself since then are set aside
    too. Without it they stay. reason: why the task failed, for the message. Ignored files and what is checked out in
    submodules stay. An earlier failure of the same task stays reachable as a second parent. Raises GitError before
    anything unsaved would be overwritten, StorageError.
    """
    label = Label.of(run_id, task_id, when)
    repository, head = _ready(root, run_id, run_branch(run_id), on_progress)
    target = commits.find(repository, base) if base else head
    if target is None:
        raise GitError(f"the commit {base} is gone", where=str(repository.toplevel), remedy="Find it in `git reflog`.")
    aside = _Aside(repository, label, failed_branch(run_id, task_id), title, reason)
    private = repositories.copy_index(repository, run_id)
    left_out = _save_and_restore(repository, private, aside, head, target)
    if head.commit != target.commit:
        repositories.update_ref(repository, run_id, run_branch(run_id), target.commit, head.commit)
    repositories.publish_index(repository, private)
    if aside.tip is None:
        return Commit(None, 0, target.commit, left_out)
    changed = commits.contents_changed(repository, target.tree, aside.tip.tree)
    repositories.remove_empty_parents(repository, changed)
    return Commit(aside.tip.commit, len(changed), target.commit, left_out)


def _save_and_restore(
    repository: Repository, private: Path, aside: "_Aside", head: Known, target: Known
) -> tuple[str, ...]:
    """Save the working tree and bring it to ``target``; return what had to be left where it is.

    More than one pass: what only an ignore file of the failed task hid comes to light when that file is restored.
    """
    git = repository.git
    for _ in range(_PASSES_MAX):
        tree, left_out = repositories.write_worktree(repository, private)
        tree = git_hidden.take_in(repository, private, tree, target.tree)
        aside.save(tree, head, target)
        rest = commits.contents_changed(repository, target.tree, tree)
        links = sorted(path for path, (mode, _) in rest.items() if mode == repositories.GITLINK)
        if len(links) == len(rest):  # a submodule keeps the commit its owner checked out
            git.run("read-tree", "--reset", target.commit, index=private)
            return (*left_out, *links)
        # Refuses, with nothing changed, if a file is other than the tree just written says.
        git.run("read-tree", "-m", "-u", tree, target.commit, index=private, deadline_s=LONG_DEADLINE_S)
    raise GitError(
        "the working tree does not come to rest", where=str(repository.toplevel), remedy="What still writes there?"
    )


class _Aside:
    """The branch that a failed task's changes are saved to. tip: this failure's commit, once there is one."""

    def __init__(self, repository: Repository, label: Label, ref: str, title: str, reason: str) -> None:
        self._repository = repository
        self._label = label
        self._ref = ref
        self._title = title
        self._reason = reason
        found = commits.find(repository, ref)
        ours = found is not None and found.is_of(label)
        self.tip = found if ours else None
        self._earlier = None if ours else found

    def save(self, tree: str, head: Known, target: Known) -> None:
        """Make sure that the tree's content and the commits up to ``head`` are on the branch.

        A file cut short by a kill in the middle of its restoring is saved too: whether it is worth anything is for a
        person to say.
        """
        if self.tip is None:
            if tree == target.tree and head.commit == target.commit:
                return
            earlier = [self._earlier.commit] if self._earlier else []
            self._commit(tree, [head.commit, *earlier])
            return
        parents = [self.tip.commit] if self._reaches(head.commit) else [self.tip.commit, head.commit]
        new, other = commits.unsaved(self._repository, target.tree, self.tip.tree, tree)
        if len(parents) == 1 and not new and not other:
            return
        if other:  # the branch keeps showing what the task left; this stays reachable beside it
            parents.append(self._write(tree, [self.tip.commit]))
        run_id = self._label.run_id
        self._commit(commits.overlay(self._repository, run_id, self.tip.tree, new) if new else self.tip.tree, parents)

    def _reaches(self, commit: str) -> bool:
        assert self.tip is not None, "asked after the first commit only"
        call = ("merge-base", "--is-ancestor", commit, self.tip.commit)
        return self._repository.git.try_run(*call).code == 0

    def _commit(self, tree: str, parents: Sequence[str]) -> None:
        old = self.tip or self._earlier
        made = self._write(tree, parents)
        repositories.update_ref(self._repository, self._label.run_id, self._ref, made, old.commit if old else None)
        self.tip = commits.find(self._repository, made)

    def _write(self, tree: str, parents: Sequence[str]) -> str:
        return commits.write(self._repository, self._label, self._title, self._reason, tree, parents)
