"""What payloads of the orchestrator's own events, and the state of a run, are made of."""

from msgspec import Struct

from lorch_actors.protocol.messages import Count, Timestamp


class ProcessRef(Struct, frozen=True):
    """A process as it can be found again for certain: boot, pid and start time in clock ticks."""

    boot_id: str
    pid: int
    start_ticks: int


class FailureNote(Struct, frozen=True, omit_defaults=True):
    """Why something failed: a `FailureCode` (or the code an agent gave), a sentence, and the agent concerned."""

    code: str
    message: str
    agent: str | None = None


class LimitNote(Struct, frozen=True):
    """A limit of an account: until when it is not to be used, how long that was then, and what was said of it."""

    account: str
    until: Timestamp
    wait_ms: Count
    code: str
    message: str


class GitPlan(Struct, frozen=True, omit_defaults=True):
    """How the run treats git: ``commit`` or ``off`` with the reason; branch of the run, commit and branch it left."""

    mode: str = "off"
    reason: str = ""
    branch: str = ""
    base: str = ""
    start_branch: str = ""


class FileRef(Struct, frozen=True):
    """A file below the workspace, with what it has to hold."""

    path: str
    sha256: str
    size: int
