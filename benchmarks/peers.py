"""The peers: other programs that make steps durable, from PyPI, in an environment of their own.

``python -m benchmarks.peers`` makes the environment, in `benchmarks/.peers`. Without it they are skipped.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Result, Skipped

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".peers"
PROGRAMS = HERE / "peer_programs"
PACKAGES = ("dbos", "langgraph", "langgraph-checkpoint-sqlite")
PEERS = {"dbos_steps": "a step of DBOS on SQLite", "langgraph_steps": "a step of LangGraph, SQLite, durability=sync"}
TIMEOUT_S = 120


def steps(directory: Path, ours_ms: float) -> Iterator[Result]:
    """Yield our cycle beside a durable step of each peer."""
    python = ENVIRONMENT / "bin" / "python"
    for program, what in PEERS.items():
        if not python.exists():
            yield Skipped(what, f"there is no {ENVIRONMENT.name}: `python -m benchmarks.peers` makes it")
            continue
        done = subprocess.run(
            [python, PROGRAMS / f"{program}.py"], cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        words = done.stdout.split()
        if done.returncode == 0 and words:
            yield Figure("median", ours_ms, "ms", what, float(words[-1]), 1.0)
        else:
            last = done.stderr.strip().splitlines()[-1:]
            yield Skipped(what, f"it ended with exit code {done.returncode}: {' '.join(last)}")


def main() -> None:
    """Make the environment."""
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)


if __name__ == "__main__":
    main()
