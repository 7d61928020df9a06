"""Run AI coding agents unattended over a repository's tasks, and lose nothing when anything dies.

The public Python interface is small: the idempotency key of a command, which an agent in any language may want to
recompute, and the errors. Everything else is used as ``python -m lorch_actors``.
"""

from typing import TYPE_CHECKING

from lorch_actors.errors import LorchError

if TYPE_CHECKING:
    from lorch_actors.workflow.keys import idempotency_key

__version__ = "0.1.0"

__all__ = ["LorchError", "__version__", "idempotency_key"]


def __getattr__(name: str) -> object:
    """Load what needs third-party packages only when it is asked for: the guardian uses the standard library alone."""
    if name == "idempotency_key":
        from lorch_actors.workflow.keys import idempotency_key

        return idempotency_key
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
