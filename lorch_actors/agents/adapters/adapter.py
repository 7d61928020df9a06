"""The agent around a foreign CLI: a command of ours becomes turns of it, what came of them becomes our event.

What counts is looked at, not believed: artifacts are what changed in the tree, tests are run here, a verdict is
validated here. After a crash the CLI's own session goes on, told what the tree looks like now.
"""

import time
from typing import Any, Final

from lorch_actors import processes
from lorch_actors.agents import outputs, running
from lorch_actors.agents.adapters import prompts, verdict
from lorch_actors.agents.adapters.client import Client
from lorch_actors.agents.adapters.conversation import Conversation, Said
from lorch_actors.agents.adapters.outcome import Kind, Outcome
from lorch_actors.agents.adapters.settings import Places, Settings
from lorch_actors.agents.adapters.verdict import InvalidVerdict, Review, SpecVerdict
from lorch_actors.agents.base import Agent
from lorch_actors.agents.exec_config import Argv
from lorch_actors.agents.forwarding import Digest
from lorch_actors.agents.reply import Reply, now_ms
from lorch_actors.agents.running import NotStartable, readable
from lorch_actors.agents.tree import Tree
from lorch_actors.protocol.messages import Artifact, Command
from lorch_actors.protocol.times import from_timestamp

_SUMMARY_MAX_CHARS: Final = 4000
_MARGIN_MAX_S: Final = 10.0
"""So much of the time of a command, at most, is kept for ending the CLI and saying so before the deadline passes."""


class Adapter(Agent):
    """An agent that has its work done by a foreign CLI."""

    finish_on_eof = False

    def __init__(self, role: str | None, client: Client, settings: Settings, **agent: Any) -> None:
        super().__init__(role, **agent)
        self.client = client
        self.settings = settings
        private = self.workspace / "state" / "agents"
        self.inputs_file = private / f"{self.role}.inputs.json"
        self.tree = Tree(self.workspace, settings.include, settings.exclude, private / f"{self.role}.baseline.json")

    def prepare(self) -> None:
        """Become the parent of whatever the CLI leaves behind, so that it can be ended."""
        processes.set_child_subreaper()

    def close(self) -> None:
        """Leave no process behind."""
        running.end_everything()

    def handle(self, command: Command, reply: Reply) -> None:
        """Have the command done and say what came of it."""
        if self.role == "orchestration":
            reply.error("wrong_role", "an adapter plays builder, reviewer or spec_maintainer, not orchestration")
            return
        try:
            getattr(_Work(self, command, reply), self.role)()
        except NotStartable as error:
            reply.error("command_not_startable", f"{error}\n  Install it: {self.client.install}")


