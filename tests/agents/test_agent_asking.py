"""An agent that asks for leave waits for the answer, and is refused when nobody can answer any more."""

import threading
from pathlib import Path

import pytest
from agent_driving import command, mockagent

from lorch_actors.agents.approvals import Approvals
from lorch_actors.protocol.messages import AgentType, Event, Sender

ASK = {"type": "ask", "tool": "Bash", "input": {"command": "make"}, "message": "to see it build"}


def answer_to(request: dict, decision: str, **changes) -> dict:
    """Return the orchestrator's answer, as it stands in the ledger."""
    payload = {"approval_id": "ap-1", "agent_type": "builder", "agent_id": "b", "decision": decision, "by": "operator"}
    return {
        "kind": "event",
        "message_id": "sys-1",
        "correlation_id": request["correlation_id"],
        "task_id": request["task_id"],
        "from": {"agent_type": "system"},
        "event": "system.approval_answered",
        "payload": payload | {"request_id": request["payload"]["request_id"], "reason": "because"},
        "occurred_at": "2026-01-01T00:00:00Z",
    } | changes


@pytest.mark.parametrize(
    ("decision", "step", "event", "code"),
    [
        ("allow", {}, "builder.completed", None),
        ("deny", {}, "error", "permission_denied"),
        ("deny", {"denied": "go_on"}, "builder.completed", None),
    ],
)
def test_the_answer_on_stdin_decides(tmp_path: Path, decision: str, step: dict, event: str, code: str | None):
    """Asked in the middle of a command, answered on stdin; an answer to something else is reported and passed over."""
    with mockagent(tmp_path, "builder", {"responses": {"implement": {"events": [ASK | step]}}}) as agent:
        request = agent.ask(command())
        told = {name: value for name, value in request["payload"].items() if name != "request_id"}
        agent.send(answer_to(request, decision, event="system.run_resumed"), answer_to(request, decision))
        outcome = agent.event()

        assert request["event"] == "approval.requested"
        assert told == {"tool": "Bash", "input": {"command": "make"}, "message": "to see it build"}
        assert (outcome["event"], outcome["payload"].get("code")) == (event, code)
        assert agent.finish() == 0


@pytest.mark.parametrize("step", [ASK, ASK | {"denied": "go_on"}])
def test_the_end_of_stdin_is_no_answer(tmp_path: Path, step: dict):
    """Nobody has said no: the agent ends without an outcome, and the command is there to be given again."""
    with mockagent(tmp_path, "builder", {"responses": {"implement": {"events": [step]}}}) as agent:
        agent.ask(command())
        agent.process.stdin.close()

        assert [message["event"] for message in agent.rest() if message["kind"] == "event"] == []
        assert agent.wait() == 0


def test_several_requests_are_answered_each_by_its_own():
    """From whatever thread, in whatever order; answers that nobody waits for harm nobody."""
    approvals = Approvals()
    places = {name: approvals.expect(name) for name in ("r-1", "r-2")}
    found = {}
    threads = [threading.Thread(target=lambda n=name: found.update({n: places[n].get()})) for name in places]
    for thread in threads:
        thread.start()
    for name, decision in (("r-3", "allow"), ("r-2", "allow"), ("r-1", "deny"), ("r-1", "allow")):
        payload = {"request_id": name, "decision": decision}
        approvals.take(
            Event(
                message_id="m",
                correlation_id="c",
                task_id="T-1",
                sender=Sender(AgentType.SYSTEM),
                event="system.approval_answered",
                payload=payload,
                occurred_at="2026-01-01T00:00:00Z",
            )
        )
    for thread in threads:
        thread.join(10)

    assert {name: answer.is_allowed for name, answer in found.items()} == {"r-1": False, "r-2": True}
