"""The program as chaos runs it: ``python -m lorch_actors`` with one addition.

The conductor is no process, and cannot be killed from outside. Here SIGUSR1 makes it crash: its next message
raises instead of being handled, which is how a bug in it would look. Nothing of this is in the program itself.
"""

import signal
import sys
from typing import Any

from lorch_actors.__main__ import main


class MadeToCrash(Exception):  # noqa: N818 - it says what happened
    """What a conductor dies of that chaos has chosen."""


def crash_conductor(_number: int, _frame: object) -> None:
    """Have the conductor raise at its next message. Does nothing where no conductor is, as in the guardian."""
    module: Any = sys.modules.get("lorch_actors.actors.conductor")
    if module is None or hasattr(module.Conductor.receive, "whole"):
        return
    whole = module.Conductor.receive

    def receive(_conductor: object, _message: object) -> None:
        module.Conductor.receive = whole
        raise MadeToCrash("chaos made it crash")

    receive.whole = whole  # type: ignore[attr-defined]
    module.Conductor.receive = receive


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, crash_conductor)
    sys.exit(main())
