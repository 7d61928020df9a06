"""The program: ``python -m lorch_actors``, or ``lorch``.

A run is put under the guardian; everything else is carried out here and now.
"""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from lorch_actors import leave_working_directory

if TYPE_CHECKING:
    from lorch_actors.errors import LorchError
    from lorch_actors.guardian.link import GuardianLink

GARBAGE_THRESHOLD: Final = 50_000
"""New objects between two looks for cycles; 700 is the default, and imports alone would cause a hundred looks."""


def program() -> NoReturn:
    """Carry out the command line of this process and end it, its memory left to the kernel.

    An interpreter that ends takes itself apart object by object, which is a tenth of what a short command costs; all
    that is to be kept was written and synced by whoever wrote it.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line (without the program's name; that of this process by default); return the exit code."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # before anybody was there to take it
        from lorch_actors.errors import ExitCode
        from lorch_actors.guardian import console

        console.notice("aborted")
        return ExitCode.DECLINED


def _main(arguments: list[str]) -> int:
    leave_working_directory()
    gc.set_threshold(GARBAGE_THRESHOLD)
    from lorch_actors.cli.routing import route

    if not route(arguments).orchestrated:
        from lorch_actors.cli import app

        return app.main(arguments)
    from lorch_actors.guardian import guard

    return guard(arguments, _orchestrate, show=lambda error: _show(error, as_json="--json" in arguments))


def _orchestrate(argv: Sequence[str], link: "GuardianLink") -> int:
    from lorch_actors.cli import app

    return app.orchestrate(argv, link)


def _show(error: "LorchError", *, as_json: bool) -> None:
    from lorch_actors.cli.output import print_error
    from lorch_actors.guardian import console

    try:
        print_error(error, error.exit_code, json=as_json)
    except (OSError, ValueError, AttributeError):  # nobody reads standard output, or there is none
        console.notice(str(error))
        console.discard()


if __name__ == "__main__":
    program()
