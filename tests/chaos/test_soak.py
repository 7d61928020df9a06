"""A batch of short tasks under light chaos for minutes: nothing grows."""

from pathlib import Path

import pytest
from chaos_driving import NOTHING_BROKE, chaos, costs

from lorch_actors.chaos.settings import BELOW


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_minutes_of_light_chaos_leave_nothing_behind(tmp_path: Path):
    """Memory, descriptors and threads of guardian and orchestrator end where they began."""
    after = chaos(tmp_path / "w", "--minutes", "5", "--seed", "5")

    assert costs(after.report) == NOTHING_BROKE
    assert {line["role"] for line in after.report["roles"]} == set(BELOW)
    for line in after.report["resources"]:
        assert line["threads_end"] - line["threads_start"] <= 4
        assert line["resident_slope_bytes_per_minute"] < 1024 * 1024
