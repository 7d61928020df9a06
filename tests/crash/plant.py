"""Plants every bug, one at a time, and prints which suite finds it: ``python tests/crash/plant.py [WORD…]``.

With words, only bugs that have one of them in their names. Exit code 1 if one is not found. It takes minutes: two
processes work side by side.
"""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from finding import evidence
from planted import PLANTED, Bug
from planted_tree import IN_THE_TREE, copied_tree

PROCESSES = 2


def main(words: list[str]) -> int:
    """Print a line for each bug; return the exit code."""
    chosen = [bug for bug in (*PLANTED, *IN_THE_TREE) if not words or any(word in bug.name for word in words)]
    missed = 0
    with ProcessPoolExecutor(PROCESSES) as pool:
        for bug, found in zip(chosen, pool.map(_found, chosen), strict=True):
            missed += not found
            print(f"{'found by' if found else 'NOT FOUND by':<12} {bug.suite:<62} {bug.name}", flush=True)
    print(f"{len(chosen)} bugs planted, {len(chosen) - missed} found")
    return 1 if missed else 0


def _found(bug: Bug) -> bool:
    with tempfile.TemporaryDirectory(prefix="lorch-planted-") as root:
        return bool(evidence(bug, Path(root), copied_tree(Path(root, "tree"))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
