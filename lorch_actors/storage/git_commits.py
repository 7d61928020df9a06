"""Our commits: how they are written so that a repeat gives the same one, and how they are known again.

A commit of ours carries the trailers ``Lorch-Run`` and ``Lorch-Task``. Its dates are given by the caller, so the same
call on the same tree makes the same object.
"""

import os
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from lorch_actors.protocol.times import from_timestamp
from lorch_actors.storage import disk
from lorch_actors.storage.git_repository import Repository, unpack_paths

RUN_BRANCH: Final = "refs/heads/lorch/"
FAILED_BRANCH: Final = "refs/heads/lorch-failed/"

_FALLBACK_NAME: Final = "lorch"
_FALLBACK_EMAIL: Final = "lorch@localhost"
_TITLE_MAX_CHARS: Final = 100
_BODY_MAX_CHARS: Final = 4000
_UNPRINTABLE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_COMMIT: Final = re.compile(
    rb"tree (?P<tree>[0-9a-f]+)\n(?P<parents>(?:parent [0-9a-f]+\n)*).*?\n\n(?P<message>.*)", re.DOTALL
)
_COMMITTED: Final = re.compile(rb"^committer [^\n]*> (\d+) ", re.MULTILINE)
NO_FILE: Final = "000000"


class Commit(Struct, frozen=True):
    """What an operation left in git.

    commit: None when there was nothing to commit. files: how many it changes against ``parent``. parent: what the run
    branch stood at before. left_out: nested repositories whose content git does not keep; they stay in the tree.
    """

    commit: str | None
    files: int
    parent: str
    left_out: tuple[str, ...] = ()


class Label(Struct, frozen=True):
    """What tells one operation from another, and its repeat from a new one. when_s: seconds since 1970."""

    run_id: str
    task_id: str
    when_s: int

    @classmethod
    def of(cls, run_id: str, task_id: str, when: str) -> "Label":
        """Return the label of an operation. when: RFC 3339."""
        return cls(run_id, task_id, from_timestamp(when) // 1000)


class Known(Struct, frozen=True):
    """A commit that is there."""

    commit: str
    tree: str
    parents: tuple[str, ...]
    when_s: int
    run_id: str
    task_id: str

    def is_of(self, label: Label) -> bool:
        """Say whether that very operation made it: agents imitate trailers they have seen, but not the date."""
        return (self.run_id, self.task_id, self.when_s) == (label.run_id, label.task_id, label.when_s)


def run_branch(run_id: str) -> str:
    """Return the reference that a run's commits go to."""
    return RUN_BRANCH + run_id


def failed_branch(run_id: str, task_id: str) -> str:
    """Return the reference for what a failed task left.

    A task id may hold what git forbids in references (git-check-ref-format(1)); ``%2E`` stands for its dots then.
    """
    forbidden = ".." in task_id or task_id.endswith((".", ".lock"))
    return f"{FAILED_BRANCH}{run_id}/{task_id.replace('.', '%2E') if forbidden else task_id}"


def find(repository: Repository, name: str) -> Known | None:
    """Return the commit a reference or id stands for, None if there is none. Raises GitError."""
    found = repository.git.try_run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.code:
        return None
    commit = found.out.decode().strip()
    content = repository.git.run("cat-file", "commit", commit)
    match = _COMMIT.fullmatch(content)
    committed = _COMMITTED.search(content)
    assert match is not None, "a commit object has a tree and a message"
    assert committed is not None, "a commit object has a committer"
    # The last one of a name counts: ours stand at the end, whatever a title or a body holds.
    trailers = dict(
        line.split(": ", 1) for line in match["message"].decode(errors="replace").split("\n") if ": " in line
    )
    return Known(
        commit=commit,
        tree=match["tree"].decode(),
        parents=tuple(match["parents"].decode().split()[1::2]),
        when_s=int(committed[1]),
        run_id=trailers.get("Lorch-Run", ""),
        task_id=trailers.get("Lorch-Task", ""),
    )


def write(repository: Repository, label: Label, title: str, body: str, tree: str, parents: Sequence[str]) -> str:
    """Write a commit object and return its id; no reference changes. Raises GitError."""
    date = f"@{label.when_s} +0000"
    env = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} | _identity(repository)
    options = [word for parent in parents for word in ("-p", parent)]
    message = _message(label, title, body)
    return repository.git.line("commit-tree", tree, *options, stdin=message.encode(), env=env)


def _message(label: Label, title: str, body: str) -> str:
    lines = [line.rstrip() for line in _printable(body)[:_BODY_MAX_CHARS].split("\n") if line.strip()]
    text = " ".join(_printable(title).split())[:_TITLE_MAX_CHARS]
    told = "\n".join(lines) + "\n\n" if lines else ""
    return f"{label.task_id}: {text}\n\n{told}Lorch-Run: {label.run_id}\nLorch-Task: {label.task_id}\n"


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)


def _identity(repository: Repository) -> dict[str, str]:
    """Return who commits: nothing when the user told git who they are, else ourselves."""
    said = repository.git.try_run("config", "-z", "--get-regexp", r"^user\.(name|email)$").out
    given = dict(entry.split("\n", 1) for entry in unpack_paths(said) if "\n" in entry)
    name, email = given.get("user.name", "").strip(), given.get("user.email", "").strip()
    fallback = {}
    for who in ("AUTHOR", "COMMITTER"):
        fallback[f"GIT_{who}_NAME"] = os.environ.get(f"GIT_{who}_NAME") or name or _FALLBACK_NAME
        fallback[f"GIT_{who}_EMAIL"] = os.environ.get(f"GIT_{who}_EMAIL") or email or _FALLBACK_EMAIL
    return fallback


def contents_changed(repository: Repository, old: str, new: str) -> "Held":
    """Return mode and object id that ``new`` has at each path that differs from ``old``; mode 000000: not there."""
    raw = repository.git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-commit-id", old, new)
    fields = unpack_paths(raw)
    changed = {}
    for said, path in zip(fields[::2], fields[1::2], strict=True):
        _, mode, _, object_id, _ = said.split()
        changed[path] = (mode, object_id)
    return changed


Held = dict[str, tuple[str, str]]
"""Mode and object id by path."""


def unsaved(repository: Repository, base: str, saved: str, tree: str) -> tuple[Held, Held]:
    """Return what ``tree`` holds and neither other does: at new paths, and at paths that ``saved`` holds otherwise."""
    kept = contents_changed(repository, base, saved)
    now = contents_changed(repository, base, tree)
    lost = {path: held for path, held in now.items() if held[0] != NO_FILE and kept.get(path) != held}
    new = {path: held for path, held in lost.items() if path not in kept}
    return new, {path: held for path, held in lost.items() if path in kept}


def overlay(repository: Repository, run_id: str, tree: str, added: Held) -> str:
    """Return the tree that holds all of ``tree`` and what is added. Raises GitError."""
    scratch = repository.private_index(run_id).with_suffix(".overlay")
    disk.unlink(scratch)
    disk.unlink(f"{scratch}.lock")
    lines = b"".join(f"{mode} {held}\t".encode() + os.fsencode(path) + b"\0" for path, (mode, held) in added.items())
    repository.git.run("read-tree", tree, index=scratch)
    repository.git.run("update-index", "--add", "--replace", "-z", "--index-info", index=scratch, stdin=lines)
    made = repository.git.line("write-tree", index=scratch)
    disk.unlink(scratch)
    return made
