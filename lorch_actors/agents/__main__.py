"""``lorch-agent NAME …``: start one of the built-in agents."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from lorch_actors import leave_working_directory


def _mockagent(arguments: Sequence[str]) -> int:
    from lorch_actors.agents.mockagent import main

    return main(arguments)


def _exec(arguments: Sequence[str]) -> int:
    from lorch_actors.agents.exec import main

    return main(arguments)


def _adapter(name: str, arguments: Sequence[str]) -> int:
    from lorch_actors.agents.adapters.command import main

    return main(name, arguments)


ADAPTERS: Final = ("claude", "codex", "gemini", "opencode", "acp")
"""Agents that are somebody else's coding-agent CLI."""

AGENTS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "mockagent": _mockagent,
    "exec": _exec,
    **{name: partial(_adapter, name) for name in ADAPTERS},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent that is named first, with the rest of the arguments; return its exit code."""
    leave_working_directory()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in AGENTS:
        return AGENTS[name](arguments[1:])
    usage = f"usage: lorch-agent {{{','.join(AGENTS)}}} …\nEach of them explains itself with --help."
    if name in {"-h", "--help"}:
        print(usage)
        return 0 if arguments else 2
    print(f"lorch-agent: there is no agent {name!r}\n{usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
