"""Secrets stay out of everything that is kept or shown, and nobody else may read what is kept."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import ROLES, Bench, Ended

TOKEN = "tok3n-of-the-environment"
PASSWORD = 'pa"ss\\w\u00f6rd/of the agents'
OWN = ("lorch.json",)
"""What the user wrote, secrets included."""


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Ended]:
    """Run three agents that say their secrets wherever they can."""
    tasks: list[dict[str, Any]] = [
        {
            "id": f"T-{role}",
            "fault": "leaks_and_answers",
            "role": role,
            "goal": f"use {TOKEN}",
            "note": {TOKEN: PASSWORD},
        }
        for role in ROLES
    ]
    settings = {"env": {"AGENT_PASSWORD": PASSWORD}}
    bench = Bench.raw(tmp_path_factory.mktemp("leaky") / "w", tasks, agents=dict.fromkeys(ROLES, settings))

    def name_it_on_the_command_line(document: dict[str, Any]) -> None:
        document["agents"]["builder"]["cmd"].append(f"--token={TOKEN}")

    bench.configure(name_it_on_the_command_line)
    return bench, bench.run("run", "--all", "--on-failure", "continue", "--verbose", env={"API_TOKEN": TOKEN})


def spellings(secret: str) -> Iterator[bytes]:
    """Yield a secret as bytes: as it is, and as JSON spells it, once and within JSON."""
    for ascii_only in (False, True):
        spelled = secret
        for _ in range(3):
            yield spelled.encode()
            spelled = json.dumps(spelled, ensure_ascii=ascii_only)[1:-1]


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a decoded document, and what is JSON in it."""
    if isinstance(value, str):
        yield value
        try:
            yield from strings(json.loads(value)) if value[:1] in '{["' else ()
        except ValueError:
            yield from strings(value.encode().decode("unicode_escape", "replace")) if "\\u" in value else ()
    elif isinstance(value, dict | list):
        for member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from (text for part in member for text in strings(part))


def kept(bench: Bench) -> Iterator[Path]:
    """Yield every file that a run left."""
    yield from (path for path in bench.root.rglob("*") if path.is_file() and path.name not in OWN)


@pytest.mark.parametrize("secret", [TOKEN, PASSWORD])
def test_api_token_in_clear(leaky: tuple[Bench, Ended], secret: str) -> None:
    """It is in no file and no line of the console, however it is spelled."""
    bench, ended = leaky
    held = {path.relative_to(bench.root).as_posix(): path.read_bytes() for path in kept(bench)}
    held |= {"stdout": ended.out.encode(), "stderr": ended.err.encode()}

    assert [name for name, content in held.items() if any(spelled in content for spelled in spellings(secret))] == []


@pytest.mark.parametrize("secret", [TOKEN, PASSWORD])
def test_secret_in_decoded_documents(leaky: tuple[Bench, Ended], secret: str) -> None:
    """Nor is it in any string of any document once that is decoded, JSON in JSON included."""
    bench, _ = leaky
    found = []
    for path in kept(bench):
        if path.suffix == ".ndjson" or path.suffix == ".json":
            lines = path.read_bytes().splitlines() if path.suffix == ".ndjson" else [path.read_bytes()]
            found += [path.name for line in lines for text in strings(json.loads(line)) if secret in text]

    assert found == []


def test_secret_that_is_cut(leaky: tuple[Bench, Ended]) -> None:
    """The head of a line that is too long does not end in all of a secret but its last character."""
    bench, _ = leaky
    heads = [note["head"] for role in ROLES for note in bench.logged(role) if "head" in note]

    assert len(heads) >= 12
    assert [head for head in heads if TOKEN[:8] in head or PASSWORD[:8] in head] == []


def test_redaction_names_the_variable(leaky: tuple[Bench, Ended]) -> None:
    """Whoever reads the ledger sees which secret stood there, also in commands and in what is told of the agents."""
    bench, ended = leaky
    assert ended.code == 0, ended
    goals = {command["inputs"]["goal"] for command in bench.commands()}
    (started,) = bench.events("system.run_started")

    assert goals == {"use [redacted:API_TOKEN]"}
    assert started["payload"]["agents"]["builder"]["cmd"][-1] == "--token=[redacted:API_TOKEN]"
    assert started["payload"]["agents"]["builder"]["env"] == ["AGENT_PASSWORD"]
    assert "[redacted:AGENT_PASSWORD]" in (bench.root / "events" / f"{bench.run_ids[0]}.ndjson").read_text()


def test_secret_as_an_id_makes_the_message_invalid(leaky: tuple[Bench, Ended]) -> None:
    """It is in the log as a bad line, without the secret."""
    bench, _ = leaky
    reasons = [note.get("reason", "") for note in bench.logged("builder")]

    for name in ("API_TOKEN", "AGENT_PASSWORD"):
        told = f"the secret {name} stands outside of payload, inputs, fields and message"
        assert reasons.count(told) >= 3
    assert [line for line in bench.ledger() if line.get("message_id", "").startswith("id-")] == []


@pytest.mark.parametrize("task", [{"id": "PLATFORM-1"}, {"id": "T-1", "expected_outputs": [{"path": "src/PLATFORM"}]}])
def test_a_secret_in_what_names_things_is_refused(tmp_path: Path, task: dict[str, Any]) -> None:
    """It could neither be written down nor be replaced: the ledger would hold a name that nothing has."""
    bench = Bench.raw(tmp_path / "w", [task])

    ended = bench.run(env={"JIRA_PROJECT_KEY": "PLATFORM"})

    assert ended.code == 2
    assert "task 1: " in ended.err
    assert "the variable JIRA_PROJECT_KEY" in ended.err
    assert "PLATFORM" not in ended.err
    assert bench.run_ids == []
    assert bench.run().code in (0, 1)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_of_what_is_created(tmp_path: Path, umask: int) -> None:
    """Files are 0600 and directories 0700 whatever the umask; what others own keeps its mode."""
    bench = Bench.raw(tmp_path / "w", [{"id": "T-1", "fault": "false_once"}])
    mine = {"specs/goal.md": 0o640, "specs": 0o750, "lorch.json": 0o644, "src": 0o755}
    for name, mode in mine.items():
        (bench.root / name).chmod(mode)
    ended = bench.start(umask=umask).wait()
    assert ended.code == 0, ended

    modes = {path.relative_to(bench.root).as_posix(): mode_of(path) for path in bench.root.rglob("*")}
    ours = {name: mode for name, mode in modes.items() if name.split("/")[0] in OUR_DIRECTORIES}
    assert {name for name, mode in ours.items() if mode not in ("0600", "0700")} == set()
    assert {name for name, mode in ours.items() if (mode == "0700") != (bench.root / name).is_dir()} == set()
    assert {name.split("/")[0] for name in ours} >= {"events", "state", "receipts", "snapshots", "logs", "transcripts"}
    assert {name: modes[name] for name in mine} == {name: f"{mode:04o}" for name, mode in mine.items()}
    assert modes["src/T-1.txt"] == f"{0o666 & ~umask:04o}"


OUR_DIRECTORIES = ("events", "state", "receipts", "snapshots", "logs", "transcripts", "reviews", "spec_notes")


def mode_of(path: Path) -> str:
    """Return the permissions as one writes them."""
    return f"{stat.S_IMODE(path.lstat().st_mode):04o}"
