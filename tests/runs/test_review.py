"""What a review of whole runs found wrong, each seen to stay right."""

from pathlib import Path

from bench import Bench


def test_tasks_too_long_for_the_first_entry(tmp_path: Path) -> None:
    """Tasks that do not fit into the ledger's first entry are run from their file."""
    there = Bench(tmp_path / "w", tasks=[{"id": f"T-{nth}", "goal": "long " * 12_000} for nth in range(3)])
    ended = there.run()

    assert ended.code == 0, ended
    assert there.events("system.run_started")[0]["payload"].get("tasks") is None
    assert [task["status"] for task in there.state()["tasks"]] == ["completed"] * 3
