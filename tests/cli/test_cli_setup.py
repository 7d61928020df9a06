"""`init`, `doctor`, `snapshot`, `verify` and `rebuild`: a workspace is set up, examined and checked."""

import json
import shutil
import stat
from pathlib import Path

import jsonschema
import pytest
from cli_driving import Lorch

from lorch_actors.errors import ExitCode
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY


def conforms(name: str, document: object) -> bool:
    """Tell whether a document fits the schema of that name."""
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())
    return jsonschema.Draft202012Validator(schema).is_valid(document)


def test_init_makes_agents_of_commands(lorch: Lorch, workspace: Path):
    """The file is valid, for its owner only, and its agents can be found."""
    printed = lorch("init", "--build", "make 'a b'", "--tests", "make test", "--review", "make check", "--json")

    agents = json.loads((workspace / "lorch.json").read_text())["agents"]
    assert conforms("cli-init", printed.json)
    assert agents["builder"]["cmd"][-4:] == ["--on", "implement=make 'a b'", "--tests", "make test"]
    assert agents["reviewer"]["cmd"][-1] == "review=make check"
    assert agents["spec_maintainer"]["cmd"][-1] == "update_spec=true"
    assert stat.S_IMODE((workspace / "lorch.json").stat().st_mode) == 0o600
    assert lorch("validate", "--strict").code == ExitCode.DONE
    assert lorch("doctor").code == ExitCode.DONE


def test_init_says_what_nothing_checks(lorch: Lorch):
    """A reviewer that approves everything is no secret."""
    assert "Nothing checks the work of: review, spec" in lorch("init", "--build", "x", "--tests", "y").out


