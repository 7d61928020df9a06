"""Printing: results on stdout, prose around them, errors on stderr.

With ``--json`` stdout carries the machine-readable result and nothing else, prose goes to stderr. Text that comes from
agents or files is shown with its control characters made visible. Colour is used on a terminal only, and not when
``NO_COLOR`` is set to anything.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from lorch_actors.errors import ExitCode, LorchError

if TYPE_CHECKING:
    from msgspec import Struct

_CONTROL: Final = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
_NAMES: Final[Mapping[int, str]] = {1: "standard output", 2: "standard error"}
_COLOURS: Final[Mapping[str, int]] = {
    "completed": 32,
    "ok": 32,
    "failed": 31,
    "wrong": 31,
    "running": 33,
    "aborted": 31,
}


def visible(text: str) -> str:
    """Return the text with control characters, tab and newline apart, written as escapes instead of taking effect."""
    return re.sub(_CONTROL, lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str, limit_chars: int = 200) -> str:
    """Return the text on one line, visible, and cut to the limit with an ellipsis."""
    joined = " ".join(visible(text).split())
    return joined if len(joined) <= limit_chars else f"{joined[: limit_chars - 1]}…"


class Output(NamedTuple):
    """Where a command prints to. json, quiet, verbose: the flags of that name."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, document: "Struct", text: str) -> None:
        """Print what was asked for: the document with --json, else the text, if there is any."""
        if self.json:
            self.raw_json(document)
        elif text:
            _write(sys.stdout, _coloured(text, sys.stdout))

    def raw_json(self, value: object) -> None:
        """Print any value as one line of JSON."""
        import msgspec

        _write(sys.stdout, msgspec.json.encode(value).decode())

    def raw(self, text: str) -> None:
        """Print a text that was asked for, as it is."""
        _write(sys.stdout, text)

    def say(self, text: str) -> None:
        """Print a remark, unless --quiet; on stderr with --json."""
        if not self.quiet:
            _write(sys.stderr if self.json else sys.stdout, text)

    def warn(self, text: str) -> None:
        """Print a warning on stderr."""
        _write(sys.stderr, f"lorch: {text}")


def print_error(error: LorchError, code: ExitCode, *, json: bool) -> None:
    """Print an error on stderr, and as a document on stdout with --json; code is what the process ends with."""
    where = f"{visible(error.where)}: " if error.where else ""
    remedy = f"\n  {visible(error.remedy)}" if error.remedy else ""
    _write(sys.stderr, f"lorch: {where}{visible(error.what)}{remedy}")
    if json:
        from lorch_actors.cli.documents import ErrorDocument

        Output(json=True).raw_json(ErrorDocument.of(error, code))


def _coloured(text: str, stream: IO[str]) -> str:
    """Colour the words that say how something stands, when a person is looking."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    words = re.compile(rf"\b({'|'.join(_COLOURS)})\b")
    return words.sub(lambda found: f"\x1b[{_COLOURS[found[1]]}m{found[1]}\x1b[0m", text)


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text if text.endswith("\n") else f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(stream, error) from error


def unwritable(stream: IO[str], error: OSError) -> LorchError:
    """Return what is to be said when a standard stream takes nothing; whatever is left to be written vanishes."""
    discard(stream)  # what it holds back would fail once more at the end of the interpreter
    from lorch_actors.storage.disk import storage_error

    return storage_error("write", _NAMES.get(stream.fileno(), "the output"), error)


def discard(stream: IO[str]) -> None:
    """Let everything that is still written to a standard stream vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
