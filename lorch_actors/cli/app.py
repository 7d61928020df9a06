"""The command line: which commands there are, how they are called, and how their errors are shown.

Each command is loaded only when it is called: start-up time is a feature. User errors are one message on stderr and an
exit code of `ExitCode`, never a traceback; any other exception is a bug and leaves `main` as it is.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import click

from lorch_actors import __version__
from lorch_actors.cli.options import global_options
from lorch_actors.cli.output import discard, print_error, unwritable
from lorch_actors.cli.routing import COMMANDS, route
from lorch_actors.errors import ExitCode, InterruptedRun, LorchError, UsageError

_CONSOLE_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What click's own words may meet, which pass our `Output` by: every other call is made where its errors are told."""

_MODULES: Final = {
    "run": "run",
    "resume": "run",
    "status": "status",
    "runs": "status",
    "approve": "approvals",
    "deny": "approvals",
    "show": "show",
    "transcript": "show",
    "snapshot": "files",
    "verify": "files",
    "rebuild": "files",
    "init": "init",
    "config": "config",
    "validate": "config",
    "doctor": "doctor",
    "mockagent": "mockagent",
    "chaos": "chaos",
}


class _Commands(click.Group):
    """A group that knows the names of its commands and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"lorch_actors.cli.{_MODULES[cmd_name]}"), f"{cmd_name}_command")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            from lorch_actors.protocol.checking import did_you_mean

            raise UsageError(
                f"there is no command {args[0]!r}{did_you_mean(args[0], list(COMMANDS))}",
                remedy="`lorch --help` lists the commands.",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, prog_name="lorch")
@global_options
def commands() -> None:
    """Run AI coding agents unattended over the tasks of a repository, and lose nothing when anything dies.

    Without a command, `run` is meant. Every command explains itself: lorch COMMAND --help.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out any command but `run` and `resume`, which only explain themselves here; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(arguments, lambda: _invoke(list(route(arguments).argv), None))


def orchestrate(argv: Sequence[str], link: Any) -> int:
    """Carry out `run` or `resume` in the orchestrator process; return the exit code.

    link: the orchestrator's end of the pipe to the guardian, handed through to `run_orchestrator`.
    """
    arguments = list(argv)

    def carry_out() -> int:
        try:
            return _invoke(list(route(arguments).argv), link)
        except KeyboardInterrupt as error:
            remedy = "`lorch resume` goes on with a run that has begun."
            raise InterruptedRun("stopped by Ctrl-C", remedy=remedy) from error

    return _guarded(arguments, carry_out)


def _invoke(argv: list[str], link: Any) -> int:
    # not `commands.main`: it turns a reader that has gone into exit code 1
    with commands.make_context("lorch", argv, obj=link) as context:
        code = commands.invoke(context)
    return code if isinstance(code, int) else ExitCode.DONE


def _guarded(argv: list[str], call: Callable[[], int]) -> int:
    """Turn what users can cause into one message and an exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # a name that the console's encoding cannot express must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(call())
    except BrokenPipeError:
        # whoever read our output has gone; nothing more may be written, not even at interpreter shutdown
        discard(sys.stdout)
        return ExitCode.DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _shown(argv, LorchError("aborted"), ExitCode.DECLINED)
    except click.ClickException as error:
        return _shown(argv, _usage_error(error), ExitCode.USAGE)
    except LorchError as error:
        return _shown(argv, error, error.exit_code)
    except OSError as error:
        if error.errno not in _CONSOLE_ERRORS or error.filename is not None:
            raise
        told = unwritable(sys.stdout, error)
        return _shown(argv, told, told.exit_code)


def _open_closed_streams() -> None:
    """Open what is closed of the standard streams, so that no file of ours takes its place and is printed into."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def _shown(argv: list[str], error: LorchError, code: ExitCode) -> int:
    try:
        print_error(error, code, json="--json" in argv)
    except BrokenPipeError:
        discard(sys.stdout)
    except LorchError as unsaid:  # the error itself stands on stderr, its document could not be written
        with contextlib.suppress(LorchError, OSError):
            print_error(unsaid, unsaid.exit_code, json=False)
    return code


def _usage_error(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else "lorch"
    text = error.format_message()
    return UsageError(f"{text[:1].lower()}{text[1:].rstrip('.')}", remedy=f"`{path} --help` tells what it takes.")