class _Work:
    """One command being carried out. A method for each role."""

    def __init__(self, adapter: Adapter, command: Command, reply: Reply) -> None:
        self._adapter = adapter
        self._settings = adapter.settings
        self._command = command
        self._reply = reply
        self._baseline = adapter.tree.baseline(command.idempotency_key)
        self._environment = outputs.environment(command, adapter.inputs_file)
        self._executions = adapter.journal.executions(command.idempotency_key)
        self._talk = Conversation(
            adapter.client,
            adapter.settings,
            Places.of(adapter.workspace, adapter.role, command, self._executions),
            adapter.journal,
            command.idempotency_key,
            self._environment,
            time.monotonic() + _time_s(command, adapter.settings.timeout_s),
            self._tell,
            reply.ask,
            adapter.active,
            command.budget.usd if command.budget else None,
        )

    def builder(self) -> None:
        """Have files changed, then run the tests."""
        said = self._ask()
        if said.outcome.kind is not Kind.DONE:
            self._fail(said.outcome)
            return
        tests = self._tests()
        if tests is None:
            return
        claims, payload = self._changes()
        self._reply.completed(
            tests=tests, artifacts=claims, payload={"summary": _summary(said), **payload, **self._usage()}
        )

    def reviewer(self) -> None:
        """Have the changes judged."""
        found = self._verdict(Review)
        if found is None:
            return
        claims, _ = self._changes()
        payload = {**verdict.as_payload(found), **self._usage()}
        if found.verdict == "approved":
            self._reply.approved(found.summary, artifacts=claims, **payload)
        else:
            note = self._note("reviews", found)
            self._reply.changes_requested(found.summary, artifacts=[*claims, note], **payload)

    def spec_maintainer(self) -> None:
        """Have the specification brought up to date. Whether it was changed is seen in the tree."""
        found = self._verdict(SpecVerdict)
        if found is None:
            return
        claims, changed = self._changes()
        payload = {**verdict.as_payload(found), **self._usage()}
        if found.verdict == "changes_requested":
            note = self._note("spec_notes", found)
            self._reply.spec_changes_requested(found.summary, artifacts=[*claims, note], **payload)
        elif claims or changed:
            self._reply.spec_updated(found.summary, artifacts=claims, **changed, **payload)
        else:
            self._reply.spec_no_changes_needed(found.summary, **payload)

    def _ask(self, schema: bytes | None = None) -> Said:
        """Have the first turn of this execution: a new session, or the one that broke off."""
        earlier = self._talk.session() if self._executions > 1 else None
        values = self._values()
        original = self._fill(self._command.action.value, values)
        prompt = original if earlier is None else self._fill("resumed", {**values, "original": original})
        said = self._have(prompt, earlier, schema)
        if earlier is not None and said.outcome.is_session_lost:
            self._reply.log(f"session {earlier} cannot go on, a new one begins", reason=said.outcome.message)
            said = self._have(self._fill(self._command.action.value, self._values()), None, schema)
        return said

    def _verdict(self, wanted: type[verdict.V]) -> verdict.V | None:
        """Return the verdict; ask once more when it is not valid; end the command and return None without one."""
        schema = verdict.schema_of(wanted)
        said = self._ask(schema)
        for is_last in (False, True):
            if said.outcome.kind is not Kind.DONE:
                self._fail(said.outcome)
                return None
            try:
                return verdict.parse(said.answer, wanted)
            except InvalidVerdict as error:
                reason = str(error)
            if not is_last:
                self._reply.log("the verdict is not valid and is asked for once more", reason=reason)
                again = self._fill("invalid_verdict", {"reason": reason, "schema": schema.decode()})
                said = self._have(again, self._talk.session(), schema)
        self._talk.forget()
        self._reply.error(
            "invalid_verdict", f"{self._adapter.client.name}: asked twice, no valid verdict: {reason}", retryable=True
        )
        return None

    def _have(self, prompt: str, resume: str | None, schema: bytes | None) -> Said:
        may_write = self._adapter.role != "reviewer"
        return self._talk.have(prompt, resume=resume, may_write=may_write, schema=schema)

    def _fail(self, outcome: Outcome) -> None:
        payload = outcome.as_error(self._adapter.client.name) | self._usage()
        if outcome.kind in {Kind.RATE_LIMITED, Kind.USAGE_LIMITED}:
            payload["account"] = self._adapter.client.account(self._environment)
        self._reply.error(**payload)

    def _tests(self) -> dict[str, Any] | None:
        """Run the tests; return ``payload.tests``, or end the command and return None when they take too long."""
        argv = self._settings.tests
        if argv is None:
            return {"status": "pass", "summary": "no test command is configured, so nothing was checked"}
        self._reply.progress(f"running {outputs.shown(argv)}")
        ended = self._run_tests(argv)
        if ended.exit_code is None:
            self._reply.error(
                "command_timeout", f"{outputs.shown(argv)} was not through in time", retryable=True, **self._usage()
            )
            return None
        return outputs.tests_of(argv, ended)

    def _run_tests(self, argv: Argv) -> running.Ended:
        digest = Digest(self._tell_lines)
        ended = running.run(
            argv,
            cwd=self._adapter.workspace,
            env=self._environment,
            timeout_s=self._talk.left_s,
            hear=digest.feed,
        )
        digest.close()
        return ended

    def _tell_lines(self, text: str, left_out: int) -> None:
        fields: dict[str, Any] = {"lines_left_out": left_out} if left_out else {}
        self._reply.log(text, **fields)

    def _values(self) -> dict[str, str]:
        found = self._adapter.tree.changes_since(self._baseline)
        values = prompts.values_of(self._command, self._settings.include, self._settings.tests)
        return values | {"so_far": prompts.so_far([claim.path for claim in found.artifacts], found.removed)}

    def _fill(self, name: str, values: dict[str, str]) -> str:
        return prompts.fill(self._adapter.workspace, name, values)

    def _changes(self) -> tuple[list[Artifact], dict[str, Any]]:
        return outputs.changes(self._adapter.workspace, self._adapter.tree, self._baseline, self._command)

    def _note(self, directory: str, found: verdict.Verdict) -> Artifact:
        findings = {"summary": found.summary, **verdict.as_payload(found)}
        return outputs.note(self._adapter.workspace, self._command, directory, findings)

    def _usage(self) -> dict[str, Any]:
        used = self._talk.usage.as_payload()
        return {"usage": used} if used else {}

    def _tell(self, text: str) -> None:
        self._reply.progress(readable(text.encode("utf-8", "replace")))


def _summary(said: Said) -> str:
    return readable(said.answer[:_SUMMARY_MAX_CHARS].encode("utf-8", "replace"))


def _time_s(command: Command, timeout_s: float | None) -> float:
    """Return how long the work may take: until shortly before the deadline, or as configured if that is less."""
    left_s = max(0.0, (from_timestamp(command.deadline) - now_ms()) / 1000)
    left_s -= min(_MARGIN_MAX_S, left_s / 10)
    return left_s if timeout_s is None else min(left_s, timeout_s)
