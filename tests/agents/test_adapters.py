"""The agent around a foreign CLI: real processes that play its turns, real files, a real journal."""

import hashlib
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_driving import WAIT_S, command, driven, journal
from cli_playing import CODEX_SESSION, Cli, adapted, codex_done, codex_failed, stream

from lorch_actors import processes
from lorch_actors.agents.adapters import conversation, foreign
from lorch_actors.agents.adapters.outcome import Kind, of_provider
from lorch_actors.agents.adapters.spool import Spool
from lorch_actors.agents.adapters.verdict import InvalidVerdict, Review, SpecVerdict, parse
from lorch_actors.protocol.redaction import Redactor

INPUTS = {"run_id": "run-1", "round": 1, "goal": "Leave a stamp"}
APPROVED = '{"verdict": "approved", "summary": "good"}'


def order(action: str = "implement", key: str = "one", **changes: Any) -> dict[str, Any]:
    return command(action, key, **{"inputs": INPUTS, **changes})


def deadline_in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def claim(workspace: Path, path: str) -> dict[str, Any]:
    content = (workspace / path).read_bytes()
    return {"path": path, "sha256": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}


def marked(value: str) -> list[int]:
    """Return the processes that carry a value in a variable of their environment."""
    return list(processes.marked("LORCH_TEST_MARK", value))


