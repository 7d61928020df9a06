"""Bugs to be planted around what a run waits for and spends: leave, limits of accounts, budgets."""

from planted import Bug

LEAVE = "tests/workflow/test_approvals.py::"
LIMITS = "tests/workflow/test_accounts.py::"
BUDGETS = "tests/workflow/test_budget.py::"
CORE = "lorch_actors.workflow."

WAITS = (
    Bug(
        "leave for one input is leave for all",
        f"{LEAVE}test_what_was_allowed_is_exactly_what_was_shown",
        f"{CORE}approvals:requested",
        "[pending.command.correlation_id, asked.tool, asked.input]",
        "[pending.command.correlation_id, asked.tool]",
    ),
    Bug(
        "leave for one time is leave for ever",
        f"{LEAVE}test_the_same_thing_twice_is_two_requests",
        f"{CORE}approvals:requested",
        "pending.asked.get(same, 0) + 1",
        "1",
    ),
    Bug(
        "the clock's refusal is taken for a person's",
        f"{LEAVE}test_a_refusal_by_the_clock_is_no_answer_for_the_next_process",
        f"{CORE}approvals:_approval_answered",
        'note.by == "operator"',
        "True",
    ),
    Bug(
        "person and clock both answer",
        f"{LEAVE}test_the_first_answer_in_the_ledger_counts",
        f"{CORE}approvals:_append",
        "cause=(approval.approval_id, approval.agent_id),",
        "cause=(approval.approval_id, approval.agent_id, str(note)),",
    ),
    Bug(
        "an answer is overwritten by the next",
        "tests/storage/test_approval_files.py::test_of_many_who_answer_at_once_one_has_answered",
        "lorch_actors.storage.approvals:give",
        "return write_first(",
        "return path.write_bytes(msgspec.json.encode(answer)) > 0 or write_first(",
    ),
    Bug(
        "a limit holds for whoever ran into it",
        f"{LIMITS}test_a_limit_is_waited_for_by_the_next_task_as_well",
        f"{CORE}decide:_deliver",
        "limited_ms > 0 and agent.loss is None",
        "False",
    ),
    Bug(
        "a limit that lasts too long fails every task",
        f"{LIMITS}test_a_limit_that_lasts_too_long_stops_the_run_before_it_fails_task_after_task",
        f"{CORE}accounts:not_worth_waiting",
        "return FailureNote(",
        "FailureNote(",
    ),
    Bug(
        "what errors cost is not counted",
        f"{BUDGETS}test_what_a_failed_attempt_cost_counts",
        f"{CORE}fold:_fold_agent_event",
        "run = budget.told(run, event, pending.event_ids)",
        'run = budget.told(run, event, pending.event_ids) if event.event != "error" else run',
    ),
    Bug(
        "waiting for a limit is paid as work",
        f"{BUDGETS}test_waiting_is_no_work",
        f"{CORE}budget:_worked_ms",
        "limit.until.wall_ms if limit is not None else 0",
        "0",
    ),
)
"""See the module."""
