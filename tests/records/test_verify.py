"""Every check of `verify` has teeth: a run damaged in one way fails exactly the check that is about it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_editing import Lines, edit, last

from lorch_actors.records.rebuild import rebuild
from lorch_actors.records.verify import CHECKS, verify_workspace
from lorch_actors.storage.workspace import Workspace

Damage = Callable[[Workspace], None]
DAMAGES: list[tuple[str, Damage]] = []


def damages(check: str) -> Callable[[Damage], Damage]:
    """Make a damage known under the check that has to find it."""

    def note(damage: Damage) -> Damage:
        DAMAGES.append((check, damage))
        return damage

    return note


def ledger(workspace: Workspace) -> Path:
    (run_id,) = workspace.run_ids()
    return workspace.ledger(run_id)


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document) + "\n")


@damages("ledger-chain")
def a_flipped_bit(workspace: Workspace) -> None:
    content = bytearray(ledger(workspace).read_bytes())
    at = content.index(b"builder.completed")
    content[at] ^= 1
    ledger(workspace).write_bytes(content)


@damages("ledger-chain")
def a_lost_line(workspace: Workspace) -> None:
    lines = ledger(workspace).read_bytes().splitlines(keepends=True)
    ledger(workspace).write_bytes(b"".join(lines[:9] + lines[10:]))


@damages("ledger-chain")
def a_doubled_line(workspace: Workspace) -> None:
    lines = ledger(workspace).read_bytes().splitlines(keepends=True)
    ledger(workspace).write_bytes(b"".join(lines[:9] + lines[8:]))


@damages("ledger-chain")
def two_lines_that_changed_places(workspace: Workspace) -> None:
    lines = ledger(workspace).read_bytes().splitlines(keepends=True)
    lines[8], lines[9] = lines[9], lines[8]
    ledger(workspace).write_bytes(b"".join(lines))


@damages("ledger-covers-projections")
def a_lost_end(workspace: Workspace) -> None:
    lines = ledger(workspace).read_bytes().splitlines(keepends=True)
    ledger(workspace).write_bytes(b"".join(lines[:-1]))


@damages("ledger-covers-projections")
def a_lost_end_that_only_the_checkpoint_knows(workspace: Workspace) -> None:
    a_lost_end(workspace)
    kept = workspace.checkpoint.read_bytes()
    rebuild(workspace, workspace.run_ids())
    workspace.checkpoint.write_bytes(kept)


@damages("command-once")
def a_message_that_was_appended_twice(workspace: Workspace) -> None:
    def change(lines: Lines) -> None:
        lines.append(dict(last(lines, "system.worker_started")))

    edit(workspace, change)


@damages("settled-once")
def a_settled_command_that_was_sent_again(workspace: Workspace) -> None:
    def change(lines: Lines) -> None:
        lines.append(last(lines, "review") | {"message_id": "another"})

    edit(workspace, change)


@damages("command-key")
def inputs_that_are_not_those_of_the_key(workspace: Workspace) -> None:
    def change(lines: Lines) -> None:
        last(lines, "update_spec")["inputs"]["goal"] = "something else"

    edit(workspace, change)


@damages("command-own-key")
def two_steps_with_one_key(workspace: Workspace) -> None:
    def change(lines: Lines) -> None:
        lines.append(last(lines, "review") | {"message_id": "another", "correlation_id": "another"})

    edit(workspace, change)


@damages("receipt")
def a_receipt_that_is_gone(workspace: Workspace) -> None:
    workspace.receipt("T-1", 3).unlink()


@damages("receipt")
def a_receipt_that_says_something_else(workspace: Workspace) -> None:
    rewrite(workspace.receipt("T-1", 3), lambda receipt: receipt.update(action="implement"))


@damages("receipt-cause")
def a_receipt_of_nothing(workspace: Workspace) -> None:
    workspace.receipt("T-1", 99).write_bytes(workspace.receipt("T-1", 3).read_bytes())
    workspace.receipt("T-1", 99).chmod(0o600)


@damages("run-state")
def a_run_state_that_says_something_else(workspace: Workspace) -> None:
    rewrite(workspace.run_state, lambda state: state.update(status="failed"))


@damages("run-state")
def a_run_state_that_is_gone(workspace: Workspace) -> None:
    workspace.run_state.unlink()


@damages("index")
def a_row_that_says_something_else(workspace: Workspace) -> None:
    rewrite(workspace.index, lambda index: index["runs"][0].update(status="failed"))


@damages("index")
def a_row_without_a_ledger(workspace: Workspace) -> None:
    def change(index: Any) -> None:
        index["runs"].insert(0, index["runs"][0] | {"run_id": "run-20200101-000000-00000000"})

    rewrite(workspace.index, change)


@damages("transcript")
def a_transcript_with_a_line_too_much(workspace: Workspace) -> None:
    (run_id,) = workspace.run_ids()
    with workspace.transcript(run_id).open("a") as file:
        file.write("[lorch] all is well\n")


@damages("snapshot")
def a_manifest_that_is_gone(workspace: Workspace) -> None:
    next((workspace.root / "snapshots").iterdir()).unlink()


@damages("snapshot")
def a_manifest_of_other_files(workspace: Workspace) -> None:
    path = next((workspace.root / "snapshots").iterdir())
    rewrite(path, lambda manifest: manifest["files"][0].update(size=70))


@damages("artifact")
def a_file_that_is_not_as_it_was_claimed(workspace: Workspace) -> None:
    (workspace.root / "reviews" / "T-1-review-1.txt").write_text("never said\n")


@damages("artifact")
def a_claimed_file_that_is_gone(workspace: Workspace) -> None:
    (workspace.root / "reviews" / "T-1-review-1.txt").unlink()


@damages("completed")
def a_run_that_is_called_completed_although_a_task_failed(workspace: Workspace) -> None:
    def change(lines: Lines) -> None:
        last(lines, "system.task_finished")["payload"]["status"] = "failed"

    edit(workspace, change)


@damages("modes")
def a_file_that_others_may_read(workspace: Workspace) -> None:
    workspace.run_state.chmod(0o644)


@damages("modes")
def a_home_of_a_cli_that_others_may_enter(workspace: Workspace) -> None:
    home = workspace.root / "state" / "agents" / "homes" / "run-1"
    home.mkdir(parents=True)
    home.parent.chmod(0o755)


@pytest.mark.parametrize("kind", ["finished", "failed", "interrupted"])
def test_a_run_that_nobody_touched_keeps_every_promise(copied, kind: str) -> None:
    """However it ended."""
    assert verify_workspace(copied(kind)) == []


def test_what_a_cli_writes_below_its_home_has_modes_of_its_own(copied) -> None:
    """Nobody else gets past the directory of the homes."""
    workspace = copied()
    home = workspace.root / "state" / "agents" / "homes" / "run-1"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    (home / "settings.json").touch(0o644)

    assert verify_workspace(workspace) == []


def test_what_an_agent_calls_itself_system_says_nothing(copied) -> None:
    """Ledgers may hold such events; a snapshot that was never captured is not looked for."""
    workspace = copied()

    def imitate(lines: Lines) -> None:
        answer = last(lines, "builder.completed")
        false = {"event": "system.snapshot_captured", "payload": {"snapshot_id": "../../etc/passwd"}, "artifacts": []}
        sign_of_life = next(at for at, line in enumerate(lines) if line["kind"] == "heartbeat")
        lines[sign_of_life] = answer | false | {"message_id": "b-0"}

    edit(workspace, imitate)

    assert verify_workspace(workspace) == []


@pytest.mark.parametrize(("check", "damage"), DAMAGES, ids=[damage.__name__ for _, damage in DAMAGES])
def test_a_damage_is_found_by_the_check_that_is_about_it(copied, check: str, damage: Damage) -> None:
    """And by no other, so that the name says what to look at."""
    workspace = copied()
    damage(workspace)

    assert {finding.check for finding in verify_workspace(workspace)} == {check}


def test_each_check_has_a_damage_that_it_finds() -> None:
    """A new check needs one here."""
    assert {check for check, _ in DAMAGES} == set(CHECKS)


@pytest.mark.parametrize("part", range(8))
def test_no_byte_of_a_ledger_can_be_flipped_unnoticed(copied, part: int) -> None:
    """A sample of places, from the first byte to the last newline."""
    workspace = copied()
    path = ledger(workspace)
    whole = path.read_bytes()
    for at in range(part * 500, len(whole), 4001):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        assert verify_workspace(workspace) != [], at
