"""Run AI coding agents unattended over a repository's tasks, and lose nothing when anything dies.

The public Python interface is small: the idempotency key of a command, which an agent in any language may want to
recompute, and the errors. Everything else is used as ``python -m lorch_actors``.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorch_actors.errors import LorchError
    from lorch_actors.workflow.keys import idempotency_key

__version__ = "0.1.0"

__all__ = ["LorchError", "__version__", "idempotency_key"]


def __getattr__(name: str) -> object:
    """Load what is public when it is asked for: the guardian uses little, and start-up time counts."""
    if name == "idempotency_key":
        from lorch_actors.workflow.keys import idempotency_key

        return idempotency_key
    if name == "LorchError":
        from lorch_actors.errors import LorchError

        return LorchError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def leave_working_directory() -> None:
    """Find no modules in the working directory, where ``python -m`` would look first.

    It is the workspace: a `random.py` that somebody or an agent has in there must not become part of this program.
    A checkout of this program is the exception.
    """
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here) and here != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
