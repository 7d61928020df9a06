"""The tests of a task: the unit tests of everything that is done, and those of this task."""

import re
import subprocess
import sys

from task import SPECIFICATION, function


def main() -> int:
    """Run the tests; return their exit code."""
    done = re.findall(r"^\| (\w+) \|.*\| done \|$", SPECIFICATION.read_text(encoding="utf-8"), re.MULTILINE)
    modules = [f"tests.test_{name}" for name in dict.fromkeys([*done, function()])]
    return subprocess.run([sys.executable, "-m", "unittest", *modules]).returncode


if __name__ == "__main__":
    sys.exit(main())
