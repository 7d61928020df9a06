"""Many kills, and many tasks: what takes minutes, each by itself."""

from pathlib import Path

import pytest
from chaos_driving import NOTHING_BROKE, chaos, costs

from lorch_actors.chaos.settings import BELOW, VICTIMS


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_five_hundred_kills_over_all_roles(tmp_path: Path):
    """Every task finished, 0 entries lost, 0 steps executed twice, 0 orphans."""
    after = chaos(tmp_path / "w", "--kills", "500", "--seed", "500")

    assert costs(after.report) == NOTHING_BROKE
    assert after.report["tasks_completed"] == after.report["tasks"]
    assert {line["role"] for line in after.report["roles"]} == set(VICTIMS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_minutes_of_light_chaos_leave_nothing_behind(tmp_path: Path):
    """Memory, descriptors and threads of guardian and orchestrator end where they began."""
    after = chaos(tmp_path / "w", "--minutes", "5", "--seed", "5")

    assert costs(after.report) == NOTHING_BROKE
    assert {line["role"] for line in after.report["roles"]} == set(BELOW)
    for line in after.report["resources"]:
        assert line["threads_end"] - line["threads_start"] <= 4
        assert line["resident_slope_bytes_per_minute"] < 2 * 1024 * 1024
