"""What the tests of this room share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "crash"))  # where bugs are planted
