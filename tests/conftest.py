"""What holds for every test: how tests are shared out among processes, and how long Hypothesis may take."""

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# How fast examples are made says something of the machine, nothing of the program.
settings.register_profile("lorch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lorch")

# A job in the background of a shell inherits that Ctrl-C is not for it, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOGETHER = (
    "tests/chaos/test_chaos_",
    "tests/records/",
    "tests/runs/test_cuts.py",
    "tests/runs/test_faults_agents.py",
    "tests/runs/test_faults_workspace.py",
    "tests/runs/test_secrets_and_modes.py",
    "tests/runs/test_wire.py",
    "tests/test_style.py",
)
"""Tests that look at one and the same run, or the same syntax trees."""


class Scheduler(LoadScopeScheduling):
    """Hands out what belongs together whole, the largest first, and every other test by itself."""

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, as far as its own time limit tells: else the others wait for it at the end."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("timeout")), default=0))


def pytest_collection_finish():
    """Have the collector look only at what tests make: some of them play thousands of runs, each a heap of cycles."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl
def pytest_xdist_make_scheduler(config, log):
    """Schedule with ours."""
    return Scheduler(config, log)
