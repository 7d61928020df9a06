"""The agent made of ordinary commands: real commands, real files, real process trees."""

import contextlib
import hashlib
import json
import os
import shlex
import signal
from pathlib import Path

import pytest
from agent_driving import WAIT_S, command, executions, executor

from lorch_actors import processes
from lorch_actors.agents.exec_config import configure
from lorch_actors.agents.forwarding import Digest
from lorch_actors.agents.running import Tail, readable
from lorch_actors.errors import ConfigError
from lorch_actors.protocol.messages import Action
from lorch_actors.protocol.parse import parse_message


def shell(action: str, text: str) -> list[str]:
    """Return the flags that run a shell script for an action."""
    return ["--on", f"{action}=sh -c {shlex.quote(text)}"]


def claim(workspace: Path, path: str) -> dict[str, object]:
    content = (workspace / path).read_bytes()
    return {"path": path, "sha256": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}


def wait_for_end(pid: int) -> bool:
    """Wait until the process is no more."""
    with contextlib.suppress(ProcessLookupError):
        import select

        handle = os.pidfd_open(pid)
        try:
            return bool(select.select([handle], [], [], WAIT_S)[0])
        finally:
            os.close(handle)
    return True


def test_a_renaming_of_everything_fits_into_one_line(tmp_path: Path):
    """Claims and names of removed files are bounded in bytes; what is left out is counted."""
    (tmp_path / "src").mkdir()
    long = "x" * 150
    for number in range(900):
        (tmp_path / "src" / f"{number:04}{long}").write_text(str(number))
    with executor(tmp_path, "builder", *shell("implement", "mv src old; mkdir src; cp -r old src/new")) as agent:
        answer = agent.ask(command())

    claimed, payload = answer["artifacts"], answer["payload"]
    assert answer["event"] == "builder.completed"
    assert len(claimed) + payload["artifacts_left_out"] == 900
    assert len(payload["removed"]) + payload["removed_left_out"] == 900
    assert min(len(claimed), len(payload["removed"])) > 100


def test_a_builder_claims_what_changed_and_nothing_else(tmp_path: Path):
    """New and changed files in tracked directories; removed ones are told; untouched and foreign ones are not."""
    (tmp_path / "src").mkdir()
    for name in ("kept", "changed", "removed"):
        (tmp_path / "src" / name).write_text(name)
    work = "mkdir docs; echo new > docs/new; echo more >> src/changed; rm src/removed; echo x > foreign; touch src/kept"
    with executor(tmp_path, "builder", *shell("implement", work)) as agent:
        answer = agent.ask(command())

    assert answer["event"] == "builder.completed"
    assert answer["artifacts"] == [claim(tmp_path, "docs/new"), claim(tmp_path, "src/changed")]
    assert answer["payload"]["removed"] == ["src/removed"]
    assert answer["payload"]["tests"]["status"] == "pass"
    for line in agent.lines:
        parse_message(line)


def test_a_command_is_named_without_its_directory(tmp_path: Path):
    """What people read is not the path of an interpreter."""
    (tmp_path / "src").mkdir()
    with executor(tmp_path, "builder", *shell("implement", "exit 0"), "--tests", "/bin/true --all") as agent:
        answer = agent.ask(command())

    assert answer["payload"]["tests"]["summary"] == "true --all ended with exit code 0"


@pytest.mark.parametrize(
    ("work", "tests", "status", "summary"),
    [
        ("exit 0", "exit 0", "pass", "ended with exit code 0"),
        ("exit 0", "echo 1 of 9 failed >&2; exit 4", "fail", "1 of 9 failed"),
        ("echo no; exit 3", "echo ran > src/tests-ran", "fail", "ended with exit code 3\nno\n"),
        ("kill -9 $$", None, "fail", "exit code 137"),
    ],
)
def test_tests_decide_a_builders_result(tmp_path: Path, work: str, tests: str | None, status: str, summary: str):
    """They run only if the work succeeded; what failed is told with the end of its output."""
    (tmp_path / "src").mkdir()
    flags = ["--tests", f"sh -c {shlex.quote(tests)}"] if tests else []
    with executor(tmp_path, "builder", *shell("implement", work), *flags) as agent:
        answer = agent.ask(command())

    assert answer["payload"]["tests"]["status"] == status
    assert summary in answer["payload"]["tests"]["summary"]
    assert not (tmp_path / "src" / "tests-ran").exists()


