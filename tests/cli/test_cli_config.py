"""`config` and `validate`: lorch.json is shown, changed only into something valid, and judged."""

import json
import stat
from pathlib import Path

import click
import pytest
from cli_driving import Lorch

from lorch_actors.errors import ExitCode


def test_show_prints_the_defaults_where_there_is_no_file(lorch: Lorch, workspace: Path):
    """And writes none."""
    shown = lorch("config", "show", "--json").json

    assert shown["policy"]["max_rounds"] == 10
    assert shown["agents"]["reviewer"]["timeouts_s"] == {"review": 300}
    assert list(workspace.iterdir()) == []


def test_show_keeps_secrets_to_itself(lorch: Lorch, workspace: Path):
    """A configuration is pasted into bug reports."""
    env = {"API_TOKEN": "hush-hush-hush", "MODE": "fast"}
    (workspace / "lorch.json").write_text(json.dumps({"agents": {"builder": {"env": env}}}))

    shown = lorch("config", "show").out

    assert "hush" not in shown
    assert "[redacted:API_TOKEN]" in shown
    assert "fast" in shown


def test_show_prints_tasks_as_they_are_written(lorch: Lorch, configured: Path):
    """Their further keys included."""
    assert lorch("config", "get", "tasks.0", "--json").json == {
        "id": "T-1",
        "goal": "one",
        "title": "First",
        "priority": 0,
        "expected_outputs": [],
    }


@pytest.mark.parametrize(
    ("key", "printed"), [("policy.git", "commit\n"), ("policy.retry.max_attempts", "3\n"), ("snapshot.exclude", "[]\n")]
)
def test_get_prints_the_value_in_force(lorch: Lorch, key: str, printed: str):
    """Texts without quotes, everything else as JSON."""
    assert lorch("config", "get", key).out == printed


def test_get_of_an_unknown_key_guesses(lorch: Lorch):
    """Exit code 2."""
    printed = lorch("config", "get", "policy.max_round")

    assert printed.code == ExitCode.USAGE
    assert "did you mean max_rounds?" in printed.err


def test_set_changes_one_key_and_keeps_the_rest(lorch: Lorch, workspace: Path):
    """Comments of the user's survive, and so does the mode of the file."""
    file = workspace / "lorch.json"
    file.write_text('{"_note": "mine", "policy": {"max_rounds": 3}}')
    file.chmod(0o640)

    assert lorch("config", "set", "policy.test_rounds", "5").code == ExitCode.DONE
    assert json.loads(file.read_text()) == {"_note": "mine", "policy": {"max_rounds": 3, "test_rounds": 5}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_set_follows_a_link(lorch: Lorch, workspace: Path, tmp_path: Path):
    """A configuration kept elsewhere stays there."""
    real = tmp_path / "real.json"
    real.write_text("{}")
    (workspace / "lorch.json").symlink_to(real)

    lorch("config", "set", "policy.git", "off")

    assert (workspace / "lorch.json").is_symlink()
    assert json.loads(real.read_text()) == {"policy": {"git": "off"}}


@pytest.mark.parametrize(
    ("key", "value"),
    [("policy.max_rounds", "0"), ("policy.max_round", "3"), ("version", "9"), ("policy", "3"), ("a..b", "1")],
)
def test_set_refuses_what_would_be_wrong_and_changes_nothing(lorch: Lorch, configured: Path, key: str, value: str):
    """The file is judged before it is written."""
    before = configured.read_bytes()

    assert lorch("config", "set", key, value).code == ExitCode.USAGE
    assert configured.read_bytes() == before


def test_set_creates_the_file_for_its_owner_only(lorch: Lorch, workspace: Path):
    """0600, with every key there to be changed."""
    lorch("config", "set", "agents.builder.env.API_TOKEN", "x")

    file = workspace / "lorch.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["agents"]["builder"]["env"] == {"API_TOKEN": "x"}


def test_edit_replaces_the_file_by_a_valid_one(lorch: Lorch, configured: Path, monkeypatch: pytest.MonkeyPatch):
    """What the editor leaves is what counts."""
    monkeypatch.setattr(click, "edit", lambda text, extension: '{"policy": {"max_rounds": 4}}')

    assert lorch("config", "edit").code == ExitCode.DONE
    assert json.loads(configured.read_text()) == {"policy": {"max_rounds": 4}}


def test_edit_throws_an_invalid_file_away_when_the_user_gives_up(
    lorch: Lorch, configured: Path, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 4, and nothing changed."""
    before = configured.read_bytes()
    monkeypatch.setattr(click, "edit", lambda text, extension: "{")
    monkeypatch.setattr(click, "confirm", lambda *args, **kwargs: False)

    printed = lorch("config", "edit")

    assert printed.code == ExitCode.DECLINED
    assert "is not JSON" in printed.err
    assert configured.read_bytes() == before


def test_validate_tells_all_errors_at_once(lorch: Lorch, workspace: Path):
    """As text and as a document."""
    (workspace / "lorch.json").write_text('{"policy": {"concurrency": 2, "max_rounds": "x"}}')

    printed = lorch("validate", "--json")

    assert printed.code == ExitCode.USAGE
    assert [error["path"] for error in printed.json["errors"]] == ["$.policy.concurrency", "$.policy.max_rounds"]
    assert "$.policy.concurrency: 2 is not allowed" in lorch("validate").out


def test_validate_strict_takes_warnings_as_errors(lorch: Lorch, workspace: Path):
    """Without --strict a misspelt key is only told."""
    (workspace / "lorch.json").write_text('{"polcy": {}}')

    assert lorch("validate").code == ExitCode.DONE
    assert "did you mean policy?" in lorch("validate").out
    assert lorch("validate", "--strict").code == ExitCode.USAGE


def test_validate_without_a_file_names_the_remedy(lorch: Lorch):
    """Exit code 2."""
    printed = lorch("validate")

    assert printed.code == ExitCode.USAGE
    assert "lorch init" in printed.err
