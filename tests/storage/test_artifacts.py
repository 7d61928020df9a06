"""Claims of agents are compared with the files, and a wrong one is a value."""

import hashlib
import os
from types import SimpleNamespace

import pytest

from lorch_actors.errors import FailureCode
from lorch_actors.protocol.messages import Artifact, ExpectedOutput
from lorch_actors.storage.artifacts import Verdict, verify_artifacts

CONTENT = b"hello\n"
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MISMATCH = FailureCode.ARTIFACT_MISMATCH


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "workspace"
    (root / "src").mkdir(parents=True)
    (root / "src/a").write_bytes(CONTENT)
    (tmp_path / "outside").write_bytes(CONTENT)
    (root / "src/out").symlink_to(tmp_path / "outside")
    (root / "src/in").symlink_to("a")
    os.mkfifo(root / "src/fifo")
    return root


def claim(path="src/a", sha256=CHECKSUM, size=6):
    return Artifact(path, sha256, size)


def codes(findings):
    return [(finding.path, finding.code) for finding in findings]


def verify(root, artifacts, expected=(), mode="strict", max_bytes=1000):
    return verify_artifacts(root, artifacts, expected, max_bytes=max_bytes, mode=mode)


@pytest.mark.parametrize("mode", ["strict", "warn", "off"])
@pytest.mark.parametrize("path", ["src/a", "src/in"])
def test_a_true_claim_is_accepted(root, mode, path):
    """Path, size and checksum as claimed: nothing to say. A link that stays inside is followed."""
    verdict = verify(root, [claim(path)], [ExpectedOutput(path)], mode)

    assert verdict == Verdict((), ())


@pytest.mark.parametrize(
    "wrong",
    [
        claim("src/absent"),
        claim("src"),
        claim("src/fifo"),
        claim(size=5),
        claim(size=7),
        claim(sha256="sha256:" + "0" * 64),
        SimpleNamespace(path="src/a", sha256="none", size=6),
    ],
    ids=["absent", "directory", "fifo", "shorter", "longer", "checksum", "no checksum"],
)
def test_a_false_claim(root, wrong):
    """A false claim is a problem under strict, a warning under warn, and not looked at under off."""
    assert codes(verify(root, [wrong]).problems) == [(wrong.path, MISMATCH)]
    assert codes(verify(root, [wrong], mode="warn").warnings) == [(wrong.path, MISMATCH)]
    assert verify(root, [wrong], mode="off") == Verdict((), ())


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "src/../../outside", "", "a\0b"])
@pytest.mark.parametrize("mode", ["strict", "warn", "off"])
def test_a_path_out_of_the_workspace_is_a_problem_in_every_mode(root, mode, path):
    """No policy lets a path leave the workspace."""
    verdict = verify(root, [claim(path)], [ExpectedOutput(path)], mode)

    assert codes(verdict.problems) == [(path, MISMATCH)] * 2


@pytest.mark.parametrize("mode", ["strict", "warn"])
def test_a_link_out_of_the_workspace_is_a_problem(root, mode):
    """A link that leaves is not followed, though the file behind it is as claimed."""
    assert codes(verify(root, [claim("src/out")], mode=mode).problems) == [("src/out", MISMATCH)]


def test_an_artifact_over_the_limit(root):
    """A file larger than allowed is refused by its own code, without being read."""
    verdict = verify(root, [claim()], max_bytes=5)

    assert codes(verdict.problems) == [("src/a", FailureCode.ARTIFACT_TOO_LARGE)]
    assert verify(root, [claim()], max_bytes=6) == Verdict((), ())


def test_a_missing_required_output(root):
    """A required output that is absent is a mismatch, an optional one is none."""
    expected = [ExpectedOutput("src/absent"), ExpectedOutput("src/optional", required=False)]

    assert codes(verify(root, [], expected).problems) == [("src/absent", MISMATCH)]


def test_progress_is_told(root):
    """Each file and each 16 MiB tell that the check goes on."""
    (root / "large").write_bytes(bytes(33 << 20))
    told = []
    verify_artifacts(root, [claim("large", size=33 << 20)], max_bytes=1 << 30, on_progress=lambda: told.append(1))

    assert len(told) == 3
