"""One short chaos run for all tests of this room: they look at what it left, or spoil copies of it."""

import shutil
from pathlib import Path

import pytest
from chaos_driving import After, chaos


@pytest.fixture(scope="session")
def after_chaos(tmp_path_factory: pytest.TempPathFactory) -> After:
    """Strike twelve times at everybody."""
    root = tmp_path_factory.mktemp("chaos") / "workspace"
    return chaos(root, "--kills", "12", "--seed", "4", "--signals", "KILL")


@pytest.fixture
def spoilt(after_chaos: After, tmp_path: Path) -> After:
    """Return a copy of what the run left, to be spoilt."""
    root = tmp_path / "workspace"
    shutil.copytree(after_chaos.root, root, symlinks=True)
    return After(after_chaos.code, after_chaos.report, root, after_chaos.told)