def test_a_builder_claims_what_changed_and_runs_the_tests_itself(tmp_path: Path):
    """The agent's own word is neither a claim nor a test result."""
    cli = Cli(tmp_path / "cli", codex_done("All 99 tests pass.", before="echo hi > src/new"))
    with adapted(cli, tmp_path, "codex", "builder", "--tests", "sh -c 'echo 1 of 9 failed; exit 3'") as agent:
        answer = agent.ask(order())

    assert (answer["event"], answer["artifacts"]) == ("builder.completed", [claim(tmp_path, "src/new")])
    assert answer["payload"]["tests"]["status"] == "fail"
    assert "1 of 9 failed" in answer["payload"]["tests"]["summary"]
    assert answer["payload"]["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert "Leave a stamp" in cli.told(1)


def test_a_verdict_that_is_none_is_asked_for_once_more_in_the_same_session(tmp_path: Path):
    """The model is told what was wrong with it."""
    cli = Cli(tmp_path / "cli", codex_done("Looks good to me!"), codex_done(APPROVED, tokens=25))
    with adapted(cli, tmp_path, "codex", "reviewer") as agent:
        answer = agent.ask(order("review"))

    assert (answer["event"], answer["status"], answer["payload"]["summary"]) == ("review.completed", "approved", "good")
    assert answer["payload"]["usage"]["input_tokens"] == 25  # the second report contains the first
    assert cli.arguments(2)[-3:] == ["resume", CODEX_SESSION, "-"]
    assert "there is no JSON object in it" in cli.told(2)


def test_a_verdict_that_is_none_twice_is_an_error(tmp_path: Path):
    """It is neither an approval nor a request; the next attempt begins a new session."""
    cli = Cli(tmp_path / "cli", codex_done("Looks good to me!"))
    with adapted(cli, tmp_path, "codex", "reviewer") as agent:
        answer = agent.ask(order("review"))
        agent.ask(order("review"))

    assert (answer["payload"]["code"], answer["payload"]["retryable"], cli.turns) == ("invalid_verdict", True, 4)
    assert "resume" not in cli.arguments(3)


def test_findings_of_a_review_go_where_people_look_for_them(tmp_path: Path):
    """Into the event and into reviews/<task>.json."""
    found = {"verdict": "changes_requested", "summary": "one", "findings": [{"what": "no docstring", "file": "src/a"}]}
    cli = Cli(tmp_path / "cli", codex_done(json.dumps(found)))
    with adapted(cli, tmp_path, "codex", "reviewer") as agent:
        answer = agent.ask(order("review"))

    assert (answer["status"], answer["payload"]["findings"]) == ("changes_requested", found["findings"])
    assert answer["artifacts"] == [claim(tmp_path, "reviews/T-1.json")]
    assert json.loads((tmp_path / "reviews" / "T-1.json").read_bytes())["findings"] == found["findings"]


@pytest.mark.parametrize(
    ("said", "work", "event"),
    [
        ("no_changes_needed", "mkdir specs; echo s > specs/s", "spec.updated"),
        ("updated", "", "spec.no_changes_needed"),
    ],
)
def test_whether_the_specification_changed_is_seen_in_the_tree(tmp_path: Path, said: str, work: str, event: str):
    """Not taken from the verdict."""
    cli = Cli(tmp_path / "cli", codex_done(json.dumps({"verdict": said, "summary": "s"}), before=work))
    with adapted(cli, tmp_path, "codex", "spec_maintainer") as agent:
        answer = agent.ask(order("update_spec"))

    assert answer["event"] == event


def test_a_usage_limit_is_told_with_its_reset_time_and_account(tmp_path: Path):
    """So that everybody who uses the account can wait until then; the session is resumed afterwards."""
    limit = "You\u2019ve hit your usage limit. Try again at Nov 30th, 2037 1:56 AM.".replace("Try", "try")
    cli = Cli(tmp_path / "cli", codex_failed(limit), codex_done("done"))
    with adapted(cli, tmp_path, "codex", "builder", OPENAI_API_KEY="sk-12345678", TZ="UTC") as agent:
        answer = agent.ask(order())
        agent.ask(order())

    account = f"codex:{hashlib.sha256(b'sk-12345678').hexdigest()[:8]}"
    assert answer["payload"] | {"message": ""} == {
        "code": "usage_limited",
        "message": "",
        "retryable": True,
        "resets_at": "2037-11-30T01:57:00.000Z",
        "account": account,
    }
    assert cli.arguments(2)[-3:] == ["resume", CODEX_SESSION, "-"]


def test_authentication_fails_with_a_remedy(tmp_path: Path):
    """A person has to act: nothing is tried again."""
    cli = Cli(tmp_path / "cli", codex_failed("unexpected status 401 Unauthorized: invalid api key"))
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        payload = agent.ask(order())["payload"]

    assert (payload["code"], payload["retryable"]) == ("authentication_failed", False)
    assert "Log in with the CLI" in payload["message"]


def test_a_cli_that_is_not_there_is_told_with_the_command_that_installs_it(tmp_path: Path):
    """One clear message, no attempt wasted."""
    with adapted(Cli(tmp_path / "cli", ""), tmp_path, "codex", "builder", "--program", "/no/such/codex") as agent:
        payload = agent.ask(order())["payload"]

    assert payload["code"] == "command_not_startable"
    assert "npm install -g @openai/codex" in payload["message"]


def test_trap_killing_the_wrapper_leaves_the_real_processes(tmp_path: Path):
    """What is left in sessions of its own is ended before the tree is looked at, and the turn counts as killed."""
    orphan = "setsid sh -c 'while :; do date > src/busy; done' & sleep 0.2; kill -9 $$"
    cli = Cli(tmp_path / "cli", orphan)
    with adapted(cli, tmp_path, "codex", "builder", LORCH_TEST_MARK=str(tmp_path)) as agent:
        payload = agent.ask(order())["payload"]
        left = set(marked(str(tmp_path))) - {agent.process.pid}

    assert (payload["code"], payload["retryable"], left) == ("cli_killed", True, set())


def test_trap_sigterm_orphaned_a_shell(tmp_path: Path):
    """When the adapter is told to end, nobody that the CLI started survives it."""
    cli = Cli(
        tmp_path / "cli", "setsid sh -c 'trap \"\" TERM; echo > src/on; while :; do sleep 1; done' & trap '' TERM; wait"
    )
    with adapted(cli, tmp_path, "codex", "builder", LORCH_TEST_MARK=str(tmp_path)) as agent:
        agent.send(order())
        _wait_for(tmp_path / "src" / "on")
        agent.process.send_signal(signal.SIGTERM)
        agent.wait()

    assert marked(str(tmp_path)) == []


def test_a_cli_that_says_nothing_is_hung(tmp_path: Path):
    """Whatever it is doing: after so long without a word it is ended."""
    cli = Cli(tmp_path / "cli", stream({"type": "thread.started", "thread_id": "t"}).replace("exit 0", "sleep 60"))
    with adapted(cli, tmp_path, "codex", "builder", "--silence-s", "0.3") as agent:
        payload = agent.ask(order())["payload"]

    assert (payload["code"], payload["retryable"]) == ("cli_hung", True)


def test_a_cli_that_talks_for_ever_is_ended_before_the_deadline(tmp_path: Path):
    """Its final event does not come any more, so the time of the command is what ends it."""
    cli = Cli(tmp_path / "cli", "while :; do echo '{}'; sleep 0.05; done")
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        payload = agent.ask(order(deadline=deadline_in(1)))["payload"]

    assert payload["code"] == "cli_hung"


def test_a_hang_after_the_final_event_is_no_success(tmp_path: Path):
    """How the process ended goes before what its stream says."""
    cli = Cli(tmp_path / "cli", codex_done("done").replace("exit 0", "sleep 60"))
    with adapted(cli, tmp_path, "codex", "builder", "--silence-s", "0.3") as agent:
        payload = agent.ask(order())["payload"]

    assert payload["code"] == "cli_hung"


def test_trap_the_call_in_flight_is_dropped_silently(tmp_path: Path):
    """A killed adapter resumes the session, which is on disk as soon as it is known, and tells what the tree is now."""
    begun = stream({"type": "thread.started", "thread_id": CODEX_SESSION}, before="echo half > src/half")
    cli = Cli(tmp_path / "cli", begun.replace("exit 0", "echo > src/on; exec sleep 60"), codex_done("done"))
    with adapted(cli, tmp_path, "codex", "builder", LORCH_TEST_MARK=str(tmp_path)) as agent:
        agent.send(order())
        _wait_for(tmp_path / "src" / "on")
        agent.process.kill()
        agent.process.wait(WAIT_S)
        processes.end_all(lambda: marked(str(tmp_path)), deadline_s=WAIT_S)
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        answer = agent.ask(order())
        again = agent.ask(order())

    assert next(entry["session_id"] for entry in journal(tmp_path) if entry["entry"] == "session") == CODEX_SESSION
    assert cli.arguments(2)[-3:] == ["resume", CODEX_SESSION, "-"]
    assert "- changed or new: src/half" in cli.told(2)
    assert claim(tmp_path, "src/half") in answer["artifacts"]
    assert (again["artifacts"], cli.turns) == (answer["artifacts"], 2)


def test_a_session_that_cannot_go_on_is_begun_anew(tmp_path: Path):
    """Within the same attempt, with what the tree looks like now."""
    full = "Codex ran out of room in the model's context window. Start a new thread."
    broken = codex_failed("stream disconnected before completion")
    cli = Cli(tmp_path / "cli", broken, codex_failed(full), codex_done("done", before="echo > src/a"))
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        first = agent.ask(order())
        second = agent.ask(order())

    assert (first["payload"]["code"], second["event"]) == ("overloaded", "builder.completed")
    assert ["resume" in cli.arguments(turn) for turn in (1, 2, 3)] == [False, True, False]


def test_a_full_session_is_not_resumed_by_the_next_attempt(tmp_path: Path):
    """It would be full again."""
    full = "Codex ran out of room in the model's context window. Start a new thread."
    cli = Cli(tmp_path / "cli", codex_failed(full), codex_done("done"))
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        first = agent.ask(order())
        second = agent.ask(order())

    assert (first["payload"]["code"], first["payload"]["retryable"]) == ("context_too_long", True)
    assert (second["event"], "resume" in cli.arguments(2)) == ("builder.completed", False)


def test_trap_a_line_of_900_kb(tmp_path: Path):
    """It is read; our own limit of 256 KiB is for our own lines."""
    long = "x" * 900_000
    cli = Cli(tmp_path / "cli", codex_done("done", before=f"cat {tmp_path}/long"))
    (tmp_path / "long").write_text(json.dumps({"type": "item.completed", "item": {"text": long}}) + "\n")
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        answer = agent.ask(order())

    assert answer["event"] == "builder.completed"
    assert (tmp_path / "logs/builder/run-1/T-1.implement.round-1.1-1.stdout").stat().st_size > 900_000


def test_a_final_event_that_is_too_long_to_be_read_is_a_crash(tmp_path: Path):
    """Nobody knows what it said; the spool has it whole."""
    cli = Cli(tmp_path / "cli", stream({"type": "thread.started", "thread_id": "t"}, before=f"cat {tmp_path}/long"))
    (tmp_path / "long").write_text(json.dumps({"type": "turn.completed", "x": "x" * foreign.LINE_MAX_BYTES}) + "\n")
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        payload = agent.ask(order())["payload"]

    assert payload["code"] == "cli_crashed"
    assert "1 lines over 4 MiB were not read, logs/builder/run-1/" in payload["message"]


def test_trap_shared_homes_are_corrupted_by_parallel_runs(tmp_path: Path):
    """Each role of each run has a home of its own, where only the user's login is linked in."""
    login = tmp_path / "user"
    login.mkdir()
    (login / "auth.json").write_text("{}")
    cli = Cli(tmp_path / "cli", codex_done("done"))
    with adapted(cli, tmp_path, "codex", "builder", CODEX_HOME=str(login)) as agent:
        agent.ask(order())

    home = tmp_path / "state" / "agents" / "homes" / "run-1" / "builder"
    assert cli.environment(1)["CODEX_HOME"] == str(home)
    assert (home / "auth.json").readlink() == login / "auth.json"


def test_prompts_of_the_workspace_take_the_place_of_ours(tmp_path: Path):
    """And names that nobody knows stay as they are."""
    own = tmp_path / ".lorch" / "prompts" / "implement.md"
    own.parent.mkdir(parents=True)
    own.write_text("$task_id: $goal! Costs $$5, $unknown.")
    cli = Cli(tmp_path / "cli", codex_done("done"))
    with adapted(cli, tmp_path, "codex", "builder") as agent:
        agent.ask(order())

    assert cli.told(1) == "T-1: Leave a stamp! Costs $5, $unknown."


def test_secrets_do_not_reach_the_spool_however_the_output_is_cut(tmp_path: Path):
    """Also one that stands across two pieces of a line that never ends."""
    spool = Spool(tmp_path / "spool", Redactor({"API_KEY": "sk-secret-value"}))
    for piece in (b"x" * 70_000 + b"sk-sec", b"ret-value" + b"y" * 70_000, b"\nsk-secret-value\n"):
        spool.feed(piece)
    spool.close()

    assert (tmp_path / "spool").read_bytes() == (
        b"x" * 70_000 + b"[redacted:API_KEY]" + b"y" * 70_000 + b"\n[redacted:API_KEY]\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        APPROVED,
        f"Here it is:\n```json\n{APPROVED}\n```\nBye",
        f"First I thought {{}}, but: {APPROVED}",
        '{"verdict": "approved", "summary": "good", "confidence": 1}',
    ],
)
def test_a_verdict_is_found_in_an_answer(answer: str):
    """The whole of it, in a fence, or after other words; more members than asked for do no harm."""
    assert parse(answer, Review) == Review("approved", "good")