def test_a_review_approves_or_says_what_it_found(tmp_path: Path):
    """Exit code 0 approves; otherwise the findings stand in the event and in reviews/<task>.json."""
    with executor(tmp_path, "reviewer", *shell("review", "test $LORCH_ROUND = 2 || { echo bad; exit 9; }")) as agent:
        first = agent.ask(command("review"))
        second = agent.ask(command("review", "two", inputs={"round": 2}))

    assert first["status"] == "changes_requested"
    assert first["payload"]["findings"] == "bad\n"
    assert first["artifacts"] == [claim(tmp_path, "reviews/T-1.json")]
    note = json.loads((tmp_path / "reviews" / "T-1.json").read_bytes())
    assert (note["task_id"], note["exit_code"], note["findings"]) == ("T-1", 9, "bad\n")
    assert second["status"] == "approved"


def test_a_spec_is_updated_or_needs_no_change_or_asks_for_one(tmp_path: Path):
    """It depends on the exit code and on whether the tree changed."""
    work = "case $LORCH_ROUND in 1) mkdir specs; echo s > specs/s;; 2) ;; *) echo more; exit 1;; esac"
    with executor(tmp_path, "spec_maintainer", *shell("update_spec", work)) as agent:
        answers = [agent.ask(command("update_spec", f"k{n}", inputs={"round": n})) for n in (1, 2, 3)]

    assert [a["event"] for a in answers] == ["spec.updated", "spec.no_changes_needed", "spec.changes_requested"]
    assert answers[0]["artifacts"] == [claim(tmp_path, "specs/s")]
    assert answers[2]["artifacts"] == [claim(tmp_path, "spec_notes/T-1.json")]


def test_an_intake_prints_its_tasks(tmp_path: Path):
    """The payload is the JSON on stdout; stderr is for people. Anything else is an error with the output's end."""
    work = """echo note >&2; test $LORCH_ROUND = 1 && echo '{"derived_tasks":[]}' || { echo nothing; exit 2; }"""
    with executor(tmp_path, "orchestration", *shell("intake", work)) as agent:
        good = agent.ask(command("intake"))
        bad = agent.ask(command("intake", "two", inputs={"round": 2}))

    assert (good["event"], good["payload"]) == ("orchestration.proposed_tasks", {"derived_tasks": []})
    assert (bad["event"], bad["payload"]["code"]) == ("error", "command_failed")
    assert bad["payload"]["message"].endswith("nothing\n")
    assert agent.errors == b"note\nnote\n"


def test_changes_fall_back_to_the_command_that_implements_and_know_what_was_asked(tmp_path: Path):
    """The environment carries the request; the file carries all inputs and is private."""
    work = "mkdir -p src; env | grep ^LORCH_ > src/env; cp -p $LORCH_INPUTS src/inputs"
    inputs = {"round": 2, "goal": "a goal", "request": {"say": "why"}, "requested_by": "reviewer", "big": "x" * 200_000}
    with executor(tmp_path, "builder", *shell("implement", work)) as agent:
        answer = agent.ask(command("implement_changes", inputs=inputs))

    assert answer["event"] == "builder.completed"
    env = dict(line.split("=", 1) for line in (tmp_path / "src" / "env").read_text().splitlines())
    assert env["LORCH_REQUEST"] == '{"say":"why"}'
    assert (env["LORCH_GOAL"], env["LORCH_ROUND"], env["LORCH_REQUESTED_BY"]) == ("a goal", "2", "reviewer")
    assert (env["LORCH_TASK_ID"], env["LORCH_ACTION"]) == ("T-1", "implement_changes")
    assert json.loads((tmp_path / "src" / "inputs").read_bytes()) == inputs
    assert (tmp_path / "src" / "inputs").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        ([], "no_command", "--on implement="),
        (["--on", "implement=no-such-program"], "command_not_startable", "No such file"),
        (["--on", "implement=./not-executable"], "command_not_startable", "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_final_error_with_a_remedy(
    tmp_path: Path, flags: list[str], code: str, says: str
):
    """Trying again would not help, so it is not asked for."""
    (tmp_path / "not-executable").write_text("")
    with executor(tmp_path, "builder", *flags) as agent:
        payload = agent.ask(command())["payload"]

    assert (payload["code"], payload["retryable"]) == (code, False)
    assert says in payload["message"]


