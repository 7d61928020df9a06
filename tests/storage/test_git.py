"""Finished tasks become commits, failed ones go out of the way, and nothing of the user's is lost."""

import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lorch_actors.errors import GitError
from lorch_actors.storage import git, git_repository, git_runner

WHEN = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T04:00:00.000Z"
RUN = "run-20260102-030405-abcdef01"
OWN = ("events", "state", "receipts", "snapshots", "logs", "transcripts", "reviews", "spec_notes")


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (home / "gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n")
    monkeypatch.setattr(git_repository, "LOCK_WAIT_S", 0.1)
    quick = [setting for setting in git_runner._SETTINGS if not setting.startswith("core.fsync")]
    monkeypatch.setattr(git_runner, "_SETTINGS", (*quick, "core.fsync=none"))
    monkeypatch.setattr(git_repository, "_STALE_AFTER_S", 0.1)
    return home


def call(root, *arguments):
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")


def put(root: Path, files: dict[str, str]):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def status(root):
    return call(root, "status", "--porcelain")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template") / "repo"
    root.mkdir()
    call(root, "init", "-q", "-b", "main")
    put(root, {"src/a.py": "a\n", "src/b.py": "b\n", "README.md": "read\n", ".gitignore": "*.log\n"})
    call(root, "add", "-A")
    call(root, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "first")
    for name in OWN:
        (root / name).mkdir()
    put(root, {"state/run.json": "{}", "events/run.ndjson": "{}\n", "lorch.json": "{}"})
    return root


@pytest.fixture
def repository(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "repo"))


@pytest.fixture(scope="module")
def begun_template(template, tmp_path_factory):
    root = Path(shutil.copytree(template, tmp_path_factory.mktemp("begun") / "repo", symlinks=True))
    git.begin(root, RUN, call(root, "rev-parse", "HEAD"))
    git_repository.exclude_own(git_repository.locate(root))
    return root


@pytest.fixture
def begun(begun_template, tmp_path):
    return Path(shutil.copytree(begun_template, tmp_path / "repo"))


def commit(root, task="T-1", title="do it", when=WHEN):
    return git.commit_task(root, RUN, task, title, when)


def aside(root, task="T-1", when=WHEN, base=None):
    return git.set_aside(root, RUN, task, "do it", when, "tests failed", base)


def test_a_clean_repository_allows_commits(repository):
    """A clean tree is examined to mode commit, with HEAD, branch and top level; our own files do not make it dirty."""
    situation = git.examine(repository)

    expected = git.GitSituation("commit", "", str(repository), call(repository, "rev-parse", "HEAD"), "main")
    assert expected == situation
    assert status(repository) == ""


def test_outside_a_repository_git_is_off(tmp_path):
    """A directory without a repository is examined to off, with a sentence."""
    situation = git.examine(tmp_path)

    assert situation.mode == "off"
    assert "not in a git repository" in situation.reason


def test_a_bare_repository_git_is_off(tmp_path):
    """A bare repository has no working tree to commit."""
    call(tmp_path, "init", "-q", "--bare")

    assert git.examine(tmp_path).mode == "off"


def test_git_not_installed_is_off(repository, monkeypatch):
    """Without git the run goes on without commits."""
    monkeypatch.setenv("PATH", "/nowhere")

    assert git.examine(repository).reason == "git is not installed"


def test_a_repository_without_commits_is_off(tmp_path):
    """There is nothing a branch could start from."""
    call(tmp_path, "init", "-q")

    assert git.examine(tmp_path).reason == "the repository has no commits yet"


@pytest.mark.parametrize("name", ["src/a.py", "new file.txt"])
def test_a_dirty_tree_is_off_and_named(repository, name):
    """Changes of the user, tracked or not, switch commits off and are named."""
    put(repository, {name: "changed\n"})

    situation = git.examine(repository)

    assert situation.mode == "off"
    assert name in situation.reason


def test_a_merge_under_way_is_off(repository):
    """A merge that the user has not finished switches commits off."""
    (repository / ".git/MERGE_HEAD").write_text(call(repository, "rev-parse", "HEAD"))

    assert git.examine(repository).reason == "a merge is under way in the repository"


