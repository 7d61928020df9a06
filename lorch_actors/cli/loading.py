"""Read and change ``lorch.json`` for the commands."""

import os
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from lorch_actors.cli.place import Place
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.checking import Remark
from lorch_actors.protocol.configuration import Configuration, ConfigurationDocument, parse_configuration
from lorch_actors.storage import atomic, disk

CONFIGURATION_MAX_BYTES: Final = 64 << 20

_SET_UP: Final = "`lorch init` writes one with the commands of your project; `lorch run --demo` shows a working one."


def read_bytes(file: Path, what: str = "there is no configuration here", remedy: str = _SET_UP) -> bytes:
    """Return what the file holds. Raises `ConfigError`, with these words when it is absent."""
    if file.exists() and not file.is_file():
        raise ConfigError(
            "is not a regular file", where=str(file), remedy="Name one; what comes from a pipe, save first."
        )
    data = disk.read_file(os.path.realpath(file), CONFIGURATION_MAX_BYTES)
    if data is None:
        raise ConfigError(what, where=str(file), remedy=remedy)
    return data


def load(place: Place) -> tuple[Configuration, list[Remark]]:
    """Return the configuration and the warnings about it. Raises `ConfigError`, also when there is none."""
    return parse_configuration(read_bytes(place.config), str(place.config))


def load_or_default(place: Place) -> tuple[Configuration, list[Remark]]:
    """Return the configuration, or the defaults when there is no file; nothing is written."""
    if not place.config.exists():
        return Configuration(), []
    return load(place)


def default_document() -> dict[str, Any]:
    """Return the file as it is created: every key there is, with its default."""
    document: dict[str, Any] = msgspec.to_builtins(ConfigurationDocument())
    return document


def write(file: Path, document: dict[str, Any]) -> None:
    """Write the file, indented, atomically; an existing one keeps its mode and its place behind a link."""
    target = Path(os.path.realpath(file))
    mode = stat.S_IMODE(os.stat(target).st_mode) if target.exists() else None
    atomic.write_atomic(target, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if mode is not None:
        os.chmod(target, mode)
