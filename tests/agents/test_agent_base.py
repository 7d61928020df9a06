"""The base for agents: framing, heartbeats, outcomes, and an orderly end however it comes."""

import contextlib
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest
from agent_driving import FIXTURES, Driven, command, driven, executions, journal, mockagent

from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES
from lorch_actors.protocol.parse import parse_message


def write_agent(tmp_path: Path, body: str, role: str) -> Path:
    """Write an agent whose `handle` has this body."""
    script = tmp_path / "agent.py"
    script.write_text(
        "import os, sys, time, threading\n"
        "from pathlib import Path\n"
        "from lorch_actors.agents.base import Agent\n"
        "class Mine(Agent):\n"
        "    def handle(self, command, reply):\n"
        + textwrap.indent(textwrap.dedent(body), " " * 8)
        + "\n    def close(self):\n        Path('closed').touch()\n"
        f"sys.exit(Mine({role!r}).main())\n"
    )
    return script


def agent_of(tmp_path: Path, body: str, role: str = "builder", interval_s: str = "0"):
    """Start an agent whose `handle` has this body."""
    script = write_agent(tmp_path, body, role)
    return driven([sys.executable, str(script)], tmp_path, LORCH_HEARTBEAT_INTERVAL_S=interval_s)


@pytest.fixture(scope="module")
def perform(tmp_path_factory: pytest.TempPathFactory):
    """Have an agent of a role do something with `reply`; return what it sends up to the next outcome.

    One process for each role serves the whole module: every command has a key of its own.
    """
    agents: dict[str, Driven] = {}
    with contextlib.ExitStack() as stack:

        def do(role: str, action: str, body: str) -> dict[str, object]:
            if role not in agents:
                workspace = tmp_path_factory.mktemp(role)
                agents[role] = stack.enter_context(agent_of(workspace, "exec(command.inputs['do'])", role))
            return agents[role].ask(command(action, os.urandom(8).hex(), inputs={"do": body}))

        yield do


def test_a_builder_announces_reports_and_claims(tmp_path: Path):
    """Every line is a message; what was announced is claimed by the outcome, with its true checksum."""
    body = """
        reply.progress("half way", progress=0.5)
        Path("out.txt").write_text("made")
        reply.artifact("out.txt")
        reply.log("a remark", size=1)
        reply.completed(tests={"status": "pass"}, payload={"summary": "done"})
    """
    with agent_of(tmp_path, body) as agent:
        agent.send(command())
        agent.finish()
        messages = [m for m in agent.rest() if m["kind"] != "heartbeat"]

    for line in agent.lines:
        parse_message(line)
    progress, produced, log, completed = messages
    assert progress["payload"] == {"message": "half way", "progress": 0.5}
    assert completed["artifacts"] == produced["artifacts"]
    assert completed["artifacts"][0]["size"] == 4
    assert log["fields"] == {"size": 1}
    assert completed["payload"] == {"summary": "done", "tests": {"status": "pass"}}


@pytest.mark.parametrize(
    ("role", "action", "call", "event", "status"),
    [
        ("reviewer", "review", "approved()", "review.completed", "approved"),
        ("reviewer", "review", "changes_requested('no', issues=[1])", "review.completed", "changes_requested"),
        ("spec_maintainer", "update_spec", "spec_updated('ok')", "spec.updated", None),
        ("spec_maintainer", "update_spec", "spec_no_changes_needed()", "spec.no_changes_needed", None),
        ("spec_maintainer", "update_spec", "spec_changes_requested('no')", "spec.changes_requested", None),
        ("orchestration", "intake", "proposed_tasks({})", "orchestration.proposed_tasks", None),
        ("orchestration", "intake", "needs_clarification({})", "orchestration.needs_clarification", None),
        ("orchestration", "task_discovery", "plan_conflict({})", "orchestration.plan_conflict", None),
        ("builder", "implement", "error('x', 'no', retryable=True, retry_after_s=2)", "error", None),
    ],
)
def test_every_outcome_has_a_method(perform, role: str, action: str, call: str, event: str, status: str | None):
    """Its event is one the orchestrator accepts from that role."""
    answer = perform(role, action, f"reply.{call}")

    assert (answer["event"], answer.get("status")) == (event, status)
    parse_message(json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("pass", "no_outcome", "without saying"),
        ("raise ValueError('bad luck')", "agent_exception", "ValueError: bad luck"),
        ("reply.approved()", "agent_exception", "a builder cannot end a command with 'review.completed'"),
        ("reply.completed(tests={'status': 'maybe'})", "agent_exception", "'maybe'"),
        ("reply.completed(tests={'status': 'pass', 'x': eval('[' * 70 + ']' * 70)})", "agent_exception", "InvalidLine"),
        ("reply.artifact('absent')", "agent_error", "cannot be read"),
        ("reply.artifact('/etc/passwd')", "agent_error", "plain relative path"),
        ("reply.say('builder.completed')", "agent_exception", "finish"),
    ],
)
def test_a_mistake_of_the_author_becomes_an_error_event(perform, body: str, code: str, says: str):
    """The agent lives on, and the next command is taken."""
    answer = perform("builder", "implement", body)

    assert (answer["event"], answer["payload"]["code"]) == ("error", code)
    assert says in answer["payload"]["message"]
    assert perform("builder", "implement", "reply.completed(tests={'status': 'fail'})")["event"] == "builder.completed"