@pytest.mark.long
def test_much_output_is_drained_digested_and_kept_at_its_end(tmp_path: Path):
    """Twenty megabytes, part of it binary, in one line and in many: the tail is bounded, the messages are few."""
    work = "head -c 10000000 /dev/zero; yes | head -c 10000000; printf '\\357\\277\\277 the end'; exit 1"
    with executor(tmp_path, "reviewer", *shell("review", work)) as agent:
        answer = agent.ask(command("review"))

    findings = answer["payload"]["findings"]
    assert findings.endswith("y\n\ufffd the end")
    assert len(findings.encode()) <= 8192
    assert len(agent.lines) < 100
    for line in agent.lines:
        parse_message(line)


def test_nothing_that_a_command_started_outlives_it(tmp_path: Path):
    """A daemon in a session of its own that holds the output open is ended before the outcome is sent."""
    (tmp_path / "src").mkdir()
    work = """setsid sh -c 'trap "" TERM; echo $$ > src/daemon; sleep 1000' & until test -s src/daemon; do :; done"""
    with executor(tmp_path, "builder", *shell("implement", work)) as agent:
        answer = agent.ask(command())
        daemon = int((tmp_path / "src" / "daemon").read_text())

        assert processes.identify(daemon) is None
        assert answer["event"] == "builder.completed"


@pytest.mark.parametrize("how", ["eof", "sigterm"])
def test_the_end_of_the_agent_is_the_end_of_its_tree(tmp_path: Path, how: str):
    """At the end of stdin and on SIGTERM the command and its grandchildren in other sessions are ended; no outcome."""
    (tmp_path / "src").mkdir()
    work = "setsid sh -c 'echo $$ > src/daemon; sleep 1000' & until test -s src/daemon; do :; done; echo up; wait"
    with executor(tmp_path, "builder", *shell("implement", work)) as agent:
        agent.send(command())
        agent.message("log", message="up")
        daemon = int((tmp_path / "src" / "daemon").read_text())
        if how == "eof":
            agent.process.stdin.close()
        else:
            agent.process.send_signal(signal.SIGTERM)

        assert agent.wait() == 0
        assert processes.identify(daemon) is None
        assert [m for m in agent.rest() if m["kind"] == "event"] == []


def test_a_command_that_takes_too_long_is_ended_and_may_be_tried_again(tmp_path: Path):
    """The whole tree is gone, and the error says how long it was given."""
    work = "sleep 1000 & echo $! > pid; wait"
    with executor(tmp_path, "builder", *shell("implement", work), "--timeout-s", "0.2") as agent:
        payload = agent.ask(command())["payload"]

        assert (payload["code"], payload["retryable"]) == ("command_timeout", True)
        assert "longer than 0.2 s" in payload["message"]
        assert wait_for_end(int((tmp_path / "pid").read_text()))


def test_a_repeat_after_a_crash_claims_what_the_killed_execution_had_written(tmp_path: Path):
    """The tree is compared with what it was before the key was begun first."""
    work = "mkdir -p src; test -e src/first && echo b > src/second || { echo a > src/first; kill -9 $PPID; }"
    flags = shell("implement", work)
    with executor(tmp_path, "builder", *flags) as agent:
        agent.send(command())
        assert agent.wait() == -signal.SIGKILL
    with executor(tmp_path, "builder", *flags) as agent:
        answer = agent.ask(command())
        agent.ask(command())

    assert answer["artifacts"] == [claim(tmp_path, "src/first"), claim(tmp_path, "src/second")]
    assert executions(tmp_path) == ["one", "one"]


