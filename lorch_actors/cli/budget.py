"""``--budget KEY=AMOUNT`` of `run` and `resume`: what may be spent."""

from typing import TYPE_CHECKING, Final

from lorch_actors.errors import UsageError

if TYPE_CHECKING:
    from lorch_actors.protocol.configuration import Configuration

KEYS: Final = ("usd", "tokens", "wall_s", "task.usd", "task.tokens", "task.wall_s")
"""The amounts, as they are named below ``policy.budget``."""


def amounts(words: tuple[str, ...]) -> dict[str, float | None]:
    """Return what the options say, by key; None for ``none``, no limit. Raises `UsageError`."""
    found: dict[str, float | None] = {}
    for word in words:
        key, _, amount = word.partition("=")
        if key not in KEYS:
            from lorch_actors.protocol.checking import did_you_mean

            what = f"there is no budget {key!r}{did_you_mean(key, list(KEYS))}"
            raise UsageError(what, where=f"--budget {word}", remedy=f"There are {', '.join(KEYS)}.")
        try:
            found[key] = None if amount == "none" else float(amount)
        except ValueError:
            raise UsageError(
                f"{amount!r} is no amount", where=f"--budget {word}", remedy=f"Say a number, or `--budget {key}=none`."
            ) from None
    return found


def with_budget(configuration: "Configuration", words: tuple[str, ...]) -> "Configuration":
    """Return the configuration with what the options say. Raises `UsageError`, `ConfigError`."""
    if not words:
        return configuration
    from msgspec.structs import replace

    from lorch_actors.protocol.configuration import with_amounts

    budget = with_amounts(configuration.policy.budget, amounts(words))
    return replace(configuration, policy=replace(configuration.policy, budget=budget))
