"""What the mockagent can do wrong on demand (SPEC §9). Each act is one function; scripts name them by `type`."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from lorch_actors.agents import files
from lorch_actors.agents.base import Agent
from lorch_actors.agents.reply import Reply, fresh_id, now_ms
from lorch_actors.protocol.messages import MESSAGE_MAX_BYTES, Artifact
from lorch_actors.protocol.times import to_timestamp

_CHUNK: Final = b"x" * 65536

Fields = Mapping[str, Any]


class Answering(Protocol):
    """What an act may touch within the answer to a command.

    written: the claims on files so far, by path. last_sent: the last event. disguise: how to falsify the next one.
    """

    reply: Reply
    written: dict[str, Artifact]
    last_sent: dict[str, Any] | None
    disguise: Fields | None

    @property
    def agent(self) -> Agent:
        """Who answers."""
        ...


def pause(for_ms: int | None) -> None:
    """Wait; None is for ever. Ended by SIGTERM."""
    if for_ms is None:
        threading.Event().wait()
    elif for_ms > 0:
        time.sleep(for_ms / 1000)


def exit_now(_agent: Agent, fields: Fields) -> None:
    """End the process at once, with `code` (1)."""
    os._exit(fields.get("code", 1))


def kill(_agent: Agent, _fields: Fields) -> None:
    """End the process as the kernel would when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_agent: Agent, fields: Fields) -> None:
    """Stand still for `for_ms` (for ever), heartbeats going on. `stubborn`: SIGTERM is ignored, too."""
    if fields.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pause(fields.get("for_ms"))


def stop_heartbeat(agent: Agent, _fields: Fields) -> None:
    """Send no heartbeat any more."""
    agent.silenced.set()


def garbage(agent: Agent, fields: Fields) -> None:
    """Print `text` on `lines` (1) lines; by default something that is no JSON."""
    line = fields.get("text", "this line is not JSON: {").encode("utf-8", "surrogatepass") + b"\n"
    for _ in range(fields.get("lines", 1)):
        agent.outlet.send_bytes(line)


def oversize(agent: Agent, fields: Fields) -> None:
    """Print one line of `bytes` (one more than allowed); with `newline` false it never ends."""
    left = fields.get("bytes", MESSAGE_MAX_BYTES + 1)
    while left > 0:
        piece = _CHUNK[:left]
        left -= len(piece)
        if left == 0 and fields.get("newline", True):
            piece += b"\n"
        agent.outlet.send_bytes(piece)


def close_stdout(agent: Agent, _fields: Fields) -> None:
    """Close stdout and live on; nothing said from now on is heard."""
    agent.outlet.discard()


def slow_stdin(agent: Agent, fields: Fields) -> None:
    """Read no stdin for `for_ms` (for ever)."""
    agent.may_read.clear()
    for_ms = fields.get("for_ms")
    if for_ms is not None:
        timer = threading.Timer(for_ms / 1000, agent.may_read.set)
        timer.daemon = True
        timer.start()


def flood(answering: Answering, fields: Fields) -> None:
    """Say `count` (10,000) things at once, `as` progress events (log messages, stderr lines)."""
    reply = answering.reply
    kind = fields.get("as", "progress")
    for number in range(fields.get("count", 10_000)):
        if kind == "stderr":
            os.write(2, b"flood %d\n" % number)
        elif kind == "log":
            reply.log(f"flood {number}")
        else:
            reply.progress(f"flood {number}")


def duplicate(answering: Answering, fields: Fields) -> None:
    """Send the last event again, `count` (1) times, under its old message id or with `fresh_id` under a new one."""
    document = answering.last_sent
    if document is None:
        return
    for _ in range(fields.get("count", 1)):
        again = document | {"message_id": fresh_id()} if fields.get("fresh_id") else document
        answering.agent.voice.send(again)


def wrong_correlation(answering: Answering, fields: Fields) -> None:
    """Send the next event with a false `field` (correlation_id), under `value` if one is given."""
    answering.disguise = fields


def disguised(document: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return an event as `wrong_correlation` wants it."""
    name = fields.get("field", "correlation_id")
    if name == "agent_type":
        other = "reviewer" if document["from"]["agent_type"] == "builder" else "builder"
        return document | {"from": document["from"] | {"agent_type": fields.get("value", other)}}
    other = f"not-{document['correlation_id']}" if name == "correlation_id" else "T-nobody-asked-for"
    return document | {name: fields.get("value", other)}


def corrupt_artifact(answering: Answering, fields: Fields) -> None:
    """Change a written file (the last one, or `path`) after its checksum was taken; `how` missing: remove it."""
    paths = [fields["path"]] if "path" in fields else list(answering.written)[-1:]
    for path in paths:
        target = files.locate(answering.agent.workspace, path)
        if fields.get("how") == "missing":
            target.unlink(missing_ok=True)
        else:
            # Appended in place, as a stray editor would; the claim stays what it was.
            with open(target, "ab") as file:
                file.write(f"corrupted at {to_timestamp(now_ms())}\n".encode())


AGENT_ACTS: Final[Mapping[str, Callable[[Agent, Fields], None]]] = {
    "exit": exit_now,
    "kill": kill,
    "hang": hang,
    "stop_heartbeat": stop_heartbeat,
    "garbage": garbage,
    "oversize": oversize,
    "close_stdout": close_stdout,
    "slow_stdin": slow_stdin,
}
"""Acts of the whole process; they can happen before a command is read."""

COMMAND_ACTS: Final[Mapping[str, Callable[[Answering, Fields], None]]] = {
    "flood": flood,
    "duplicate": duplicate,
    "wrong_correlation": wrong_correlation,
    "corrupt_artifact": corrupt_artifact,
}
"""Acts within the answer to a command."""
