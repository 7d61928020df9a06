"""What the tests of real CLIs share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "runs"))  # where the bench for whole runs is
