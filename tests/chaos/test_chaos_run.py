"""Under random kills of every process of the tree, a batch of tasks is finished and no promise breaks."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from chaos_driving import NOTHING_BROKE, After, chaos, costs

from lorch_actors.chaos.settings import VICTIMS
from lorch_actors.errors import ExitCode
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY


def test_twelve_kills_cost_nothing_but_time(after_chaos: After):
    """Every task is finished, nothing is lost, doubled, executed again or left running."""
    report = after_chaos.report

    assert costs(report) == NOTHING_BROKE
    assert (after_chaos.code, report["ok"]) == (ExitCode.DONE, True)
    assert report["tasks_completed"] == report["tasks"] > 0
    assert report["strikes"] == 12


def test_the_report_is_as_its_schema_says(after_chaos: After):
    """For whoever reads it with a program."""
    schema = json.loads((SCHEMA_DIRECTORY / "cli-chaos.json").read_bytes())

    jsonschema.Draft202012Validator(schema).validate(after_chaos.report)


@pytest.mark.long
def test_everybody_is_hurt_early(after_chaos: After):
    """The deck holds every role, so that few strikes meet nearly all of them."""
    hurt = {line["role"] for line in after_chaos.report["roles"]}

    assert len(hurt) >= len(VICTIMS) - 1
    assert hurt <= set(VICTIMS)


def test_the_widened_limits_are_printed(after_chaos: After):
    """Nobody should take the run's patience for the default."""
    assert "supervisor.restarts 100000" in after_chaos.told
    assert after_chaos.report["limits"]["policy.worker_stall_s"] == 1.0


def test_a_workspace_that_is_not_empty_is_refused(tmp_path: Path):
    """Chaos is for a workspace of its own."""
    (tmp_path / "thesis.txt").write_text("precious")

    refused = chaos(tmp_path, "--kills", "1")

    assert refused.code == ExitCode.USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_stops_the_run_and_reports(tmp_path: Path):
    """In good order: the run is resumable, nobody is left alive, and what was measured so far is told."""
    command = [
        sys.executable,
        "-m",
        "lorch_actors",
        "chaos",
        "--json",
        "--minutes",
        "5",
        "--roles",
        "agent",
        "--verbose",
    ]
    root = tmp_path / "w"
    with subprocess.Popen(
        [*command, "--workspace", str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while " (process " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        report = json.loads(process.stdout.read())

    assert report["broken"] == []
    assert report["interrupted"]
    assert process.returncode == ExitCode.INTERRUPTED