@pytest.mark.parametrize(
    ("answer", "wanted", "reason"),
    [
        ("Approved.", Review, "there is no JSON object"),
        ('{"verdict": "maybe", "summary": ""}', Review, "Invalid enum value 'maybe'"),
        ('{"verdict": "updated", "summary": "s"}', Review, "Invalid enum value 'updated'"),
        ('{"verdict": "approved"}', Review, "missing required field `summary`"),
        ('{"verdict": "changes_requested", "summary": " "}', SpecVerdict, "neither summary nor findings"),
        ("{" * 100_000, Review, "there is no JSON object"),
    ],
)
def test_a_verdict_of_another_shape_is_none(answer: str, wanted: type[Review], reason: str):
    """The reason is told to the model."""
    with pytest.raises(InvalidVerdict, match=reason):
        parse(answer, wanted)


def test_the_last_word_counts_not_an_example_before_it():
    """A model that repeats the format in fences has not given its verdict yet."""
    answer = f'The format is:\n```json\n{APPROVED}\n```\nMine: {{"verdict": "changes_requested", "summary": "no"}}'

    assert parse(answer, Review).verdict == "changes_requested"


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("Rate limit reached. Please try again in 6m0s.", 360),
        ("rate limit: try again in 1h12m3.5s", 4323.5),
        ("rate limit: try again in 2 days", 172_800),
        ("rate limit: try again in 1 hour and 5 minutes", 3900),
        ("429, Retry-After: 120", 120),
        ('rate limit, "retryDelay": "17.3s"', 17.3),
        ("rate limit: try again in 5 fortnights", None),
    ],
)
def test_a_wait_is_read_whole(text: str, wait_s: float | None):
    """Whatever its units; one that nobody knows is none."""
    assert of_provider(429, text).retry_after_s == wait_s


