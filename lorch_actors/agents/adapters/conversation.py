"""The turns that one command takes with one CLI: run, spooled, read and judged, with session and usage journaled."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from lorch_actors.agents.adapters import foreign
from lorch_actors.agents.adapters.client import Client, Turn
from lorch_actors.agents.adapters.foreign import Cause, Ears, Ended, Limits
from lorch_actors.agents.adapters.outcome import Kind, Outcome, Usage
from lorch_actors.agents.adapters.reader import Ask, Reader, Tell
from lorch_actors.agents.adapters.settings import Places, Settings
from lorch_actors.agents.adapters.spool import Spool
from lorch_actors.agents.journal import Journal
from lorch_actors.errors import LorchError
from lorch_actors.protocol.framing import LineReader
from lorch_actors.protocol.redaction import Redactor

_MIB: Final = 1 << 20


class Said(Struct, frozen=True):
    """What came of a turn, and what the model said last."""

    outcome: Outcome
    answer: str


class Conversation:
    """All turns of one execution of one command.

    key: the idempotency key. environment: of the CLI. until_s: monotonic time at which it has to be over. tell: takes
    a sentence on what the CLI does. ask: asks a person for leave. active: called at every sign of life. budget_usd:
    what all turns together may cost at most, in US dollars.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        places: Places,
        journal: Journal,
        key: str,
        environment: dict[str, str],
        until_s: float,
        tell: Tell,
        ask: Ask,
        active: Callable[[], None],
        budget_usd: float | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._places = places
        self._journal = journal
        self._key = key
        self._environment = environment
        self._limits = Limits(until_s, settings.silence_s)
        self._tell = tell
        self._ask = ask
        self._active = active
        self._budget_usd = budget_usd
        self._turns = 0
        self._redactor = Redactor(environment)
        self.usage = Usage()
        """What these turns used, as far as that is known and was not told before."""

    @property
    def left_s(self) -> float:
        """How many seconds are left."""
        return max(0.0, self._limits.until_s - time.monotonic())

    def session(self) -> str | None:
        """Return the session of this command that may be resumed."""
        known = self._journal.session(self._key)
        return known.session_id if known else None

    def forget(self) -> None:
        """See to it that the session is not resumed any more."""
        if self.session() is not None:
            self._journal.met_session(self._key, "")

    def have(self, prompt: str, *, resume: str | None, may_write: bool, schema: bytes | None = None) -> Said:
        """Have a turn; raise NotStartable if the CLI cannot be executed, LorchError if it cannot be ended."""
        self._turns += 1
        turn = self._turn(prompt, resume, schema, may_write=may_write)
        reader = self._client.reader(turn, self._tell, self._ask)
        ended = self._run(turn, reader)
        self._settle_usage(turn, reader)
        outcome = self._judge(ended, reader)
        if outcome.is_session_lost:
            self.forget()
        return Said(outcome, reader.answer)

    def _turn(self, prompt: str, resume: str | None, schema: bytes | None, *, may_write: bool) -> Turn:
        schema_file = self._places.home / "verdict.schema.json"
        turn = Turn(
            prompt=prompt,
            workspace=self._places.workspace,
            home=self._places.home,
            resume=resume,
            may_write=may_write,
            schema=schema_file if schema else None,
            budget_usd=self._left_usd(),
            model=self._settings.model,
            permissions=self._settings.permissions,
            tests=self._settings.tests,
            extra=self._settings.extra,
        )
        files = self._client.settings(turn) | ({schema_file.name: schema} if schema else {})
        self._places.furnish(self._client, files, self._environment)
        return turn

    def _left_usd(self) -> float | None:
        return None if self._budget_usd is None else max(0.0, self._budget_usd - (self.usage.cost_usd or 0.0))

    def _run(self, turn: Turn, reader: Reader) -> Ended:
        errors = LineReader()
        stdout = Spool(self._spool_path("stdout"), self._redactor)
        stderr = Spool(self._spool_path("stderr"), self._redactor)
        session: str | None = None

        def hear(line: bytes) -> bytes:
            nonlocal session
            answer = _hear(reader, line)
            if reader.session_id is not None and reader.session_id != session:
                session = reader.session_id
                self._meet(session)
            return answer

        def heard(data: bytes) -> None:
            self._active()
            stdout.feed(data)

        def overheard(data: bytes) -> None:
            self._active()
            stderr.feed(data)
            for line in errors.feed(data):
                if isinstance(line, bytes):
                    reader.overhear(line.decode("utf-8", "replace"))

        try:
            return foreign.run(
                [self._settings.program, *self._client.argv(turn)],
                cwd=self._places.workspace,
                env={**self._environment, **self._client.environment(turn)},
                opening=self._client.opening(turn),
                is_talk=self._client.is_talk(turn),
                ears=Ears(hear, lambda: reader.is_over, lambda: reader.waits is not None, heard, overheard),
                limits=self._limits,
            )
        finally:
            stdout.close()
            stderr.close()

    def _spool_path(self, stream: str) -> Path:
        return self._places.spool.with_name(f"{self._places.spool.name}-{self._turns}.{stream}")

    def _meet(self, session_id: str) -> None:
        known = self._journal.session(self._key)
        if known is None or known.session_id != session_id:
            self._journal.met_session(self._key, session_id)

    def _settle_usage(self, turn: Turn, reader: Reader) -> None:
        """Count what is new, and write down how much of the session is counted by now."""
        known = self._journal.session(self._key)
        counted = Usage()
        if known is not None and turn.resume == known.session_id:
            counted = msgspec.convert(known.usage, Usage)
        new = reader.usage.since(counted, self._client.cumulative)
        self.usage = self.usage.plus(new)
        if known is not None and new != Usage():
            self._journal.met_session(self._key, known.session_id, counted.plus(new).as_payload())

    def _judge(self, ended: Ended, reader: Reader) -> Outcome:
        """Say what came of a turn. How its process ended goes before anything that its stream says."""
        if ended.survivors:
            raise LorchError(
                f"processes that {self._client.name} started cannot be ended: {', '.join(map(str, ended.survivors))}",
                remedy="Until they are gone, nobody knows what they do to the workspace: end them, then resume.",
            )
        if ended.cause is Cause.TIME_UP:
            return Outcome(Kind.HUNG, "was still at it when the time of the command was up")
        if ended.cause is Cause.SILENT:
            return Outcome(Kind.HUNG, f"printed nothing for {self._settings.silence_s:g} s")
        if ended.cause is Cause.WAITS:
            assert reader.waits is not None
            return reader.waits
        if ended.was_killed:
            return Outcome(Kind.KILLED, f"was killed: exit code {ended.exit_code}")
        outcome = reader.outcome(ended.exit_code or 0, self._redactor.text(ended.errors))
        if outcome.kind is Kind.CRASHED and ended.oversize_lines:
            lost = f"{outcome.message}; {ended.oversize_lines} lines over {foreign.LINE_MAX_BYTES // _MIB} MiB"
            where = os.path.relpath(self._spool_path("stdout"), self._places.workspace)
            return msgspec.structs.replace(outcome, message=f"{lost} were not read, {where} has them")
        return outcome


def _hear(reader: Reader, line: bytes) -> bytes:
    """Give a line to the reader if it is an event; what else a CLI prints on stdout is in the spool."""
    try:
        event = msgspec.json.decode(line.decode("utf-8", "replace"))  # one bad byte in a tool's output loses no event
    except (msgspec.DecodeError, RecursionError):
        return b""
    return reader.hear(event) if isinstance(event, dict) else b""
