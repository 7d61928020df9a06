"""The closing report says at a glance what was done, what failed and why, and what to do next."""

import json

import jsonschema
import msgspec
import pytest

from lorch_actors.cli.output import Output
from lorch_actors.cli.report import report, report_text
from lorch_actors.cli.views import duration, size, spent_body, spent_text, status_document, times
from lorch_actors.cli.waiting import countdown, pending_body
from lorch_actors.errors import ExitCode
from lorch_actors.protocol.configuration import Budget, Policy
from lorch_actors.protocol.documents import RunStatus, Stage, TaskStatus
from lorch_actors.protocol.messages import Action, Command, Recipient, Retry, Version
from lorch_actors.protocol.schemas import SCHEMA_DIRECTORY
from lorch_actors.workflow.parts import FailureNote, GitPlan
from lorch_actors.workflow.state import Agent, NotBefore, Pending, Run, Spent, Task, TaskCommit

NOW_MS = 1_767_225_600_000
RUN = "run-20260101-000000-0a1b2c3d"

DONE = Task(
    task_id="T-1",
    declared={"id": "T-1", "goal": "make it"},
    status=TaskStatus.COMPLETED,
    stage=Stage.COMPLETE,
    rounds=2,
    attempts=5,
    commit=TaskCommit(purpose="commit", branch=f"lorch/{RUN}", intended_at="x", made=True, commit="abc", files=2),
)
FAILED = Task(
    task_id="T-2",
    declared={"id": "T-2", "goal": "make that", "title": "That"},
    status=TaskStatus.FAILED,
    rounds=3,
    attempts=4,
    failure=FailureNote("tests_failed", "two tests fail", "builder"),
    commit=TaskCommit(purpose="set_aside", branch=f"lorch-failed/{RUN}/T-2", intended_at="x", made=True, commit="def"),
)
GIT = GitPlan(mode="commit", branch=f"lorch/{RUN}", base="0123abc", start_branch="main")


def finished(**changes: object) -> Run:
    """Return a run that ended with one task done and one failed."""
    run = Run(
        run_id=RUN,
        started=True,
        status=RunStatus.FAILED,
        tasks={"T-1": DONE, "T-2": FAILED},
        git=GIT,
        git_begun=True,
        git_head="abc",
        started_at="2026-01-01T00:00:00.000Z",
        completed_at="2026-01-01T01:02:03.000Z",
        restarts={"builder": 2},
        resumes=1,
        settled_count=7,
    )
    return msgspec.structs.replace(run, **changes)


def text(run: Run, code: int, *, here: bool = True) -> str:
    """Return the report of a run as text."""
    return report_text(report(run, code, "/srv/it", here=here))


def conforms(name: str, document: msgspec.Struct) -> bool:
    """Tell whether what would be printed fits its schema."""
    schema = json.loads((SCHEMA_DIRECTORY / f"{name}.json").read_bytes())
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(msgspec.json.encode(document)))


def test_the_report_counts_tasks_rounds_attempts_restarts_and_time():
    """The first lines are what one reads in the morning."""
    lines = text(finished(), ExitCode.FAILED)

    assert lines.startswith(f"{RUN} failed: 1 of 2 tasks completed, 1 failed, in 1 h 02 min\n")
    assert "7 steps, 5 rounds, 9 attempts, restarts: builder 2, resumed once." in lines


def test_the_report_counts_one_as_one():
    """One step is no steps."""
    run = finished(settled_count=1, tasks={"T-1": DONE})

    assert "1 step, 2 rounds, 5 attempts" in text(run, ExitCode.DONE)


def test_a_quiet_run_ends_without_even_an_empty_line(capsys: pytest.CaptureFixture[str]):
    """Cron mails whatever is printed."""
    Output(quiet=True).result(report(finished(), ExitCode.DONE, "/srv/it", here=True), "")

    assert capsys.readouterr().out == ""


def test_the_report_says_what_failed_and_why():
    """Next to the task, with where its work went."""
    lines = text(finished(), ExitCode.FAILED)

    assert "tests_failed (builder): two tests fail" in lines
    assert f"git show lorch-failed/{RUN}/T-2" in lines
    assert f"lorch resume --run {RUN} --retry-failed" in lines


def test_the_report_says_how_to_merge_and_how_to_go_back():
    """In commands that can be copied."""
    lines = text(finished(), ExitCode.FAILED)

    assert f"git checkout main && git merge lorch/{RUN}" in lines
    assert "git checkout main\n      go back without it" in lines


def test_commands_name_a_workspace_that_is_elsewhere():
    """They work from where the user stands."""
    lines = text(finished(), ExitCode.FAILED, here=False)

    assert f"lorch --workspace /srv/it show {RUN}" in lines
    assert "git -C /srv/it checkout main" in lines


def test_where_nothing_was_committed_nothing_is_to_be_merged():
    """The branch of the run stands where it began: the way back is all there is to it."""
    lines = text(finished(git_head=GIT.base, tasks={"T-2": FAILED}), ExitCode.FAILED)

    assert "git merge" not in lines
    assert "git log" not in lines
    assert "git checkout main\n      go back; nothing was committed" in lines
    assert f"git show lorch-failed/{RUN}/T-2" in lines


