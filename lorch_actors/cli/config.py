"""`config` and `validate`: read, change and judge ``lorch.json``."""

import os
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from lorch_actors.cli.loading import default_document, load, load_or_default, read_bytes, write
from lorch_actors.cli.options import global_options, output, place
from lorch_actors.errors import ConfigError, ExitCode, LorchError, UsageError
from lorch_actors.protocol.checking import did_you_mean
from lorch_actors.protocol.configuration import DEFAULT_TIMEOUTS_S, check_configuration, parse_configuration
from lorch_actors.protocol.messages import ROLE_OF_ACTION

if TYPE_CHECKING:
    from lorch_actors.cli.place import Place
    from lorch_actors.protocol.configuration import Configuration

EDITS_MAX: Final = 20


@click.group("config")
@global_options
def config_command() -> None:
    """Read and change lorch.json; a key is named like policy.retry.max_attempts."""


@config_command.command("show")
@global_options
def show() -> None:
    """Print the whole configuration in force, defaults included; values of secret variables are left out."""
    configuration, _ = load_or_default(place())
    _print(in_force(configuration))


@config_command.command("get")
@click.argument("key")
@global_options
def get(key: str) -> None:
    """Print the value in force of one key."""
    configuration, _ = load_or_default(place())
    value: Any = in_force(configuration)
    for part in _parts(key):
        value = _member(value, part, key)
    _print(value)


@config_command.command("set")
@click.argument("key")
@click.argument("value")
@global_options
def set_value(key: str, value: str) -> None:
    """Change one key. VALUE is JSON, or else taken as text; an invalid one changes nothing."""
    where = place()
    document = _document(where)
    parts = _parts(key)
    _member_of_known(parts, key)
    target = document
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(
                f"{part!r} in {key!r} is no object", where=str(where.config), remedy="See `lorch config show`."
            )
    target[parts[-1]] = _value(value)
    parse_configuration(msgspec.json.encode(document), str(where.config))
    write(where.config, document)
    output().say(f"{where.config}: {key} is {msgspec.json.encode(target[parts[-1]]).decode()}")


@config_command.command("edit")
@global_options
def edit() -> None:
    """Open lorch.json in $VISUAL or $EDITOR; it is replaced only by a file without errors."""
    where = place()
    text = read_bytes(where.config).decode(errors="replace")
    for _ in range(EDITS_MAX):
        edited = click.edit(text, extension=".json")
        if edited is None or edited == text:
            output().say("Nothing was changed.")
            return
        try:
            parse_configuration(edited.encode(), str(where.config))
        except ConfigError as error:
            output().warn(str(error))
            text = edited
        else:
            write(where.config, msgspec.json.decode(edited))
            output().say(f"{where.config} is changed.")
            return
        if not click.confirm("Edit again?", default=True, err=True):
            break
    raise _Declined("the edited configuration has errors and was thrown away", where=str(where.config))


class _Declined(LorchError):  # noqa: N818 - the user says so
    exit_code = ExitCode.DECLINED


@click.command("validate")
@click.option("--strict", is_flag=True, help="Take warnings as errors.")
@global_options
def validate_command(*, strict: bool) -> int:
    """Check lorch.json and tell everything that is wrong with it at once."""
    from lorch_actors.cli.documents import RemarkLine, ValidateDocument

    where = place()
    _, errors, warnings = check_configuration(read_bytes(where.config))
    if strict:
        errors, warnings = errors + warnings, []
    document = ValidateDocument(
        ok=not errors,
        config=str(where.config),
        errors=[RemarkLine(path=one.path, what=one.what) for one in errors],
        warnings=[RemarkLine(path=one.path, what=one.what) for one in warnings],
    )
    lines = [f"{one.path}: {one.what}" for one in document.errors]
    lines += [f"{one.path}: {one.what} (warning)" for one in document.warnings]
    lines.append(f"{where.config}: {len(errors)} errors" if errors else f"{where.config}: fine")
    output().result(document, "\n".join(lines))
    return ExitCode.USAGE if errors else ExitCode.DONE


def in_force(configuration: "Configuration") -> dict[str, Any]:
    """Return the configuration with its defaults as a JSON object that may be shown: without the values of secrets."""
    from lorch_actors.protocol.redaction import Redactor

    document: dict[str, Any] = msgspec.to_builtins(configuration)
    document["tasks"] = [_task(task) for task in document["tasks"]]
    for role, agent in document["agents"].items():
        usual = {action: DEFAULT_TIMEOUTS_S[action] for action, whose in ROLE_OF_ACTION.items() if whose == role}
        agent["timeouts_s"] = usual | agent["timeouts_s"]
        hide = Redactor(agent["env"], dict(os.environ))
        agent["env"] = {name: hide.text(value) for name, value in agent["env"].items()}
    return document


def _task(task: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in task.items() if key not in {"id", "inputs"}}
    return {"id": task["id"], **task["inputs"], **rest}


def _parts(key: str) -> list[str]:
    parts = key.removeprefix("$.").split(".")
    if not all(parts):
        raise UsageError(f"{key!r} names no key", remedy="A key is named like policy.retry.max_attempts.")
    return parts


def _member(value: Any, part: str, key: str) -> Any:
    if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
        return value[int(part)]
    if isinstance(value, dict) and part in value:
        return value[part]
    known = list(value) if isinstance(value, dict) else []
    raise UsageError(
        f"there is no key {key!r}: nothing is called {part!r}{did_you_mean(part, known)}",
        remedy="`lorch config show` prints every key.",
    )


def _member_of_known(parts: list[str], key: str) -> None:
    """Refuse a key that the configuration does not have; what is below env and timeouts_s is free."""
    value: Any = default_document()
    for part in parts:
        if isinstance(value, dict) and not value:
            return
        value = _member(value, part, key)


def _document(where: "Place") -> dict[str, Any]:
    """Return the file as it stands, after a check; the defaults when there is none."""
    if not where.config.exists():
        return default_document()
    load(where)
    document: dict[str, Any] = msgspec.json.decode(read_bytes(where.config))
    return document


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _print(value: Any) -> None:
    if output().json:
        output().raw_json(value)
    else:
        text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        output().raw(text)
