"""The real CLIs: where they are, how they are pointed at the model server here, and what their tools are called."""

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bench import Running
from dialects import Call, Say, Step
from model_server import ModelServer

CACHE = Path(os.environ.get("LORCH_REAL_CLIS") or Path.home() / ".cache" / "lorch-real-clis")
KEY = "sk-fake-key-of-the-tests"


def program_of(name: str) -> Path:
    """Return where the program of a CLI is, if it is installed."""
    for line in Path(__file__).with_name("versions").read_text().splitlines():
        words = line.split()
        if words[:1] == [name]:
            return CACHE / f"{name}-{words[2]}" / "bin" / words[3]
    raise LookupError(name)


ACP_PYTHON = program_of("acp")
ECHO = Path(__file__).with_name("echo_agent.py")


def echo_command() -> str:
    """Return the command of the agent on ACP's own library; skip where that is not installed."""
    if not ACP_PYTHON.exists():
        pytest.skip("the ACP library is not installed: run tests/real_clis/install acp")
    return shlex.join([str(ACP_PYTHON), str(ECHO)])


@dataclass(frozen=True)
class RealCli:
    """One CLI. flags: what goes before and behind ``--`` so that it asks the server; env: what its agents need."""

    name: str
    write: Callable[[Path, str], Call]
    shell: Callable[[str], Call]
    flags: Callable[[str], list[str]] = lambda _: []
    extra: Callable[[str], list[str]] = lambda _: []
    env: Callable[[str], dict[str, str]] = lambda _: {}

    @property
    def program(self) -> Path:
        """Where its program is, if it is installed."""
        return program_of(self.name)

    def skip_unless_installed(self) -> None:
        """Skip the test where this CLI is not there."""
        if not self.program.exists():
            pytest.skip(f"{self.name} is not installed: run tests/real_clis/install {self.name}")

    def provider(self, url: str) -> list[str]:
        """Return what is to be added to an agent's command so that it asks the server."""
        extra = self.extra(url)
        return [*self.flags(url), *(["--", *extra] if extra else [])]

    def cmd(self, role: str, url: str, *flags: str) -> list[str]:
        """Return the agent's command for lorch.json."""
        own = [sys.executable, "-m", "lorch_actors.agents", self.name, "--type", role, "--program", str(self.program)]
        return [*own, "--permissions", "allow", *flags, *self.provider(url)]


def _codex_provider(url: str) -> list[str]:
    retries = "request_max_retries=1,stream_max_retries=1"
    provider = f'{{name="fake",base_url="{url}/v1",env_key="FAKE_KEY",wire_api="responses",{retries}}}'
    return ["-c", "model_provider=fake", "-c", f"model_providers.fake={provider}"]


def _opencode_provider(url: str) -> dict[str, Any]:
    options = {"baseURL": f"{url}/v1", "apiKey": KEY}
    return {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"fake-model": {}}}


CLIS = {
    "claude": RealCli(
        "claude",
        write=lambda path, content: Call("Write", {"file_path": str(path), "content": content}),
        shell=lambda command: Call("Bash", {"command": command, "description": "work"}),
        env=lambda url: {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY},
    ),
    "codex": RealCli(
        "codex",
        write=lambda path, content: Call(
            "exec_command",
            {"cmd": f"mkdir -p {path.parent} && printf %s '{content}' > {path}", "yield_time_ms": 30_000},
        ),
        shell=lambda command: Call("exec_command", {"cmd": command, "yield_time_ms": 30_000}),
        flags=lambda _: ["--model", "gpt-5"],
        extra=_codex_provider,
        env=lambda _: {"FAKE_KEY": KEY},
    ),
    "gemini": RealCli(
        "gemini",
        write=lambda path, content: Call("write_file", {"file_path": str(path), "content": content}),
        shell=lambda command: Call("run_shell_command", {"command": command, "description": "work"}),
        flags=lambda _: ["--model", "gemini-2.5-pro"],
        env=lambda url: {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": KEY},
    ),
    "opencode": RealCli(
        "opencode",
        write=lambda path, content: Call("write", {"filePath": str(path), "content": content}),
        shell=lambda command: Call("bash", {"command": command, "description": "work"}),
        flags=lambda _: ["--model", "fake/fake-model"],
        env=lambda url: {"OPENCODE_CONFIG_CONTENT": json.dumps({"provider": {"fake": _opencode_provider(url)}})},
    ),
}


@dataclass
class Model:
    """Plays builder, reviewer and spec maintainer: what to say follows from the request alone, whoever asks again.

    instead: what is said in place of the first answers to a builder, in order. changes: tasks whose first review asks
    for changes. slow: a shell command that is ordered once, before the builder's work. patience: how often, in all, a
    file is ordered that may not come to be.
    """

    cli: RealCli
    root: Path
    instead: list[Step] = field(default_factory=list)
    changes: frozenset[str] = frozenset()
    slow: str | None = None
    is_slow_ordered: bool = False
    patience: int = 20

    def __call__(self, number: int, body: dict[str, Any]) -> Step:
        """Return the answer to a request."""
        text = json.dumps(body)
        if "You are the builder" in text:
            return self._builder(text)
        task = _task(text) if "You are the reviewer" in text else ""
        if "round 1:" in text and task in self.changes:
            finding = {"what": "say more", "file": f"src/{task}.txt", "line": None}
            return Say(json.dumps({"verdict": "changes_requested", "summary": "one thing", "findings": [finding]}))
        verdict = "approved" if task else "no_changes_needed"
        return Say(json.dumps({"verdict": verdict, "summary": "fine", "findings": []}))

    def _builder(self, text: str) -> Step:
        if self.instead:
            return self.instead.pop(0)
        if self.slow is not None and not self.is_slow_ordered:
            self.is_slow_ordered = True
            return self.cli.shell(self.slow)
        task = _task(text)
        content = "more" if "asks for changes" in text else "done"
        if (path := self.root / "src" / f"{task}.txt").exists() and path.read_text() == content:
            return Say(f"{task} is done.")
        self.patience -= 1
        return self.cli.write(path, content) if self.patience >= 0 else Say("It cannot be written.")


def _task(text: str) -> str:
    found = re.search(r"Task (T-[0-9]+)[,:]", text)
    assert found is not None, text
    return found[1]


def settings(cli: RealCli, server: ModelServer, root: Path, **builder: Any) -> dict[str, Any]:
    """Return the agents of lorch.json, all of them this CLI; ``builder``: more about one of them."""
    tests = ["--tests", "sh -c 'cat src/*.txt'"]
    home = root / "home"  # whatever the tools' shells read at their start is nobody's but ours
    home.mkdir(exist_ok=True)
    env = {**cli.env(server.url), "HOME": str(home)}
    agents: dict[str, Any] = {
        role: {"cmd": cli.cmd(role, server.url, *(tests if role == "builder" else [])), "env": env}
        for role in ("builder", "reviewer", "spec_maintainer")
    }
    agents["builder"] |= builder
    return agents


@contextlib.contextmanager
def stopping(run: Running) -> Iterator[None]:
    """See to it that a run does not outlive a test that fails."""
    try:
        yield
    except BaseException:
        run.process.terminate()
        run.wait()
        raise
