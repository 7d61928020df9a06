"""The agent made of ordinary commands (SPEC §9): the whole loop for real, without any model.

What a command's exit code means, by role: for a builder 0 is done (then `tests` decide), for a reviewer 0 approves,
for a spec maintainer 0 says that the specification is right now; anything else is tests failed or changes requested,
with the end of the output as findings. For the orchestration role the command prints the payload of
``orchestration.proposed_tasks`` as JSON on stdout.

Artifacts are what changed in the tree; nobody's word is taken for it. A command finds in its environment:
LORCH_ACTION, LORCH_TASK_ID, LORCH_ROUND, LORCH_GOAL, LORCH_REQUEST (what was asked to be changed), LORCH_REQUESTED_BY,
LORCH_SNAPSHOT_ID, LORCH_IDEMPOTENCY_KEY and LORCH_INPUTS, the path of a JSON file with all inputs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lorch_actors import processes
from lorch_actors.agents import outputs, running
from lorch_actors.agents.base import Agent
from lorch_actors.agents.exec_config import Argv, ExecConfig, configure
from lorch_actors.agents.forwarding import Digest
from lorch_actors.agents.options import seconds
from lorch_actors.agents.reply import Reply
from lorch_actors.agents.running import Ended, NotStartable
from lorch_actors.agents.tree import Baseline, Tree
from lorch_actors.errors import LorchError
from lorch_actors.protocol.messages import Artifact, Command

if TYPE_CHECKING:
    import argparse

_PAYLOAD_MAX_BYTES: Final = 200_000


class ExecAgent(Agent):
    """An agent that runs commands."""

    finish_on_eof = False

    def __init__(self, role: str | None, config: ExecConfig, **settings: Any) -> None:
        super().__init__(role, **settings)
        self._config = config
        private = self.workspace / "state" / "agents"
        self._inputs_file = private / f"{self.role}.inputs.json"
        self._tree = Tree(self.workspace, config.include, config.exclude, private / f"{self.role}.baseline.json")

    def prepare(self) -> None:
        """Become the parent of whatever a command leaves behind, so that it can be ended."""
        processes.set_child_subreaper()

    def close(self) -> None:
        """Leave no process behind."""
        running.end_everything()

    def handle(self, command: Command, reply: Reply) -> None:
        """Run what is configured for the action and say what came of it."""
        argv = self._config.command(command.action)
        if argv is None:
            reply.error(
                "no_command",
                f"no command is configured for {command.action}: name one with --on {command.action}='…'",
            )
            return
        baseline = self._tree.baseline(command.idempotency_key)
        try:
            task = _Task(self, command, reply, baseline, outputs.environment(command, self._inputs_file))
            getattr(task, self.role)(argv)
        except NotStartable as error:
            reply.error("command_not_startable", f"{error}; install it, or correct the agent's command line")

    @property
    def config(self) -> ExecConfig:
        """What to run."""
        return self._config

    @property
    def tree(self) -> Tree:
        """The tracked files."""
        return self._tree


class _Task:
    """One command being carried out. A method for each role."""

    def __init__(
        self, agent: ExecAgent, command: Command, reply: Reply, baseline: Baseline, environment: dict[str, str]
    ) -> None:
        self._agent = agent
        self._command = command
        self._reply = reply
        self._baseline = baseline
        self._environment = environment

    def builder(self, argv: Argv) -> None:
        """Run the command, then the tests if it succeeded."""
        ended = self._run(argv)
        ran, what = ended, argv
        if ended.is_success and self._agent.config.tests is not None:
            what = self._agent.config.tests
            ran = self._run(what)
        if ran.exit_code is None:
            self._time_is_up(what)
            return
        claims, payload = self._changes()
        self._reply.completed(
            tests=outputs.tests_of(what, ran),
            artifacts=claims,
            payload={"summary": outputs.summary(argv, ended), **payload},
        )

    def reviewer(self, argv: Argv) -> None:
        """Run the command: exit code 0 approves."""
        ended = self._run(argv)
        if ended.exit_code is None:
            self._time_is_up(argv)
        elif ended.is_success:
            self._reply.approved(outputs.summary(argv, ended), artifacts=self._changes()[0])
        else:
            findings = self._findings(argv, ended)
            note = self._note("reviews", findings)
            self._reply.changes_requested(
                outputs.summary(argv, ended), artifacts=[*self._changes()[0], note], **findings
            )

    def spec_maintainer(self, argv: Argv) -> None:
        """Run the command: exit code 0 says that the specification is right now."""
        ended = self._run(argv)
        claims, payload = self._changes()
        summary = outputs.summary(argv, ended)
        if ended.exit_code is None:
            self._time_is_up(argv)
        elif not ended.is_success:
            findings = self._findings(argv, ended)
            note = self._note("spec_notes", findings)
            self._reply.spec_changes_requested(summary, artifacts=[*claims, note], **findings)
        elif claims or payload:
            self._reply.spec_updated(summary, artifacts=claims, **payload)
        else:
            self._reply.spec_no_changes_needed(summary)

    def orchestration(self, argv: Argv) -> None:
        """Run the command: it prints the tasks that it proposes."""
        ended = self._run(argv, tail_bytes=_PAYLOAD_MAX_BYTES, stdout_only=True)
        if ended.exit_code is None:
            self._time_is_up(argv)
            return
        payload = _object(ended.tail) if ended.output_bytes <= _PAYLOAD_MAX_BYTES else None
        if ended.is_success and payload is not None:
            self._reply.proposed_tasks(payload)
            return
        reason = "its output is not one JSON object" if ended.is_success else ended.tail[-running.TAIL_BYTES :]
        self._reply.error("command_failed", f"{outputs.summary(argv, ended)}: {reason}")

    def _run(self, argv: Argv, *, tail_bytes: int = running.TAIL_BYTES, stdout_only: bool = False) -> Ended:
        self._reply.progress(f"running {outputs.shown(argv)}")
        digest = Digest(self._tell)
        ended = running.run(
            argv,
            cwd=self._agent.workspace,
            env=self._environment,
            timeout_s=self._agent.config.timeout_s,
            hear=digest.feed,
            tail_bytes=tail_bytes,
            stdout_only=stdout_only,
        )
        digest.close()
        return ended

    def _tell(self, text: str, left_out: int) -> None:
        fields: dict[str, Any] = {"lines_left_out": left_out} if left_out else {}
        self._reply.log(text, **fields)

    def _time_is_up(self, argv: Argv) -> None:
        timeout_s = self._agent.config.timeout_s
        self._reply.error("command_timeout", f"{outputs.shown(argv)} took longer than {timeout_s:g} s", retryable=True)

    def _changes(self) -> tuple[list[Artifact], dict[str, Any]]:
        return outputs.changes(self._agent.workspace, self._agent.tree, self._baseline, self._command)

    def _note(self, directory: str, findings: dict[str, Any]) -> Artifact:
        return outputs.note(self._agent.workspace, self._command, directory, findings)

    def _findings(self, argv: Argv, ended: Ended) -> dict[str, Any]:
        return {"command": list(argv), "exit_code": ended.exit_code, "findings": ended.tail}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lorch-agent exec``; return its exit code."""
    options = _parser().parse_args(argv)
    try:
        config = configure(options.config, options.on, options.tests, options.timeout_s, options.include)
        agent = ExecAgent(
            options.type,
            config,
            agent_id=options.id,
            journal=options.journal,
            heartbeat_interval_s=options.heartbeat_interval_s,
        )
        agent.finish_on_eof = options.finish_on_eof
        return agent.main()
    except LorchError as error:
        print(f"exec: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> "argparse.ArgumentParser":
    import argparse

    parser = argparse.ArgumentParser(
        prog="lorch-agent exec", description="An agent made of ordinary commands.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--type", metavar="ROLE", help="builder, reviewer, spec_maintainer or orchestration")
    add("--on", action="append", default=[], metavar="ACTION=COMMAND", help="what to run for an action; repeatable")
    add("--tests", metavar="COMMAND", help="what decides a builder's result")
    add("--config", type=Path, metavar="FILE", help="commands, tests, timeout_s, include, exclude as JSON")
    add("--timeout-s", type=seconds, metavar="S", help="end a command after that long (default: never)")
    add("--include", action="append", default=[], metavar="DIR", help="tracked files (default: specs src tests docs)")
    add("--id", metavar="ID", help="agent id (default: made from role and pid)")
    add("--journal", type=Path, metavar="FILE", help="default: state/agents/ROLE.journal.ndjson")
    add("--heartbeat-interval-s", type=seconds, metavar="S", help="default: 10; 0 sends none")
    add("--finish-on-eof", action="store_true", help="at the end of stdin finish the work, do not drop it")
    return parser
