"""The scripted agent: plays a script, keeps a journal, misbehaves on demand (SPEC §9).

Without a script, or for an action that its script does not know, it answers as lorch 1.5's mockagent does: tests
pass, the review approves, the spec is updated, one task is proposed. It writes what the command says it has to leave
behind, so that such an answer is a true one.

Every real execution is one `started` line in the journal, synced before anything else happens: counting the lines of
a key counts how often its work was done.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lorch_actors.agents import faults, files
from lorch_actors.agents.base import Agent
from lorch_actors.agents.journal import Started
from lorch_actors.agents.options import count, duration_s, seconds
from lorch_actors.agents.reply import Reply
from lorch_actors.agents.script import Response, Script, Step, load_script, round_of
from lorch_actors.errors import LorchError
from lorch_actors.protocol.messages import TERMINAL_EVENTS, Action, Artifact, Command

if TYPE_CHECKING:
    import argparse


class MockAgent(Agent):
    """An agent that does what a script says.

    review_changes, spec_changes: how often, for each task, the default answer asks for changes first.
    """

    def __init__(
        self, role: str | None, script: Script, *, review_changes: int = 0, spec_changes: int = 0, **settings: Any
    ) -> None:
        super().__init__(role, **settings)
        self._script = script
        self._changes = {Action.REVIEW: review_changes, Action.UPDATE_SPEC: spec_changes}
        if script.start:
            self.may_read.clear()

    def prepare(self) -> None:
        """Do what the script wants done before the first command."""
        if not self._script.start:
            return
        process = self.journal.began()
        due = [step for step in self._script.start if step.times is None or process <= step.times]
        for step in due:
            faults.pause(step.delay_ms)
            faults.AGENT_ACTS[step.type](self, step.fields)
        if not any(step.type == "slow_stdin" for step in due):
            self.may_read.set()

    def handle(self, command: Command, reply: Reply) -> None:
        """Play the response that is due."""
        Performance(self, command, reply).play(self._due(command))

    def check_settled(self, reply: Reply) -> None:
        """Leave a command without an outcome if the script does: silence is one of the faults to rehearse."""

    def is_asking_for_changes(self, command: Command) -> bool:
        """Tell whether the default answer asks for changes."""
        turn = self.journal.position(
            command.idempotency_key, lambda e: e.action == command.action and e.task_id == command.task_id
        )
        return turn < self._changes.get(command.action, 0)

    def _due(self, command: Command) -> Response:
        candidates = self._script.candidates(command.action, command.task_id, round_of(command))

        def takes_the_same_turns(entry: Started) -> bool:
            return entry.action == command.action and candidates == self._script.candidates(
                entry.action, entry.task_id, entry.round
            )

        key = command.idempotency_key
        turn = self.journal.position(key, takes_the_same_turns)
        response = self._script.choose(command, turn, self.journal.executions(key))
        return response or Response(steps=(Step("default"),))


class Performance:
    """One response being played for one command."""

    def __init__(self, agent: MockAgent, command: Command, reply: Reply) -> None:
        self.agent = agent
        self.reply = reply
        self.written: dict[str, Artifact] = {}
        self.last_sent: dict[str, Any] | None = None
        self.disguise: Mapping[str, Any] | None = None
        self._is_refused = False
        self._command = command
        self._execution = agent.journal.executions(command.idempotency_key)

    def play(self, response: Response) -> None:
        """Carry out every step in order."""
        faults.pause(response.delay_ms)
        if response.error is not None:
            self._send("error", payload=response.error)
            return
        for step in _with_outcome(response.steps):
            if self._is_refused:
                return
            if step.times is None or self._execution <= step.times:
                faults.pause(step.delay_ms)
                self._carry_out(step)

    def _carry_out(self, step: Step) -> None:
        if step.type == "write":
            self._write(step.fields["path"], step.fields["content"])
        elif step.type == "ask":
            self._ask(step.fields)
        elif step.type == "default":
            self._default()
        elif step.type in faults.AGENT_ACTS:
            faults.AGENT_ACTS[step.type](self.agent, step.fields)
        elif step.type in faults.COMMAND_ACTS:
            faults.COMMAND_ACTS[step.type](self, step.fields)
        else:
            self._send(step.type, **step.fields)

    def _write(self, path: str, content: str) -> None:
        self.written[path] = files.write(self.agent.workspace, path, content.encode("utf-8", "surrogatepass"))

    def _ask(self, fields: Mapping[str, Any]) -> None:
        """Ask for leave; a refusal ends the command, unless the script goes on all the same."""
        tool = fields.get("tool", "Bash")
        answer = self.reply.ask(tool, fields.get("input", {}), message=fields.get("message", ""))
        if answer.is_allowed or fields.get("denied") == "go_on":
            return
        self._is_refused = True
        message = f"{tool} was denied: {answer.reason}"
        self._send("error", payload={"code": "permission_denied", "message": message, "retryable": False})

    def _default(self) -> None:
        for output in self._command.expected_outputs:
            if output.required and not files.exists(self.agent.workspace, output.path):
                self._write(output.path, f'"written by the mockagent for {self._command.task_id}"\n')
        wants_changes = self.agent.is_asking_for_changes(self._command)
        self._send(**_DEFAULTS[self._command.action, wants_changes])

    def _send(self, event: str, *, status: Any = None, payload: Any = None, artifacts: Any = None) -> None:
        """Send an event as the script has it, right or wrong; claims on written files come along with its end."""
        is_terminal = event in TERMINAL_EVENTS
        if is_terminal and self.written:
            given = artifacts if isinstance(artifacts, list) else []
            named = {claim.get("path") for claim in given if isinstance(claim, dict)}
            artifacts = given + [msgspec.to_builtins(c) for path, c in self.written.items() if path not in named]
        document = self.reply.document(event, status=status, payload=payload, artifacts=artifacts)
        if self.disguise is not None:
            document, self.disguise = faults.disguised(document, self.disguise), None
            self.agent.voice.send(document)
        elif is_terminal and not self.reply.is_settled:
            self.reply.settle(document)
        else:
            self.agent.voice.send(document)
        self.last_sent = document


def _with_outcome(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps; if none of them says anything, the default outcome comes last. No steps at all stay none."""
    is_mute = bool(steps) and all(step.is_act and step.type != "default" for step in steps)
    return (*steps, Step("default")) if is_mute else steps