def test_work_goes_on_after_the_end_of_stdin_if_asked_to(tmp_path: Path):
    """With --finish-on-eof a command from a pipe is answered."""
    with executor(tmp_path, "builder", *shell("implement", "sleep 0.1"), "--finish-on-eof") as agent:
        agent.send(command())

        assert agent.finish() == 0
        assert "builder.completed" in [m.get("event") for m in agent.rest()]


def test_expected_outputs_are_claimed_wherever_they_are(tmp_path: Path):
    """Also outside the tracked directories, and unchanged; one that is absent is left to the orchestrator to miss."""
    (tmp_path / "Makefile").write_text("all:\n")
    outputs = [{"path": "Makefile", "required": True}, {"path": "absent", "required": True}]
    with executor(tmp_path, "builder", "--on", "implement=true") as agent:
        answer = agent.ask(command(expected_outputs=outputs))

    assert answer["artifacts"] == [claim(tmp_path, "Makefile")]


def test_a_wrong_configuration_is_told_whole(tmp_path: Path):
    """Flags and file together, each mistake with its place."""
    file = tmp_path / "exec.json"
    file.write_text(
        json.dumps({"commands": {"deploy": ["x"], "review": []}, "timeout_s": -1, "test": "x", "include": 1})
    )

    with pytest.raises(ConfigError) as caught:
        configure(file, ["implement='", "review"], None, None, [])

    assert [line.split(":")[0].strip() for line in caught.value.what.splitlines()[1:]] == [
        "$.test",
        "$.commands.deploy",
        "$.commands.review",
        "--on implement",
        "--on review",
        "$.timeout_s",
        "$.include",
    ]


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"], ids=["absent", "cut off", "list", "not UTF-8"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None):
    """The error carries the path."""
    file = tmp_path / "exec.json"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        configure(file, [], None, None, [])
    assert caught.value.where == str(file)


def test_flags_go_before_the_file(tmp_path: Path):
    """What both name comes from the flag; the rest from the file."""
    file = tmp_path / "exec.json"
    file.write_text(json.dumps({"commands": {"implement": "make a", "review": ["lint", "a b"]}, "tests": "make test"}))

    config = configure(file, ["implement=make 'b c'"], None, 5.0, ["lib"])

    assert config.command(Action.IMPLEMENT) == ("make", "b c")
    assert config.command(Action.IMPLEMENT_CHANGES) == ("make", "b c")
    assert config.command(Action.REVIEW) == ("lint", "a b")
    assert (config.tests, config.timeout_s, config.include) == (("make", "test"), 5.0, ("lib",))


def test_a_tail_is_bounded_and_does_not_begin_inside_a_character():
    """Whatever the pieces were."""
    tail = Tail(10)
    for byte in "ä" * 1000 + "x":
        tail.feed(byte.encode())

    assert tail.text() == "ääääx"
    assert tail.seen_bytes == 2001


def test_what_is_not_text_becomes_text_that_a_message_may_hold():
    """Stray bytes and noncharacters are replaced; everything else stays."""
    assert readable(b"a\xff\xc3\xa4\xef\xbf\xbf\xf0\x9f\xbf\xbe\x00") == "a\ufffdä\ufffd\ufffd\x00"


def test_a_digest_tells_at_most_once_a_second_and_counts_what_it_leaves_out():
    """The first line at once, then twenty lines at a time, each cut."""
    told: list[tuple[str, int]] = []
    now_s = [0.0]
    digest = Digest(lambda text, left_out: told.append((text, left_out)), lambda: now_s[0])

    digest.feed(b"first\n")
    digest.feed(b"line\n" * 30 + b"x" * 1000)
    now_s[0] = 1.5
    digest.feed(b"y\nz")
    digest.close()

    assert told == [("first", 0), ("\n".join(["line"] * 20), 11), ("z", 0)]


def test_a_command_may_have_more_time_than_poll_can_count(tmp_path: Path):
    """A timeout of years is none of the kernel's business."""
    (tmp_path / "src").mkdir()
    with executor(tmp_path, "builder", *shell("implement", "exit 0"), "--timeout-s", "1e9") as agent:
        answer = agent.ask(command())

    assert answer["event"] == "builder.completed"