@pytest.mark.parametrize(
    "text", ["Mark-Compact (average mu = 0.403, current mu = 0.162) heap out of memory", "at checkTypeSafety (a.js:1)"]
)
def test_a_crash_is_not_taken_for_what_its_words_look_like(text: str):
    """It is tried again, and nobody is told to log in."""
    assert of_provider(None, text).kind is Kind.CRASHED


def test_one_bad_byte_loses_no_event():
    """A tool may print whatever it likes into the output that a CLI passes on."""

    class Notes:
        def hear(self, event: dict[str, Any]) -> bytes:
            return event["said"].encode()

    assert conversation._hear(Notes(), b'{"said": "caf\xe9"}') == "caf\ufffd".encode()  # type: ignore[arg-type]


def test_what_is_no_event_is_passed_over():
    """Banners, numbers, JSON nested beyond reason."""

    class Never:
        def hear(self, event: object) -> bytes:
            raise AssertionError(event)

    for line in (b"Welcome!", b"7", b"[" * 200_000, b"\xff\xfe"):
        assert conversation._hear(Never(), line) == b""


def _wait_for(path: Path) -> None:
    """Wait until a file is there, woken by the directory."""
    import select

    watch = _inotify(path.parent)
    try:
        while not path.exists():
            assert select.select([watch], [], [], WAIT_S)[0]
            os.read(watch, 65536)
    finally:
        os.close(watch)