def test_a_branch_named_lorch_is_off(repository):
    """Git cannot keep lorch/<run> beside a branch lorch, which is told before the run."""
    call(repository, "branch", "lorch")

    assert "branch named lorch" in git.examine(repository).reason


def test_a_sparse_checkout_is_off(repository):
    """What is not checked out cannot be told from what was deleted."""
    call(repository, "config", "core.sparseCheckout", "true")

    assert "sparsely" in git.examine(repository).reason


def test_the_exclude_file_is_extended_once(repository):
    """The user's lines and mode stay, ours are added once however often."""
    exclude = repository / ".git/info/exclude"
    exclude.write_bytes(b"mine\n\xff\nlast-without-newline")
    exclude.chmod(0o664)

    git.examine(repository)
    once = exclude.read_bytes()
    git.examine(repository)

    assert once == exclude.read_bytes()
    assert once.startswith(b"mine\n\xff\nlast-without-newline\n")
    assert b"\n/state/\n" in once
    assert b"\n/lorch.json\n" in once
    assert exclude.stat().st_mode & 0o777 == 0o664


def test_an_exclude_file_that_cannot_be_written_is_off(repository):
    """Without a way to keep our own files out nothing is committed, and the place is named."""
    (repository / ".git/info/exclude").unlink()
    (repository / ".git/info/exclude").mkdir()

    situation = git.examine(repository)

    assert situation.mode == "off"
    assert ".git/info/exclude" in situation.reason


def test_a_workspace_in_a_subdirectory_excludes_its_own_directories_only(tmp_path, repository):
    """Patterns are anchored at the workspace, whose odd name is escaped."""
    workspace = repository / "sub [x]"
    put(workspace, {"state/run.json": "{}", "src/c.py": "c\n"})
    call(repository, "add", "sub [x]/src")
    call(repository, "commit", "-qm", "second")
    (repository / ".git/info/exclude").unlink()

    situation = git.examine(workspace)

    assert situation.mode == "off"  # the state/ at the top level is not ours seen from here
    put(repository, {".git/info/exclude": "/state/\n/events/\n/lorch.json\n"})
    assert git.examine(workspace).mode == "commit"
    assert status(repository) == ""


