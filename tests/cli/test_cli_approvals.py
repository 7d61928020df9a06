"""`approve` and `deny` take as much of an id as is shown, and never guess."""

import pytest

from lorch_actors.cli.approvals import _meant
from lorch_actors.errors import UsageError
from lorch_actors.protocol.ids import approval_id, shown_approval_id
from lorch_actors.protocol.messages import Command, Recipient, Retry, Version
from lorch_actors.workflow.state import Approval, Pending, Run, Task

COMMAND = Command(
    message_id="cmd-1",
    correlation_id="c-1",
    task_id="T-1",
    idempotency_key="ik:0123456789abcdef",
    to=Recipient("builder", "builder-1"),
    action="implement",
    inputs={},
    version=Version("snap-1"),
    deadline="2026-01-01T00:10:00Z",
    retry=Retry(0, 3),
    priority=0,
)
IDS = (
    "ap-11112222333344445555666677778888",
    "ap-1111222299994444555566667777aaaa",
    "ap-abcd0000000000000000000000000000",
)


@pytest.fixture
def asking() -> Run:
    """Return a run in which three requests are open, two of which look alike."""
    approvals = {name: Approval(name, "r-1", "builder-1", 7, "Bash") for name in IDS}
    task = Task(task_id="T-1", declared={"id": "T-1"}, pending=Pending(command=COMMAND, approvals=approvals))
    return Run("run-20260101-000000-00000000", tasks={"T-1": task}, current="T-1")


@pytest.mark.parametrize("given", [IDS[2], shown_approval_id(IDS[2]), "ap-a"])
def test_the_beginning_of_an_id_is_enough(asking: Run, given: str) -> None:
    """As it is shown, in full, or less."""
    assert _meant(asking, given).approval_id == IDS[2]


@pytest.mark.parametrize(
    ("given", "said"), [(shown_approval_id(IDS[0]), IDS[1]), ("ap-", "nobody waits for"), ("", "nobody waits for")]
)
def test_what_could_mean_two_is_refused(asking: Run, given: str, said: str) -> None:
    """The whole ids are named: one of them might have been made to look like the other."""
    with pytest.raises(UsageError) as refused:
        _meant(asking, given)

    assert said in str(refused.value)


def test_no_two_requests_can_be_made_alike() -> None:
    """An answer counts for every request of its id: 128 bits are more than anybody searches."""
    assert len(approval_id("cause")) == len("ap-") + 32