_COMPLETED = {
    "event": "builder.completed",
    "status": "success",
    "payload": {"tests": {"status": "pass", "summary": "Mock tests passed"}},
}
_PROPOSED = {
    "event": "orchestration.proposed_tasks",
    "payload": {
        "plan_candidates": [{"path": "PLAN.md", "confidence": 0.9}],
        "derived_tasks": [{"id": "T-001", "title": "Mock task"}],
    },
}
_DEFAULTS: dict[tuple[Action, bool], dict[str, Any]] = {
    (Action.IMPLEMENT, False): _COMPLETED,
    (Action.IMPLEMENT_CHANGES, False): _COMPLETED,
    (Action.REVIEW, False): {
        "event": "review.completed",
        "status": "approved",
        "payload": {"summary": "Mock review approved"},
    },
    (Action.REVIEW, True): {
        "event": "review.completed",
        "status": "changes_requested",
        "payload": {"summary": "Mock review asks for changes"},
    },
    (Action.UPDATE_SPEC, False): {
        "event": "spec.updated",
        "status": "success",
        "payload": {"summary": "Mock spec updated"},
    },
    (Action.UPDATE_SPEC, True): {
        "event": "spec.changes_requested",
        "status": "success",
        "payload": {"summary": "Mock spec asks for changes"},
    },
    (Action.INTAKE, False): _PROPOSED,
    (Action.TASK_DISCOVERY, False): _PROPOSED,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mockagent``; return its exit code."""
    options = _parser().parse_args(argv)
    try:
        agent = MockAgent(
            options.type,
            load_script(options.script) if options.script else Script(),
            review_changes=options.review_changes_count,
            spec_changes=options.spec_changes_count,
            agent_id=options.id,
            journal=options.journal,
            heartbeat_interval_s=0 if options.no_heartbeat else options.heartbeat_interval_s,
        )
        return agent.main()
    except LorchError as error:
        print(f"mockagent: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> "argparse.ArgumentParser":
    import argparse

    parser = argparse.ArgumentParser(prog="mockagent", description="A scripted agent.", allow_abbrev=False)

    def add(name: str, **settings: Any) -> None:
        # lorch 1.5 wrote these with one dash; both are understood, so that its configuration works unchanged.
        parser.add_argument(f"--{name}", f"-{name}", **settings)

    add("type", metavar="ROLE", help="builder, reviewer, spec_maintainer or orchestration")
    add("script", type=Path, metavar="FILE", help="what to answer; see fixtures/README.md")
    add("id", metavar="ID", help="agent id (default: made from role and pid)")
    add("journal", type=Path, metavar="FILE", help="default: state/agents/ROLE.journal.ndjson")
    add("heartbeat-interval-s", type=seconds, metavar="S", help="default: 10; 0 sends none")
    add("heartbeat-interval", dest="heartbeat_interval_s", type=duration_s, metavar="D", help="500ms, 10s, 1m30s")
    add("no-heartbeat", action="store_true", help="send no heartbeats")
    add("review-changes-count", type=count, default=0, metavar="N", help="ask for changes N times a task, then approve")
    add("spec-changes-count", type=count, default=0, metavar="N", help="ask for changes N times a task, then update")
    return parser
