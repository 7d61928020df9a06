"""`fold`, `decide`, `render` and the projections take whatever the schemas accept."""

import unicodedata

import msgspec
from agent_scripts import APPROVED, CHANGES, error, playing
from entry_strategies import MESSAGES, entries
from harness import RUN_ID, World
from hypothesis import given, settings
from hypothesis import strategies as st

from lorch_actors.protocol.messages import Entry
from lorch_actors.workflow.decide import decide
from lorch_actors.workflow.fold import fold
from lorch_actors.workflow.projection import index_row, receipt, run_state
from lorch_actors.workflow.state import Moment, Run
from lorch_actors.workflow.transcript import render

NOW = Moment(1_767_225_600_000, 5_000_000)


def real_entries():
    """Return the ledger of a run with findings, a retry and a resume."""
    world = World(playing(implement=[error(retryable=True), ()], review=[CHANGES, APPROVED])).start()
    world.play_until(lambda w: len(w.commands()) == 2).crash()
    world.script = playing(review=[CHANGES, APPROVED])
    return world.play().entries


REAL = real_entries()


def check(run: Run) -> None:
    """Decide twice, and take the state through a checkpoint."""
    decision = decide(run, NOW, 0.25)
    assert decision == decide(run, NOW, 0.25)
    assert [order.key for order in decision.orders] == list(dict.fromkeys(order.key for order in decision.orders))
    assert run == msgspec.convert(msgspec.to_builtins(run), Run)


@given(st.lists(MESSAGES, max_size=25), st.sampled_from([0, 4_000_000]))
@settings(max_examples=40)
def test_any_entries_in_any_order_fold_and_can_be_decided_about(messages, heard_ms):
    """Random entries, sensible and not, never raise; equal entries give an equal state."""
    run = Run(RUN_ID)
    for entry in entries(messages, heard_ms):
        after = fold(run, entry)
        assert after == fold(run, entry)
        run = after
        check(run)


@given(
    st.integers(1, len(REAL)), st.lists(st.tuples(st.integers(0, len(REAL) - 1), MESSAGES), max_size=6), st.randoms()
)
@settings(max_examples=40)
def test_a_real_ledger_shuffled_and_salted_folds(cut, salt, random):
    """A run's own entries in a wrong order, with strange ones in between, never raise either."""
    messages = [entry.message for entry in REAL[:cut]]
    if random.random() < 0.5:
        random.shuffle(messages)
    for position, message in salt:
        messages.insert(min(position, len(messages)), message)
    run = Run(RUN_ID)
    for entry in entries(messages, 4_000_000):
        run = fold(run, entry)
        check(run)
        run_state(run, entry.seq, entry.chain)
        index_row(run, entry.seq, entry.chain)
        if run.last_settled is not None:
            receipt(run.last_settled, run.tasks[run.last_settled.task_id].declared, entry.seq, entry.chain)


@given(MESSAGES)
@settings(max_examples=50)
def test_what_is_shown_is_lines_without_control_characters(message):
    """Whatever an entry holds, each of its lines is one line that no terminal acts on."""
    for line in render(Entry(1, "0" * 16, message)):
        assert [line] == line.splitlines()
        assert not {unicodedata.category(char) for char in line} & {"Cc", "Zl", "Zp"}
        assert line.startswith("[")


def test_the_state_of_a_real_run_goes_through_a_checkpoint_after_every_entry():
    """What a checkpoint holds is what was folded."""
    run = Run(RUN_ID)
    for entry in REAL:
        run = fold(run, entry)
        check(run)
