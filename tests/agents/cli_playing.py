"""A foreign CLI made of shell, that plays turns in the shape of a real one's stream; and an adapter around it."""

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from agent_driving import Driven, driven


def stream(*events: dict[str, Any], before: str = "", exit_code: int = 0) -> str:
    """Return the shell text of a turn: something done, then these events printed, then its end."""
    lines = "\n".join(json.dumps(event) for event in events)
    return f"{before}\ncat <<'EVENTS'\n{lines}\nEVENTS\nexit {exit_code}"


class Cli:
    """The CLI's program, what it does in which turn, and what it was told. The last turn repeats."""

    def __init__(self, directory: Path, *turns: str) -> None:
        self.directory = directory
        self.program = directory / "cli"
        directory.mkdir()
        cases = "".join(f"{number}) {text}\n;;\n" for number, text in enumerate(turns, 1))
        head = f"""#!/bin/sh
cd {directory}; turn=$(($(cat turn 2>/dev/null || echo 0) + 1)); echo $turn > turn
printf '%s\\n' "$@" > arguments-$turn; env > environment-$turn; cat > prompt-$turn; cd "$OLDPWD"
test $turn -gt {len(turns)} && turn={len(turns)}
case $turn in
"""
        self.program.write_text(f"{head}{cases}esac\n")
        self.program.chmod(0o700)

    def told(self, turn: int) -> str:
        """Return the prompt of a turn."""
        return (self.directory / f"prompt-{turn}").read_text()

    def arguments(self, turn: int) -> list[str]:
        """Return the arguments of a turn."""
        return (self.directory / f"arguments-{turn}").read_text().splitlines()

    def environment(self, turn: int) -> dict[str, str]:
        """Return the environment of a turn."""
        lines = (self.directory / f"environment-{turn}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    @property
    def turns(self) -> int:
        """How many turns there were."""
        return int((self.directory / "turn").read_text())


def adapted(cli: Cli, workspace: Path, name: str, role: str, *flags: str, **env: str) -> AbstractContextManager[Driven]:
    """Start an adapter around a played CLI, without heartbeats."""
    (workspace / "src").mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "lorch_actors.agents", name, "--type", role, "--program", str(cli.program)]
    return driven([*argv, "--heartbeat-interval-s", "0", *flags], workspace, **env)


CODEX_SESSION = "019a-thread"


def codex_done(answer: str, before: str = "", tokens: int = 11) -> str:
    """Return a turn of Codex that goes well."""
    return stream(
        {"type": "thread.started", "thread_id": CODEX_SESSION},
        {"type": "turn.started"},
        {"type": "item.completed", "item": {"id": "item_1", "type": "agent_message", "text": answer}},
        {"type": "turn.completed", "usage": {"input_tokens": tokens, "cached_input_tokens": 0, "output_tokens": 7}},
        before=before,
    )


def codex_failed(message: str, exit_code: int = 1) -> str:
    """Return a turn of Codex that fails."""
    return stream(
        {"type": "thread.started", "thread_id": CODEX_SESSION},
        {"type": "error", "message": message},
        {"type": "turn.failed", "error": {"message": message}},
        exit_code=exit_code,
    )