@pytest.mark.long
def test_a_linked_worktree_works(repository, tmp_path):
    """In a worktree of its own the run gets its branch there; the main tree notices nothing."""
    tree = tmp_path / "linked"
    call(repository, "worktree", "add", "-q", str(tree), "-b", "side")
    situation = git.examine(tree)
    git.begin(tree, RUN, situation.head)
    put(tree, {"new.py": "x\n"})

    made = commit(tree)

    assert made.files == 1
    assert status(tree) == ""
    assert call(repository, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_outside_variables_do_not_choose_the_repository(repository, tmp_path, monkeypatch):
    """GIT_DIR and GIT_INDEX_FILE of the surroundings, as inside a hook, are not obeyed."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other"))

    assert git.examine(repository).mode == "commit"


def test_begin_moves_head_and_nothing_else(begun):
    """The branch starts at HEAD and is checked out; a repeat changes nothing."""
    git.begin(begun, RUN, call(begun, "rev-parse", "main"))

    assert call(begun, "symbolic-ref", "--short", "HEAD") == f"lorch/{RUN}"
    assert call(begun, "rev-parse", "HEAD") == call(begun, "rev-parse", "main")
    assert status(begun) == ""


def test_begin_refuses_when_head_has_moved(repository):
    """A commit made between examination and start is not silently branched from."""
    old = call(repository, "rev-parse", "HEAD")
    call(repository, "commit", "-q", "--allow-empty", "-m", "second")

    with pytest.raises(GitError, match="no longer where"):
        git.begin(repository, RUN, old)


def test_a_task_becomes_one_commit(begun):
    """New, changed, deleted and odd files are committed with trailers, dates and the user's identity."""
    before = call(begun, "rev-parse", "HEAD")
    put(begun, {"src/a.py": "changed\n", "deep/er/new.py": "x\n", "we ird\n-name": "odd\n"})
    (begun / "src/b.py").unlink()
    (begun / "README.md").chmod(0o755)
    (begun / "link").symlink_to("/nowhere")
    Path(os.fsdecode(os.fsencode(begun) + b"/\xff")).write_text("bytes\n")
    os.mkfifo(begun / "fifo")

    made = commit(begun)

    assert made == git.Commit(call(begun, "rev-parse", "HEAD"), 7, before)
    assert status(begun) == ""
    told = call(begun, "log", "-1", "--format=%an %ae %at %ct%n%B").rstrip().split("\n")
    assert told == [
        "Ada ada@example.org 1767323045 1767323045",
        "T-1: do it",
        "",
        f"Lorch-Run: {RUN}",
        "Lorch-Task: T-1",
    ]
    assert call(begun, "show", "HEAD:link") == "/nowhere"
    assert call(begun, "ls-tree", "HEAD", "README.md").startswith("100755")
    tracked = call(begun, "ls-files").split("\n")
    assert not [name for name in tracked if name.startswith((*OWN, "lorch.json"))]


def test_a_repeat_finds_the_commit(begun):
    """Called again with the same arguments, the same commit is the answer and no second one is made."""
    put(begun, {"src/a.py": "changed\n"})
    first = commit(begun)
    again = commit(begun)

    assert first == again
    assert call(begun, "rev-list", "--count", "main..HEAD") == "1"


def test_nothing_changed_makes_no_commit(begun):
    """A task without changes leaves no empty commit."""
    made = commit(begun)

    assert made == git.Commit(None, 0, call(begun, "rev-parse", "main"))


@pytest.mark.long
def test_a_change_in_the_same_tick_and_of_the_same_size_is_committed(begun):
    """A change that size and times do not show is seen, because the copied index keeps its own time."""
    call(begun, "config", "core.trustctime", "false")
    moment = (1_767_323_045_000_000_000,) * 2
    put(begun, {"src/a.py": "1\n"})
    os.utime(begun / "src/a.py", ns=moment)
    commit(begun)
    os.utime(begun / ".git/index", ns=moment)
    put(begun, {"src/a.py": "2\n"})
    os.utime(begun / "src/a.py", ns=moment)

    assert commit(begun, "T-2").files == 1


def test_without_an_identity_lorch_commits(begun, isolated):
    """Where nobody told git who they are, the commit is made all the same."""
    (isolated / "gitconfig").write_text("[user]\nuseConfigOnly = true\n")
    put(begun, {"new": "x\n"})

    commit(begun)

    assert call(begun, "log", "-1", "--format=%an <%ae> %cn <%ce>") == "lorch <lorch@localhost> lorch <lorch@localhost>"


def test_hooks_and_signing_of_the_user_are_not_run(begun):
    """A hook or a signing key that wants a person at the keyboard cannot stop the run."""
    hook = begun / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    call(begun, "config", "commit.gpgSign", "true")
    put(begun, {"new": "x\n"})

    assert commit(begun).files == 1


@pytest.mark.long
def test_a_title_cannot_forge_trailers(begun):
    """Line breaks and control characters of a title do not become lines of the message."""
    put(begun, {"new": "x\n"})
    git.commit_task(begun, RUN, "T-1", "x\n\nLorch-Task: T-9\x1b[31m", WHEN, body="Lorch-Task: T-8")

    assert commit(begun, "T-8").commit is None
    assert call(begun, "log", "-1", "--format=%s") == "T-1: x Lorch-Task: T-9 [31m"


def test_an_agents_own_commit_stays_below_ours(begun):
    """What the agent committed itself is kept; what it left goes on top."""
    put(begun, {"one": "1\n"})
    call(begun, "add", "one")
    call(begun, "commit", "-qm", "by the agent")
    put(begun, {"two": "2\n"})

    commit(begun)

    assert call(begun, "log", "--format=%s", "main..HEAD").split("\n") == ["T-1: do it", "by the agent"]


def test_an_agents_half_done_merge_is_committed_as_it_lies(begun):
    """Conflicts that an agent left are committed with their content, and the merge is forgotten."""
    call(begun, "checkout", "-q", "-b", "side", "main")
    put(begun, {"src/a.py": "side\n"})
    call(begun, "commit", "-qam", "side")
    call(begun, "checkout", "-q", f"lorch/{RUN}")
    put(begun, {"src/a.py": "ours\n"})
    call(begun, "commit", "-qam", "ours")
    assert subprocess.run(["git", "merge", "-q", "side"], cwd=begun, capture_output=True).returncode == 1

    commit(begun)

    assert status(begun) == ""
    assert "<<<<<<<" in call(begun, "show", "HEAD:src/a.py")
    assert not (begun / ".git/MERGE_HEAD").exists()


@pytest.mark.parametrize("leave", [["checkout", "-q", "-b", "elsewhere"], ["checkout", "-q", "--detach"]])
def test_an_agent_that_switched_the_branch_is_refused(begun, leave):
    """A commit is never put on a branch that is not the run's; the error says how to go back."""
    call(begun, *leave)

    with pytest.raises(GitError, match="HEAD was moved") as caught:
        commit(begun)
    assert f"refs/heads/lorch/{RUN}" in caught.value.remedy


def test_a_left_over_index_lock_is_named_and_not_removed(begun):
    """Somebody else's lock is waited for and then told; nothing is committed meanwhile."""
    lock = begun / ".git/index.lock"
    lock.touch()
    put(begun, {"new": "x\n"})

    with pytest.raises(GitError, match="another git holds") as caught:
        commit(begun)
    assert caught.value.where == str(lock)
    assert lock.exists()
    assert call(begun, "rev-parse", "HEAD") == call(begun, "rev-parse", "main")

    lock.unlink()
    assert commit(begun).files == 1


def test_an_index_lock_that_goes_away_is_waited_for(begun, monkeypatch):
    """A lock held for a moment only delays the commit."""
    lock = begun / ".git/index.lock"
    lock.touch()
    monkeypatch.setattr(git_repository, "LOCK_WAIT_S", 30)

    assert git.commit_task(begun, RUN, "T-1", "t", WHEN, on_progress=lambda: lock.unlink(missing_ok=True)).files == 0


@pytest.mark.long
def test_an_index_lock_that_appears_meanwhile(begun, monkeypatch):
    """The index is not replaced under somebody's lock; the repeat finds the commit and finishes."""
    put(begun, {"new": "x\n"})
    real = git_runner.execute

    def execute(words, *rest):
        if "update-ref" in words:
            (begun / ".git/index.lock").touch()
        return real(words, *rest)

    monkeypatch.setattr(git_runner, "execute", execute)
    with pytest.raises(GitError, match="another git holds"):
        commit(begun)
    monkeypatch.setattr(git_runner, "execute", real)
    (begun / ".git/index.lock").unlink()

    assert commit(begun).commit == call(begun, "rev-parse", "HEAD")
    assert status(begun) == ""


def test_what_a_killed_git_left_of_our_private_index(begun):
    """A torn private index and its lock belong to a dead call of ours and are in nobody's way."""
    (begun / f".git/lorch-{RUN}.index").write_text("torn")
    (begun / f".git/lorch-{RUN}.index.lock").touch()
    put(begun, {"new": "x\n"})

    assert commit(begun).files == 1


@pytest.mark.long
def test_a_nested_repository_is_left_out_and_named(begun):
    """A repository made by the agent would enter without its content: it stays in the tree, the rest is committed."""
    for name in ("nested", "empty"):
        (begun / name).mkdir()
        call(begun / name, "init", "-q")
        put(begun / name, {"f": "x\n"})
    call(begun / "nested", "add", "-A")
    call(begun / "nested", "commit", "-qm", "inner")
    put(begun, {"new": "x\n"})

    made = commit(begun)

    assert commit(begun) == made
    assert (made.files, made.left_out) == (1, ("empty", "nested"))
    assert call(begun, "ls-tree", "-r", "--name-only", "HEAD").count("nested") == 0
    assert (begun / "nested/f").exists()


def test_a_nested_repository_that_was_staged_is_left_out_too(begun):
    """An agent's `git add nested` does not smuggle in a commit id without content."""
    (begun / "nested").mkdir()
    call(begun / "nested", "init", "-q")
    put(begun / "nested", {"f": "x\n"})
    call(begun / "nested", "add", "-A")
    call(begun / "nested", "commit", "-qm", "inner")
    call(begun, "add", "nested")

    assert commit(begun) == git.Commit(None, 0, call(begun, "rev-parse", "main"), ("nested",))


def test_a_repository_made_inside_a_tracked_directory_loses_nothing(begun):
    """`git init` in a directory with tracked files does not keep its files out of the commit."""
    call(begun / "src", "init", "-q")
    put(begun, {"src/a.py": "changed\n", "src/new.py": "x\n"})

    assert commit(begun).files == 2


def test_line_ends_follow_the_users_setting(begun):
    """core.autocrlf and core.safecrlf of the user do not stop a commit."""
    call(begun, "config", "core.autocrlf", "true")
    call(begun, "config", "core.safecrlf", "true")
    put(begun, {"mixed.txt": "one\r\ntwo\n"})

    commit(begun)

    assert status(begun) == ""
    assert call(begun, "cat-file", "-s", "HEAD:mixed.txt") == "8"


def test_an_intent_to_add_is_committed(begun):
    """A file that was only announced with `git add -N` is committed with its content."""
    put(begun, {"new": "x\n"})
    call(begun, "add", "-N", "new")

    assert commit(begun).files == 1
    assert call(begun, "show", "HEAD:new") == "x"


def test_a_failed_task_goes_to_its_branch(begun):
    """Everything the failed task left is on its branch, and the tree is what it was; ignored files stay."""
    before = call(begun, "rev-parse", "HEAD")
    put(begun, {"src/a.py": "bad\n", "deep/er/new.py": "x\n", "build.log": "ignored\n"})
    (begun / "src/b.py").unlink()
    (begun / "README.md").chmod(0o755)

    made = aside(begun)

    branch = f"lorch-failed/{RUN}/T-1"
    assert made == git.Commit(call(begun, "rev-parse", branch), 4, before)
    assert status(begun) == ""
    assert call(begun, "rev-parse", "HEAD") == before
    assert call(begun, "show", f"{branch}:deep/er/new.py") == "x"
    assert call(begun, "rev-parse", f"{branch}^") == before
    assert (begun / "src/a.py").read_text() == "a\n"
    assert (begun / "src/b.py").read_text() == "b\n"
    assert (begun / "README.md").stat().st_mode & 0o111 == 0
    assert (begun / "build.log").exists()
    assert not (begun / "deep").exists()
    assert (begun / "state/run.json").exists()


def test_a_failed_task_without_changes_makes_no_branch(begun):
    """Nothing to save, nothing made."""
    assert aside(begun).commit is None
    assert call(begun, "branch", "--list", "lorch-failed/*") == ""


@pytest.mark.long
def test_setting_aside_again_changes_nothing(begun):
    """A repeat answers with the same commit."""
    put(begun, {"new": "x\n"})

    assert aside(begun) == aside(begun)


@pytest.mark.long
def test_a_second_failure_of_a_task_keeps_the_first(begun):
    """A task that fails again after --retry-failed keeps both attempts reachable."""
    put(begun, {"one": "1\n"})
    first = aside(begun)
    put(begun, {"two": "2\n"})
    second = aside(begun, when=LATER)

    assert call(begun, "rev-parse", f"{second.commit}^2") == first.commit
    assert call(begun, "diff", "--name-only", f"{second.commit}^", str(second.commit)) == "two"


@pytest.mark.long
def test_an_agents_commits_of_a_failed_task_are_set_aside_too(begun):
    """With the task's base given, the run's branch goes back to it and the agent's commits stay reachable."""
    base = call(begun, "rev-parse", "HEAD")
    put(begun, {"one": "1\n"})
    call(begun, "add", "one")
    call(begun, "commit", "-qm", "by the agent")
    own = call(begun, "rev-parse", "HEAD")

    made = aside(begun, base=base)

    assert call(begun, "rev-parse", "HEAD") == base
    assert call(begun, "rev-parse", f"{made.commit}^") == own
    assert (status(begun), (begun / "one").exists()) == ("", False)
    assert aside(begun, base=base) == made


@pytest.mark.long
def test_files_hidden_by_the_tasks_own_ignore_file_are_set_aside(begun):
    """What only the failed task's .gitignore hid does not leak into the next task's commit."""
    put(begun, {".gitignore": "*.log\njunk\n", "junk/x": "x\n"})

    made = aside(begun)

    assert status(begun) == ""
    assert not (begun / "junk").exists()
    assert call(begun, "show", f"{made.commit}:junk/x") == "x"
    assert "junk" in call(begun, "show", f"{made.commit}:.gitignore")


def untracked(begun):
    call(begun, "rm", "-q", "--cached", "src/a.py")
    put(begun, {".gitignore": "*.log\nsrc/a.py\n", "src/a.py": "PRECIOUS\n"})


def untracked_by_a_commit(begun):
    untracked(begun)
    call(begun, "add", ".gitignore")
    call(begun, "commit", "-qm", "by the agent")
    put(begun, {"src/a.py": "PRECIOUS\n"})


def replaced_by_a_directory(begun):
    (begun / "README.md").unlink()
    put(begun, {".gitignore": "*.log\nREADME.md/\n", "README.md/out.txt": "PRECIOUS\n"})


def parent_replaced_by_a_file(begun):
    shutil.rmtree(begun / "src")
    put(begun, {".gitignore": "*.log\nsrc\n", "src": "PRECIOUS\n"})


@pytest.mark.parametrize(
    "hide",
    [
        untracked,
        replaced_by_a_directory,
        pytest.param(untracked_by_a_commit, marks=pytest.mark.long),
        pytest.param(parent_replaced_by_a_file, marks=pytest.mark.long),
    ],
)
def test_what_is_ignored_and_lies_in_the_way_is_set_aside(begun, hide):
    """Git writes over it in silence; it is in the failed task's commit first."""
    base = call(begun, "rev-parse", "HEAD")
    hide(begun)

    made = aside(begun, base=base)

    assert "PRECIOUS" in call(begun, "grep", "PRECIOUS", made.commit)
    assert (begun / "src/a.py").read_text() == "a\n"
    assert (begun / "README.md").read_text() == "read\n"
    assert status(begun) == ""


@pytest.mark.long
def test_a_nested_repository_survives_a_failed_task(begun):
    """What git cannot save is not taken out of the tree."""
    (begun / "nested").mkdir()
    call(begun / "nested", "init", "-q")
    put(begun, {"nested/f": "x\n", "new": "x\n"})

    made = aside(begun)

    assert made.left_out == ("nested",)
    assert (begun / "nested/f").read_text() == "x\n"
    assert not (begun / "new").exists()


def test_a_file_that_changes_after_it_was_saved_is_not_overwritten(begun, monkeypatch):
    """A stray process that writes between saving and restoring gets an error, and its content survives."""
    put(begun, {"src/a.py": "bad\n"})
    real = git_runner.execute

    def execute(words, *rest):
        if "read-tree" in words and "-u" in words:
            put(begun, {"src/a.py": "written by a stray process\n"})
        return real(words, *rest)

    monkeypatch.setattr(git_runner, "execute", execute)

    with pytest.raises(GitError, match="not uptodate"):
        aside(begun)
    assert (begun / "src/a.py").read_text() == "written by a stray process\n"


@pytest.mark.long
def test_a_file_cut_short_by_a_kill_while_it_is_restored(begun):
    """A half-restored file is saved beside the task's changes and then restored."""
    put(begun, {"src/a.py": "bad\n"})
    first = aside(begun)
    put(begun, {"src/a.py": ""})

    made = aside(begun)

    assert (begun / "src/a.py").read_text() == "a\n"
    assert call(begun, "show", f"{made.commit}:src/a.py") == "bad"
    assert call(begun, "rev-parse", f"{made.commit}^") == first.commit
    assert call(begun, "show", f"{made.commit}^2:src/a.py") == ""


@pytest.mark.long
@pytest.mark.parametrize("task", ["a..b", "x.lock", "x."])
def test_task_ids_that_git_forbids_in_references_work(begun, task):
    """Every task id that is allowed here finds a branch name that git allows."""
    put(begun, {"new": "x\n"})

    made = aside(begun, task)

    assert "%2E" in call(begun, "for-each-ref", "--points-at", str(made.commit), "--format=%(refname)")


@pytest.mark.long
def test_tracked_files_in_our_own_directories_are_never_touched(repository):
    """A ledger that the user once committed is neither committed nor restored by us."""
    call(repository, "add", "-f", "state/run.json")
    call(repository, "commit", "-qm", "oops")
    situation = git.examine(repository)
    git.begin(repository, RUN, situation.head)
    put(repository, {"state/run.json": "newer", "new": "x\n"})

    made = aside(repository)

    assert made.files == 1
    assert (repository / "state/run.json").read_text() == "newer"


def test_a_commit_with_borrowed_trailers_is_not_taken_for_ours(begun):
    """An agent that imitates our trailers in a commit of its own does not keep the rest from being committed."""
    put(begun, {"one": "1\n"})
    call(begun, "add", "one")
    call(begun, "commit", "-qm", f"mine\n\nLorch-Run: {RUN}\nLorch-Task: T-1")
    put(begun, {"two": "2\n"})

    assert commit(begun).files == 1
    assert call(begun, "rev-list", "--count", "main..HEAD") == "2"


@pytest.mark.long
def test_files_and_directories_that_change_places(begun):
    """A file that became a directory and a directory that became a file are set aside and restored."""
    shutil.rmtree(begun / "src")
    (begun / "README.md").unlink()
    put(begun, {"src": "file\n", "README.md/x": "x\n"})

    made = aside(begun)

    assert made.files == 5
    assert status(begun) == ""
    assert (begun / "src/b.py").read_text() == "b\n"
    assert (begun / "README.md").read_text() == "read\n"


@pytest.fixture
def with_submodule(template, repository, isolated):
    call(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(template), "sub")
    call(repository, "commit", "-qm", "submodule")
    git.begin(repository, RUN, call(repository, "rev-parse", "HEAD"))
    git_repository.exclude_own(git_repository.locate(repository))
    put(repository, {"sub/src/a.py": "changed\n"})
    call(repository / "sub", "commit", "-qam", "inside")
    return repository


@pytest.mark.long
def test_a_submodule_that_moved_on_is_committed(with_submodule):
    """A registered submodule is recorded as git does."""
    assert commit(with_submodule) == git.Commit(
        call(with_submodule, "rev-parse", "HEAD"), 1, call(with_submodule, "rev-parse", "HEAD^")
    )
    assert status(with_submodule) == ""


@pytest.mark.long
def test_a_submodule_of_a_failed_task_is_recorded_and_stays(with_submodule):
    """The failed branch names the submodule's commit; its files are not ours to take back."""
    put(with_submodule, {"new": "x\n"})
    made = aside(with_submodule)

    assert (made.files, made.left_out) == (2, ("sub",))
    assert not (with_submodule / "new").exists()
    assert (with_submodule / "sub/src/a.py").read_text() == "changed\n"
    assert call(with_submodule, "diff", "--cached", "--name-only") == ""
    assert aside(with_submodule) == made


@pytest.mark.long
def test_a_workspace_that_is_a_submodule(with_submodule):
    """Inside a submodule the run commits to the submodule."""
    workspace = with_submodule / "sub"
    situation = git.examine(workspace)
    git.begin(workspace, RUN, situation.head)
    put(workspace, {"new": "x\n"})

    assert (situation.mode, situation.toplevel) == ("commit", str(workspace))
    assert commit(workspace).files == 1


@pytest.mark.long
def test_restoring_a_link_touches_nothing_behind_it(begun, tmp_path):
    """Where a link is restored in place of a directory, empty directories behind the link are not cleared away."""
    (tmp_path / "outside/empty").mkdir(parents=True)
    (begun / "link").symlink_to(tmp_path / "outside")
    commit(begun, "T-0")
    (begun / "link").unlink()
    put(begun, {"link/empty/file": "x\n"})

    assert aside(begun).files == 2
    assert (begun / "link").is_symlink()
    assert (tmp_path / "outside/empty").is_dir()


def test_an_exclude_file_that_an_agent_emptied(begun):
    """Before every commit our own files are kept out again."""
    (begun / ".git/info/exclude").write_text("")
    put(begun, {"new": "x\n"})

    assert commit(begun).files == 1
    assert status(begun) == ""


@pytest.mark.long
def test_our_own_files_added_by_force_are_not_committed(begun):
    """An agent's `git add -f state` neither commits our files nor gets them taken out of the tree."""
    call(begun, "add", "-f", "state/run.json", "lorch.json")
    put(begun, {"new": "x\n"})

    made = aside(begun)

    assert call(begun, "diff", "--name-only", "main", str(made.commit)) == "new"
    assert (begun / "state/run.json").read_text() == "{}"
    assert status(begun) == ""


@pytest.mark.long
def test_a_link_in_place_of_a_tracked_directory(begun, tmp_path):
    """A directory replaced by a link that leaves the repository is committed as a link, and set aside as one."""
    (tmp_path / "outside").mkdir()
    put(tmp_path, {"outside/a.py": "outside\n"})
    shutil.rmtree(begun / "src")
    (begun / "src").symlink_to(tmp_path / "outside")

    made = aside(begun)

    assert call(begun, "show", f"{made.commit}:src") == str(tmp_path / "outside")
    assert (begun / "src/b.py").read_text() == "b\n"
    assert (tmp_path / "outside/a.py").read_text() == "outside\n"


def test_reference_locks_of_a_killed_call_are_removed(begun):
    """A HEAD.lock that our own killed git left, told by the marker, does not stop the next call."""
    put(begun, {"new": "x\n"})
    (begun / f".git/lorch-{RUN}.ref").write_text(f"refs/heads/lorch/{RUN}")
    (begun / ".git/HEAD.lock").touch()
    (begun / f".git/refs/heads/lorch/{RUN}.lock").touch()

    assert commit(begun).files == 1
    assert list(begun.glob(".git/**/*.lock")) == []


def test_a_reference_lock_of_somebody_else_is_not_removed(begun):
    """Without the marker a HEAD.lock belongs to another git and is told."""
    put(begun, {"new": "x\n"})
    (begun / ".git/HEAD.lock").touch()

    with pytest.raises(GitError, match=r"HEAD\.lock"):
        commit(begun)
    assert (begun / ".git/HEAD.lock").exists()


def test_git_dies_with_its_caller(tmp_path):
    """A git of a killed worker does not go on beside the next worker's."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    child = os.fork()
    if child == 0:
        git_runner.execute(["sh", "-c", "echo $$ > ready; exec sleep 60"], tmp_path, os.environ, None, 60, None)
        os._exit(0)
    called = os.pidfd_open(int(ready.read_text()))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    gone, _, _ = select.select([called], [], [], 10)
    os.close(called)
    assert gone == [called]


def test_a_git_that_hangs_is_ended_with_its_helpers(tmp_path):
    """Past its deadline git and what it started are killed, and the error says how long it was waited for."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    helpers = []
    with pytest.raises(GitError, match=r"did not end within 0\.2 seconds"):
        git_runner.execute(
            ["sh", "-c", "sleep 60 & echo $! > ready; wait"],
            tmp_path,
            os.environ,
            None,
            0.2,
            lambda: helpers.append(os.pidfd_open(int(ready.read_text()))),
        )

    gone, _, _ = select.select(helpers, [], [], 10)
    for helper in helpers:
        os.close(helper)
    assert len(gone) == 1
