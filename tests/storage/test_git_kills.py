"""Git operations are killed between any two calls of git and changes on the disk, and called again."""

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest

from lorch_actors.storage import disk, git, git_repository, git_runner

WHEN = "2026-01-02T03:04:05.678Z"
RUN = "run-20260102-030405-abcdef01"
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


@pytest.fixture(autouse=True)
def isolated(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    quick = [setting for setting in git_runner._SETTINGS if not setting.startswith("core.fsync")]
    monkeypatch.setattr(git_runner, "_SETTINGS", (*quick, "core.fsync=none"))


def call(root, *arguments):
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
    return done.stdout.decode().rstrip("\n")


@pytest.fixture
def prepared(tmp_path):
    """Return a function that says where an operation can begin: made once, for a copy of it costs no call of git."""

    @cache
    def make(operation):
        root = repository(tmp_path / f"before-{operation}")
        git_repository.exclude_own(git_repository.locate(root))
        if operation != "begin":
            operations(root)["begin"]()
            change(root)
        return root

    return make


def repository(root):
    """Make a repository with three files and a run's state."""
    (root / "src").mkdir(parents=True)
    (root / "state").mkdir()
    call(root, "init", "-q", "-b", "main")
    for name in ("a", "b", "c"):
        (root / "src" / name).write_text(name)
    call(root, "add", "-A")
    call(root, "commit", "-qm", "first")
    (root / "state/run.json").write_text("{}")
    return root


def change(root):
    (root / "src/a").write_text("changed")
    (root / "src/b").unlink()
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/file").write_text("new")


def operations(root):
    base = call(root, "rev-parse", "main")
    return {
        "begin": lambda: git.begin(root, RUN, base),
        "commit": lambda: git.commit_task(root, RUN, "T-1", "do it", WHEN),
        "aside": lambda: git.set_aside(root, RUN, "T-1", "do it", WHEN, "tests failed", base),
    }


class Killer:
    """Kills this process at the n-th point: before each call of git, before and after each change on the disk.

    After a call of git is before the next one.
    """

    def __init__(self, at, *, every_change):
        self.left = at
        git_runner.execute = self.before(git_runner.execute)
        for name in ("replace", "unlink", "create") if every_change else ():
            setattr(disk, name, self.before(self.after(getattr(disk, name))))

    def before(self, function):
        def wrapper(*arguments):
            self.point()
            return function(*arguments)

        return wrapper

    def after(self, function):
        def wrapper(*arguments):
            answer = function(*arguments)
            self.point()
            return answer

        return wrapper

    def point(self):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def run_and_kill(operation, root, at, *, every_change=False):
    """Run an operation in a process that dies at that point; say whether it did."""
    child = os.fork()
    if child == 0:
        Killer(at, every_change=every_change)
        operations(root)[operation]()
        os._exit(0)
    _, ending = os.waitpid(child, 0)
    if os.WIFSIGNALED(ending):
        assert os.WTERMSIG(ending) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(ending) == 0
    return False


def check(operation, root):
    """Look at everything an operation promises after it was repeated."""
    git_directory = root / ".git"
    assert call(root, "symbolic-ref", "HEAD") == f"refs/heads/lorch/{RUN}"
    assert call(root, "status", "--porcelain") == ""
    assert call(root, "fsck", "--no-dangling") == ""
    assert [*git_directory.glob("**/*.lock"), *git_directory.glob("lorch-*")] == []
    assert (root / "state/run.json").read_text() == "{}"
    made = {"begin": 0, "commit": 1, "aside": 0}[operation]
    assert call(root, "rev-list", "--count", f"main..lorch/{RUN}") == str(made)
    if operation == "aside":
        assert call(root, "rev-list", "--count", f"main..lorch-failed/{RUN}/T-1") == "1"
        assert sorted(path.name for path in root.glob("src/*")) == ["a", "b", "c"]
        assert not (root / "new").exists()
    saved = {"commit": f"lorch/{RUN}", "aside": f"lorch-failed/{RUN}/T-1"}.get(operation)
    if saved:
        assert call(root, "show", f"{saved}:new/deep/file") == "new"
        assert call(root, "show", f"{saved}:src/a") == "changed"
        assert call(root, "ls-tree", "-r", "--name-only", saved).split() == ["new/deep/file", "src/a", "src/c"]


def sweep(prepared, tmp_path, operation, points, *, every_change=False):
    for at in points:
        root = Path(tmp_path / f"at-{at}")
        shutil.copytree(prepared(operation), root)
        killed = run_and_kill(operation, root, at, every_change=every_change)
        operations(root)[operation]()
        check(operation, root)
        if not killed:
            return at
        shutil.rmtree(root)
    return None


@pytest.mark.parametrize("operation", ["begin", "commit", pytest.param("aside", marks=pytest.mark.long)])
def test_killed_at_a_call_of_git_and_repeated(prepared, tmp_path, operation):
    """Killed at some points, each operation finishes when it is repeated, and leaves one commit and no lock."""
    assert sweep(prepared, tmp_path, operation, range(2, 400, 11)) is not None


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", ["begin", "commit", "aside"])
def test_killed_at_every_point_and_repeated(prepared, tmp_path, operation):
    """The same between any two calls of git and changes on the disk."""
    assert sweep(prepared, tmp_path, operation, range(500), every_change=True) is not None


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("operation", "points"), [("commit", 24), ("aside", 42)])
def test_killed_twice_and_repeated(prepared, tmp_path, operation, points):
    """A kill during the repeat is no worse than the first."""
    for first in range(0, points, points // 6):
        for second in range(0, points, points // 5):
            root = tmp_path / f"at-{first}-{second}"
            shutil.copytree(prepared(operation), root)
            assert run_and_kill(operation, root, first, every_change=True)
            run_and_kill(operation, root, second, every_change=True)
            operations(root)[operation]()
            check(operation, root)
            shutil.rmtree(root)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_git_itself_killed_at_any_moment(prepared, tmp_path):
    """Killed together with its git in the middle of a call, a failed task is still saved whole."""
    for delay_us in range(500, 60_000, 1_400):
        root = tmp_path / f"after-{delay_us}"
        shutil.copytree(prepared("aside"), root)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, delay_us / 1e6)
            operations(root)["aside"]()
            os._exit(0)
        os.waitpid(child, 0)
        operations(root)["aside"]()
        saved = f"lorch-failed/{RUN}/T-1"
        assert call(root, "show", f"{saved}:new/deep/file") == "new"
        assert call(root, "show", f"{saved}:src/a") == "changed"
        assert call(root, "status", "--porcelain") == ""
        assert [*(root / ".git").glob("**/*.lock"), *(root / ".git").glob("lorch-*")] == []
        shutil.rmtree(root)