def _inotify(directory: Path) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init()
    assert libc.inotify_add_watch(fd, os.fsencode(directory), 0x100) >= 0
    return fd


ACP_AGENT = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    result = {"initialize": {"protocolVersion": 1}, "session/new": {"sessionId": "s-1"}}.get(message.get("method"))
    if message.get("method") == "session/prompt":
        print(json.dumps({"method": "session/update", "params": {"sessionId": "s-1", "update": {
            "sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "done"}}}}), flush=True)
        result = {"stopReason": "end_turn"}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
import time
time.sleep(1000)
"""


def test_trap_an_acp_agent_that_does_not_exit_at_the_end_of_stdin(tmp_path: Path):
    """It is ended after a while, and the turn counts: its prompt was answered."""
    (tmp_path / "src").mkdir()
    (tmp_path / "agent.py").write_text(ACP_AGENT)
    argv = [sys.executable, "-m", "lorch_actors.agents", "acp", "--type", "builder", "--heartbeat-interval-s", "0"]
    with driven([*argv, "--", sys.executable, "agent.py"], tmp_path, LORCH_TEST_MARK=str(tmp_path)) as agent:
        answer = agent.ask(order())
        left = set(marked(str(tmp_path))) - {agent.process.pid}

    assert (answer["event"], answer["payload"]["summary"], left) == ("builder.completed", "done", set())