def test_where_no_branch_was_made_there_is_no_way_back():
    """The user stands where he stood."""
    lines = text(finished(git_begun=False, git_head="", tasks={"T-2": FAILED}), ExitCode.FAILED)

    assert "git checkout" not in lines
    assert "branch" not in lines


def test_an_interrupted_run_is_called_so_with_the_command_that_goes_on():
    """It is neither done nor failed, and nothing is to be merged yet."""
    run = finished(
        status=RunStatus.RUNNING, completed_at=None, stopped=FailureNote("signal", "asked to stop"), tasks={"T-1": DONE}
    )
    lines = text(run, ExitCode.INTERRUPTED)

    assert lines.startswith(f"{RUN} interrupted: 1 of 1 tasks completed\n")
    assert "Stopped: signal: asked to stop" in lines
    assert f"lorch resume --run {RUN}\n" in lines
    assert "git merge" not in lines


def test_without_git_there_is_no_word_of_it():
    """`off` outside a repository."""
    assert "git" not in text(finished(git=GitPlan(mode="off"), git_begun=False, git_head=""), ExitCode.FAILED)


@pytest.mark.parametrize("code", [ExitCode.FAILED, ExitCode.INTERRUPTED])
def test_the_report_as_json_fits_its_schema(code: int):
    """Scripts get the same."""
    assert conforms("cli-report", report(finished(), code, "/srv/it", here=True))


def pending(**changes: object) -> Pending:
    """Return a command under way."""
    command = Command(
        message_id="m",
        correlation_id="c",
        task_id="T-1",
        idempotency_key="ik:" + "0" * 64,
        to=Recipient(agent_type="reviewer"),
        action=Action.REVIEW,
        inputs={"round": 2},
        version=Version(snapshot_id="s"),
        deadline="2026-01-01T00:05:00.000Z",
        retry=Retry(attempt=1, max_attempts=3),
        priority=0,
    )
    return msgspec.structs.replace(Pending(command=command, deliveries=2, delivered_to="r-1", attempt=1), **changes)


def test_the_pending_command_is_told_with_round_and_attempt():
    """Attempts count from 1 for people."""
    task = msgspec.structs.replace(DONE, status=TaskStatus.RUNNING, pending=pending())
    status = status_document(finished(tasks={"T-1": task}, current="T-1"), "/srv/it", None, NOW_MS)

    assert conforms("cli-status", status)
    assert (status.pending.action, status.pending.round, status.pending.attempt) == ("review", 2, 2)
    assert status.pending.waiting_for == "answer"


def test_a_command_that_waits_to_be_sent_again_says_until_when():
    """Rate limits take hours; nobody should wonder."""
    task = msgspec.structs.replace(DONE, pending=pending(delivered_to=None))
    agents = {"reviewer": Agent(not_before=NotBefore(wall_ms=3_600_000))}
    found = pending_body(finished(tasks={"T-1": task}, current="T-1", agents=agents), NOW_MS)

    assert (found.waiting_for, found.retry_at) == ("retry", "1970-01-01T01:00:00.000Z")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.84, "0.8 s"), (42, "42 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (25_920, "7 h 12 min")],
)
def test_durations_are_readable(seconds: float, shown: str):
    """To the precision a person cares for."""
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("size_bytes", "shown"), [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KiB"), (1 << 30, "1.0 GiB")]
)
def test_sizes_are_readable(size_bytes: int, shown: str):
    """In binary units."""
    assert size(size_bytes) == shown


def test_small_numbers_have_words():
    """once, twice, and then numbers."""
    assert [times(number) for number in (1, 2, 3)] == ["once", "twice", "3 times"]


@pytest.mark.parametrize(
    ("spent", "budget", "text"),
    [
        (Spent(commands=3), {}, ""),
        (Spent(usd_micro=4_000, tokens=1200, commands=1, priced=1, counted=1), {}, "0.0040 US dollars, 1,200 tokens"),
        (
            Spent(usd_micro=12_345_678, commands=4, priced=3, work_ms=90_500),
            {"usd": 20, "wall_s": 3600},
            "12.35 of 20 US dollars (unknown of 1 of 4 commands), 90 of 3,600 seconds of work",
        ),
        (Spent(commands=2), {"tokens": 5000}, "0 of 5,000 tokens (unknown of 2 of 2 commands)"),
    ],
)
def test_what_was_spent_is_told_where_anything_is_known_or_limited(spent, budget, text):
    """And what is not known is said to be unknown."""
    run = finished(spent=spent, policy=Policy(budget=Budget(**budget)))

    assert spent_text(spent_body(run, NOW_MS)) == text
    assert (f"Spent: {text}." in report_text(report(run, ExitCode.DONE, "/srv/it", here=True))) == bool(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (17_940, "4 h 59 min 00 s")]
)
def test_the_time_that_is_left_is_told_to_the_second(seconds, text):
    """It is a countdown."""
    assert countdown(seconds) == text


def test_where_no_run_was_started_there_is_none_to_resume():
    """A disk may be full before the first entry."""
    document = report(Run(RUN), ExitCode.INTERRUPTED, "/w", here=True)

    assert document.next == []
    assert report_text(document) == "No run was started."