def test_there_is_exactly_one_outcome(tmp_path: Path):
    """A second one is a mistake that is told in the log, not sent."""
    with agent_of(tmp_path, "for _ in range(2): reply.completed(tests={'status': 'pass'})") as agent:
        agent.send(command())
        agent.finish()
        messages = agent.rest()

    assert [m["event"] for m in messages if m["kind"] == "event"] == ["builder.completed"]
    assert [m["level"] for m in messages if m["kind"] == "log"] == ["error"]


def test_a_command_for_another_role_is_refused(tmp_path: Path):
    """With an error that says who was asked."""
    with mockagent(tmp_path, "builder") as agent:
        answer = agent.ask(command("review"))

    assert answer["payload"]["code"] == "wrong_role"


def test_an_agent_whose_outcome_cannot_be_recorded_ends(tmp_path: Path):
    """Its death is noticed at once; one that stayed, and said nothing, would be waited for until the deadline."""
    body = """
        import os, resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = os.path.getsize(self._journal_file)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        reply.completed(tests={"status": "pass"})
    """
    with agent_of(tmp_path, body) as agent:
        agent.send(command())
        said = agent.rest()

    assert [message for message in said if message["kind"] == "event"] == []
    assert agent.wait() != 0


@pytest.mark.parametrize(("excess", "event"), [(0, "builder.completed"), (1, "error")])
def test_a_line_is_never_longer_than_256_kib(tmp_path: Path, excess: int, event: str):
    """An outcome of exactly the limit is sent; one byte more becomes an error that says so."""
    body = f"""
        import msgspec
        document = reply.document("builder.completed", payload={{"fill": "", "tests": {{"status": "pass"}}}})
        room = {MESSAGE_MAX_BYTES} - len(msgspec.json.encode(document))
        reply.completed(tests={{"status": "pass"}}, payload={{"fill": "x" * (room + {excess})}})
    """
    with agent_of(tmp_path, body) as agent:
        answer = agent.ask(command())

    assert answer["event"] == event
    assert (len(agent.lines[-1]) == MESSAGE_MAX_BYTES + 1) is (excess == 0)
    if excess:
        assert answer["payload"]["code"] == "message_too_long"


def test_a_remark_that_is_too_long_is_cut_or_left_out(tmp_path: Path):
    """The outcome still comes."""
    body = "reply.progress('x' * 300_000); reply.log('y' * 300_000); reply.completed(tests={'status': 'pass'})"
    with agent_of(tmp_path, body) as agent:
        agent.send(command())
        agent.finish()
        messages = [m for m in agent.rest() if m["kind"] != "heartbeat"]

    assert [m["kind"] for m in messages] == ["log", "log", "event"]
    assert messages[0]["message"].startswith("left out a builder.progress of 300")
    assert messages[1]["message"].startswith("yyy")


def test_lines_of_the_limit_are_read_and_longer_ones_passed_over(tmp_path: Path):
    """A command of exactly 256 KiB is carried out; garbage and one byte more are told, and the next one is taken."""
    empty = len(json.dumps(command(inputs={"fill": ""}), separators=(",", ":")))
    full = command(inputs={"fill": "x" * (MESSAGE_MAX_BYTES - empty)})
    over = command(key="two", inputs={"fill": "x" * (MESSAGE_MAX_BYTES - empty + 1)})
    with mockagent(tmp_path, "builder") as agent:
        agent.send(full, over, b"\n", b"{}\n", b"not json\n", json.dumps(command(key="three")).encode())
        agent.finish()
        messages = agent.rest()

    assert [m["correlation_id"] for m in messages if m["kind"] == "event"] == ["c-one", "c-three"]
    assert [m["level"] for m in messages if m["kind"] == "log"] == ["warn"] * 3