def test_init_mock_needs_no_commands(lorch: Lorch, workspace: Path):
    """To see the loop go round."""
    lorch("init", "--mock")

    agents = json.loads((workspace / "lorch.json").read_text())["agents"]
    assert agents["reviewer"]["cmd"][1:] == ["-m", "lorch_actors.agents", "mockagent", "--type", "reviewer"]


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["init"], "no command is given that implements a task"),
        (["init", "--mock", "--build", "x"], "--mock does not go with commands"),
        (["init", "--build", "make 'a"], "No closing quotation"),
        (["init", "--build", "x", "--workspace", "nowhere"], "there is no such directory"),
    ],
)
def test_init_refuses_what_makes_no_agents(
    lorch: Lorch, workspace: Path, argv: list[str], what: str, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 2, nothing written."""
    monkeypatch.setenv("PATH", str(workspace))
    printed = lorch(*argv)

    assert printed.code == ExitCode.USAGE
    assert what in printed.err
    assert list(workspace.iterdir()) == []


def test_init_does_not_overwrite_without_force(lorch: Lorch, configured: Path):
    """With it, the agents are replaced and the tasks stay."""
    assert lorch("init", "--mock").code == ExitCode.USAGE
    assert lorch("init", "--mock", "--force").code == ExitCode.DONE

    document = json.loads(configured.read_text())
    assert [task["id"] for task in document["tasks"]] == ["T-1", "T-2"]
    assert "mockagent" in document["agents"]["builder"]["cmd"]


def test_init_says_what_is_still_missing(lorch: Lorch, configured: Path):
    """Tasks that are there need not be added."""
    assert lorch("init", "--mock", "--force").out.endswith("Next: `lorch run --all`.\n")

    configured.write_text("{}")
    assert "Next: add tasks to it" in lorch("init", "--mock").out


def test_init_fills_a_file_without_agents(lorch: Lorch, workspace: Path):
    """Such as `run` makes when there is none."""
    (workspace / "lorch.json").write_text('{"policy": {"max_rounds": 3}}')

    assert lorch("init", "--mock").code == ExitCode.DONE
    assert json.loads((workspace / "lorch.json").read_text())["policy"] == {"max_rounds": 3}


def test_doctor_finds_a_missing_agent_command(lorch: Lorch, configured: Path):
    """Exit code 1, with what to do."""
    document = json.loads(configured.read_text())
    document["agents"]["reviewer"]["cmd"] = ["./no-such-program"]
    configured.write_text(json.dumps(document))

    printed = lorch("doctor", "--json")

    assert printed.code == ExitCode.FAILED
    assert conforms("cli-doctor", printed.json)
    assert [line["check"] for line in printed.json["checks"] if line["ok"] is False] == ["reviewer"]
    assert "is not there or not executable" in lorch("doctor").out


def test_doctor_looks_for_programs_below_the_workspace(lorch: Lorch, configured: Path, workspace: Path):
    """Where agents are started, wherever the user stands."""
    shutil.copy("/bin/true", workspace / "agent")
    document = json.loads(configured.read_text())
    document["agents"]["reviewer"]["cmd"] = ["./agent"]
    configured.write_text(json.dumps(document))

    assert lorch("doctor", "--workspace", str(workspace)).code == ExitCode.DONE


def test_doctor_looks_for_what_an_exec_agent_runs(lorch: Lorch, workspace: Path):
    """A script that is not executable is found before the night, not in it."""
    (workspace / "build.sh").write_text("#!/bin/sh\n")
    assert lorch("init", "--build", "./build.sh", "--tests", "true").code == ExitCode.DONE
    before = lorch("doctor")
    (workspace / "build.sh").chmod(0o755)

    assert before.code == ExitCode.FAILED
    assert "'./build.sh' is not there or not executable" in before.out
    assert lorch("doctor").code == ExitCode.DONE


def test_doctor_tells_leftovers(lorch: Lorch, configured: Path, workspace: Path):
    """They are harmless, and signs of earlier deaths."""
    (workspace / "state").mkdir()
    (workspace / "state" / ".run.json.tmp.1.0a0b0c0d").write_text("")

    printed = lorch("doctor")

    assert printed.code == ExitCode.DONE
    assert "1 of earlier deaths, harmless: state/.run.json.tmp.1.0a0b0c0d" in printed.out


def test_a_snapshot_tells_what_changed_since_the_last(lorch: Lorch, workspace: Path):
    """And the same tree has the same id."""
    (workspace / "src").mkdir()
    (workspace / "src" / "a.py").write_text("one")
    first = lorch("snapshot", "--json").json
    again = lorch("snapshot", "--json").json
    (workspace / "src" / "a.py").write_text("two")
    (workspace / "src" / "b.py").write_text("new")
    third = lorch("snapshot", "--json").json

    assert conforms("cli-snapshot", third)
    assert (first["files"], first["size_bytes"], first["changes"]) == (1, 3, None)
    assert (again["snapshot_id"], again["changes"]["changed"]) == (first["snapshot_id"], [])
    assert third["changes"] == {
        "since": first["snapshot_id"],
        "added": ["src/b.py"],
        "changed": ["src/a.py"],
        "removed": [],
    }


def test_a_snapshot_of_a_tree_seen_before_tells_the_changes_too(lorch: Lorch, workspace: Path):
    """Going back is a change like any other."""
    file = workspace / "src" / "a.py"
    file.parent.mkdir()
    file.write_text("one")
    first = lorch("snapshot", "--json").json
    file.write_text("two")
    second = lorch("snapshot", "--json").json
    file.write_text("one")
    third = lorch("snapshot", "--json").json
    fourth = lorch("snapshot", "--json").json

    assert fourth["changes"]["changed"] == []
    assert third["snapshot_id"] == first["snapshot_id"]
    assert (third["changes"]["since"], third["changes"]["changed"]) == (second["snapshot_id"], ["src/a.py"])


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_a_workspace_without_runs_has_nothing_to_check(lorch: Lorch, command: str):
    """Most likely another one was meant."""
    printed = lorch(command)

    assert printed.code == ExitCode.USAGE
    assert "there are no runs in this workspace" in printed.err


@pytest.fixture
def ledger(workspace: Path) -> Path:
    """Put an empty ledger there, for its owner only."""
    file = workspace / "events" / "run-1.ndjson"
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    return file


def test_verify_names_what_is_broken(lorch: Lorch, ledger: Path):
    """Exit code 1 with check and place; 0 when all is well."""
    assert lorch("verify").code == ExitCode.DONE
    ledger.chmod(0o644)
    printed = lorch("verify", "--json")

    assert printed.code == ExitCode.FAILED
    assert conforms("cli-verify", printed.json)
    assert [finding["check"] for finding in printed.json["findings"]] == ["modes"]
    assert str(ledger) in lorch("verify").out


def test_verify_lists_its_checks(lorch: Lorch):
    """Also where there is nothing to check."""
    assert conforms("cli-checks", lorch("verify", "--list", "--json").json)
    assert "ledger-chain\n" in lorch("verify", "--list").out


def test_rebuild_tells_what_it_wrote(lorch: Lorch, ledger: Path):
    """Relative to the workspace."""
    printed = lorch("rebuild", "--json")

    assert conforms("cli-rebuild", printed.json)
    assert "transcripts/run-1.txt" in printed.json["written"]
