"""What a run imports, it imports once: worker processes are forked when all that they need is there."""

from pathlib import Path

from bench import WORKERS, Bench

NOTE_IMPORTS = """
import os, sys

class Noting:
    def find_spec(self, name, path=None, target=None):
        with open(os.environ["IMPORTS"], "a") as file:
            file.write(f"{os.getpid()} {name}\\n")

sys.meta_path.insert(0, Noting())
"""


def test_workers_import_nothing_by_themselves(tmp_path: Path) -> None:
    """Each import of theirs would be paid for once a worker, one after the other, before the first command."""
    hooks, noted = tmp_path / "hooks", tmp_path / "imports"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(NOTE_IMPORTS)
    bench = Bench(tmp_path / "w")

    assert bench.run(env={"PYTHONPATH": str(hooks), "IMPORTS": str(noted)}).code == 0

    started = [event["payload"] for event in bench.events("system.worker_started")]
    workers = {payload["process"]["pid"]: payload["actor"] for payload in started}
    imports = [(int(pid), name) for pid, name in map(str.split, noted.read_text().splitlines())]
    assert {*workers.values()} == {*WORKERS}
    assert "lorch_actors.actors.orchestrator" in {name for _, name in imports}
    assert [(workers[pid], name) for pid, name in imports if pid in workers] == []