def test_what_the_work_prints_does_not_disturb_the_protocol(tmp_path: Path):
    """Prints, also of children, go to stderr."""
    body = """
        print("to whom it may concern", flush=True)
        os.system("echo from a child")
        reply.completed(tests={"status": "pass"})
    """
    with agent_of(tmp_path, body) as agent:
        assert agent.ask(command())["event"] == "builder.completed"
        agent.finish()

    assert agent.errors == b"to whom it may concern\nfrom a child\n"


def test_heartbeats_go_on_while_the_work_is_done(tmp_path: Path):
    """They say starting, ready, busy with which task, and stopping, and are numbered from 0."""
    body = "Path('begun').touch(); time.sleep(0.3); reply.completed(tests={'status': 'pass'})"
    with agent_of(tmp_path, body, interval_s="0.02") as agent:
        agent.send(command())
        agent.message("heartbeat", status="busy", task_id="T-1")
        agent.event("builder.completed")
        agent.finish()
        agent.rest()

    beats = [m for m in map(json.loads, agent.lines) if m["kind"] == "heartbeat"]
    statuses = list(dict.fromkeys(m["status"] for m in beats))
    assert [m["seq"] for m in beats] == list(range(len(beats)))
    assert statuses[0] == "starting"
    assert {"busy", "stopping"} <= set(statuses)
    assert beats[-1]["pid"] == agent.process.pid
    assert beats[-1]["ppid"] == os.getpid()
    assert {"cpu_pct", "rss_bytes"} == beats[-1]["stats"].keys()


def test_a_repeat_is_answered_without_doing_the_work(tmp_path: Path):
    """Also by the next process; the message id is fresh, the rest is what it was."""
    body = "reply.completed(tests={'status': 'pass'}, payload={'pid': os.getpid()})"
    with agent_of(tmp_path, body) as agent:
        first, second = agent.ask(command()), agent.ask(command())
    with agent_of(tmp_path, body) as agent:
        third = agent.ask(command())

    assert first["payload"] == second["payload"] == third["payload"]
    assert len({e["message_id"] for e in (first, second, third)}) == 3
    assert executions(tmp_path) == ["one"]


def test_a_repeat_says_who_told_first_what_it_cost(tmp_path: Path):
    """Whether that was heard, and so is counted already, only the orchestrator knows."""
    body = "reply.completed(tests={'status': 'pass'}, payload={'usage': {'input_tokens': 7}})"
    with agent_of(tmp_path, body) as agent:
        first, second = agent.ask(command()), agent.ask(command())
    with agent_of(tmp_path, body) as agent:
        third = agent.ask(command())

    assert first["payload"]["usage"] == {"input_tokens": 7}
    assert [e["payload"]["usage"] for e in (second, third)] == [{"input_tokens": 7, "told_by": first["message_id"]}] * 2


def test_open_on_torn_write_of_a_killed_agent(tmp_path: Path):
    """A journal whose last line was torn is used on: the finished work is answered, the torn one done again."""
    body = "reply.completed(tests={'status': 'pass'})"
    with agent_of(tmp_path, body) as agent:
        agent.ask(command())
        agent.ask(command(key="two"))
    path = tmp_path / "state" / "agents" / "builder.journal.ndjson"
    path.write_bytes(path.read_bytes()[:-9])
    with agent_of(tmp_path, body) as agent:
        agent.ask(command())
        agent.ask(command(key="two"))

    assert executions(tmp_path) == ["one", "two", "two"]
    assert [entry["entry"] for entry in journal(tmp_path)][-1] == "finished"


