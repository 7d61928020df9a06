"""The lines of the console and the transcript, as documented."""

import pytest
from agent_scripts import APPROVED, CHANGES, PASS, Say, error, playing
from harness import played

from lorch_actors.protocol.messages import Entry
from lorch_actors.workflow.payloads import event_of
from lorch_actors.workflow.system import AgentExited, SnapshotCaptured, WorkspaceDrift
from lorch_actors.workflow.transcript import render, size_text, visible

TASKS = ({"id": "T-0042", "goal": "g", "title": "Make it so"},)


def lines(world):
    """Return all lines of a run."""
    return [line for entry in world.entries for line in render(entry)]


def test_the_lines_of_a_run_are_the_documented_ones():
    """Commands, artifacts, tests, review and the end read as the specification shows them."""
    script = playing(
        implement=[(Say("artifact.produced", artifacts=("src/a.py",)), PASS)],
        review=[Say("review.completed", "changes_requested", artifacts=("reviews/T-0042.json",)), APPROVED],
    )
    shown = lines(played(script, tasks=TASKS))

    for line in (
        "[lorch→builder] implement (task: T-0042)",
        "[builder] artifact.produced: src/a.py (1.4 KiB)",
        "[builder] builder.completed: tests: pass",
        "[reviewer] review.completed: status: changes_requested, review: reviews/T-0042.json",
        "[lorch→builder] implement_changes (task: T-0042, asked by reviewer)",
        "[lorch] START T-0042 Make it so",
        "[lorch] DONE T-0042",
    ):
        assert line in shown


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (SnapshotCaptured("snap-0", 0), "[lorch] snap-0: 0 files"),
        (SnapshotCaptured("snap-1", 1), "[lorch] snap-1: 1 file"),
        (SnapshotCaptured("snap-2", 2), "[lorch] snap-2: 2 files"),
        (WorkspaceDrift(1, ["a"]), "[lorch] 1 file changed without any step having claimed it: a"),
    ],
)
def test_files_are_counted_in_words(payload, line):
    """None, one and many, also where the payload leaves the default out."""
    event = event_of(payload, task_id="T", correlation_id="T", now_ms=0, cause=("T",))

    assert render(Entry(1, "", event)) == (line,)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"code": 0, "reason": "the run is over"}, ()),
        ({"code": 0}, ("[lorch] b-1 exited with code 0",)),
        ({"code": 1, "reason": "the run is over"}, ("[lorch] b-1 exited with code 1 (the run is over)",)),
        ({"signal": 9, "reason": "no heartbeat"}, ("[lorch] b-1 was killed by signal 9 (no heartbeat)",)),
    ],
)
def test_an_agent_that_goes_when_asked_goes_without_a_word(how, told):
    """Any other exit has a line."""
    event = event_of(AgentExited("builder", "b-1", **how), task_id="T", correlation_id="T", now_ms=0, cause=("b-1",))

    assert told == render(Entry(1, "", event))


def test_a_failure_says_why():
    """The last lines name the task, the code and the agent's own words."""
    shown = lines(played(playing(implement=[error(code="quota", message="no credit left")]), tasks=TASKS))

    assert "[builder] error: quota: no credit left" in shown
    assert "[lorch] FAILED T-0042: quota: no credit left" in shown


def test_a_retry_says_when_and_which_attempt():
    """Whoever watches knows what is waited for."""
    shown = lines(played(playing(review=[error(retryable=True, code="busy"), CHANGES, APPROVED]), tasks=TASKS))

    assert "[lorch→reviewer] review (task: T-0042, attempt 2 of 3)" in shown
    assert any(line.startswith("[lorch] trying reviewer again after no wait: busy") for line in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc", "\\u202eabc"),
        ("a\u2028b", "a\\u2028b"),
        ("\x85", "\\x85"),
        ("äöü→", "äöü→"),
    ],
)
def test_control_characters_are_made_visible(text, shown):
    """Nothing an agent prints moves a cursor, turns text round or starts a line."""
    assert shown == visible(text)


def test_long_texts_are_cut():
    """A line stays readable."""
    assert len(visible("x" * 100_000)) == 401


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1434, "1.4 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes_are_for_people(size, text):
    """One decimal, binary units."""
    assert text == size_text(size)
