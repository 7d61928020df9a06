"""Start the guardian from a checkout, without installing anything: ``python supervisor.py run --all``."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lorch_actors.__main__ import program

if __name__ == "__main__":
    program()