def test_commands_read_before_the_end_of_stdin_are_carried_out(tmp_path: Path):
    """A pipe from a file works: every line is answered, then the agent ends with 0."""
    with mockagent(tmp_path, "builder") as agent:
        agent.send(*(command(key=f"k{n}") for n in range(40)))
        assert agent.finish() == 0
        assert sum(m["kind"] == "event" for m in agent.rest()) == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_work_in_an_orderly_way(tmp_path: Path, number: signal.Signals):
    """Whatever `handle` waits for is interrupted, `finally` and `close` run, and the exit code is 0."""
    body = """
        try:
            reply.progress("begun")
            threading.Event().wait()
        finally:
            Path("cleaned").touch()
    """
    with agent_of(tmp_path, body) as agent:
        agent.send(command())
        agent.event("builder.progress")
        agent.process.send_signal(number)

        assert agent.wait() == 0
        assert [m["event"] for m in agent.rest() if m["kind"] == "event"] == []
    assert (tmp_path / "cleaned").exists()
    assert (tmp_path / "closed").exists()


def test_an_idle_agent_ends_with_stdin(tmp_path: Path):
    """At once, with 0."""
    with agent_of(tmp_path, "pass") as agent:
        assert agent.finish() == 0
    assert (tmp_path / "closed").exists()


def test_an_agent_that_nobody_hears_ends(tmp_path: Path):
    """A heartbeat into a closed pipe ends even a busy agent, with 1 and without a traceback."""
    script = write_agent(tmp_path, "threading.Event().wait()", "builder")
    pipeline = f"{{ {sys.executable} {script}; echo $? >code; }} | :"
    with driven(["sh", "-c", pipeline], tmp_path, LORCH_HEARTBEAT_INTERVAL_S="0.05") as shell:
        shell.send(command())
        assert shell.wait() == 0
        shell.close()

    assert (tmp_path / "code").read_text() == "1\n"
    assert (tmp_path / "closed").exists()
    assert shell.errors == b""


def test_an_agent_whose_parent_died_ends_although_it_is_busy(tmp_path: Path):
    """The end of stdin alone lets it finish its work; when the parent is gone as well, nobody waits for that."""
    script = write_agent(tmp_path, "reply.progress('begun'); threading.Event().wait()", "builder")
    starter = f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, {str(script)!r}], stdin=subprocess.PIPE)
        child.stdin.write(sys.stdin.buffer.readline()); child.stdin.flush()
        sys.stdin.read()
    """
    argv = [sys.executable, "-c", textwrap.dedent(starter)]
    with driven(argv, tmp_path, LORCH_HEARTBEAT_INTERVAL_S="0") as parent:
        parent.send(command())
        parent.event("builder.progress")
        parent.process.kill()

        assert parent.rest() == []
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [([], 2, "usage"), (["--help"], 0, "usage"), (["nobody"], 2, "there is no agent 'nobody'")],
)
def test_the_starter_names_its_agents(tmp_path: Path, argv: list[str], code: int, says: str):
    """Without a name, and with a wrong one, it tells which there are."""
    with driven([sys.executable, "-m", "lorch_actors.agents", *argv], tmp_path) as starter:
        assert starter.wait() == code
        while starter.line() is not None:
            pass
    told = b"".join(starter.lines) + starter.errors
    assert says in told.decode()
    assert b"mockagent,exec" in told


@pytest.mark.parametrize("name", ["minimal_agent.py", "minimal_agent.sh"])
def test_the_minimal_agents_speak_the_protocol(tmp_path: Path, name: str):
    """Every line of them is a message, and each command gets its outcome."""
    program = [sys.executable, "-S"] if name.endswith(".py") else ["sh"]
    with driven([*program, str(FIXTURES / "agents" / name)], tmp_path, LORCH_AGENT_TYPE="builder") as agent:
        answers = [agent.ask(command(key=key)) for key in ("one", "two")]
        assert agent.finish() == 0

    assert [(a["event"], a["correlation_id"], a["task_id"]) for a in answers] == [
        ("builder.completed", "c-one", "T-1"),
        ("builder.completed", "c-two", "T-1"),
    ]
    for line in agent.lines:
        parse_message(line)


def test_what_no_message_may_hold_is_made_readable(tmp_path: Path):
    """A model's words are data: neither a noncharacter nor half a surrogate pair costs a task."""
    body = r"""
        reply.completed(tests={"status": "pass", "summary": "a\uffffb"}, payload={"said": ["\udce9", {"\ufdd0": 1}]})
    """
    with agent_of(tmp_path, body) as agent:
        answer = agent.ask(command())

    assert answer["event"] == "builder.completed"
    assert answer["payload"]["tests"]["summary"] == "a\ufffdb"
    assert answer["payload"]["said"] == ["?", {"\ufffd": 1}]
