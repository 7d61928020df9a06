"""Limits that are waited for and budgets that are reached, in whole runs: seen, survived, and gone on from."""

import json
import signal
from pathlib import Path

from bench import ROLES, Bench, gone_within

from lorch_actors.protocol.times import from_timestamp

PASSED = {"type": "builder.completed", "payload": {"tests": {"status": "pass"}}}
DEAR = {"usage": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 1.5}}
LIMITED = {"code": "usage_limited", "message": "all used up", "retryable": True, "retry_after_s": 4, "account": "us"}


def test_a_limit_is_shown_with_a_countdown_and_waited_for_by_the_next_orchestrator(tmp_path: Path):
    """Everything is killed while a limit is waited for; the command goes out again when it ends, not before."""
    answers = [{"error": LIMITED, "times": 1}, {"events": [PASSED]}]
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": answers}}})
    running = there.start()
    running.until(r"builder waits, the account us is limited until \S+Z: usage_limited: all used up")
    status = json.loads(there.run("status", "--json").out)
    shown = there.run("status").out
    running.signal("orchestrator", signal.SIGSTOP)
    running.signal("guardian", signal.SIGKILL)
    running.signal("orchestrator", signal.SIGKILL)
    running.wait()
    resumed = there.run("resume")

    (limit,) = status["limits"]
    assert (limit["account"], limit["agents"], limit["code"]) == ("us", list(ROLES), "usage_limited")
    assert 0 < limit["wait_s"] <= 4
    assert status["pending"]["waiting_for"] == "limit"
    assert f"Limited:   us (builder, reviewer, spec_maintainer) until {limit['until']}, in " in shown
    assert resumed.code == 0
    (note,) = there.events("system.retry_scheduled")
    (second,) = [entry for entry in there.events("system.agent_started") if _is_after(entry, note, "builder")][-1:]
    assert from_timestamp(second["occurred_at"]) >= from_timestamp(note["payload"]["limit"]["until"]) - 50
    assert [command["retry"]["attempt"] for command in there.commands()] == [0, 0, 0, 0]
    assert gone_within(there, 5) == []


def _is_after(entry, note, role):
    return entry["ledger"]["seq"] > note["ledger"]["seq"] and entry["payload"]["agent_type"] == role


def test_a_budget_stops_the_run_and_a_resume_with_more_completes_it(tmp_path: Path):
    """Exit 5 with the reason and the way on, and 0 when there is enough."""
    spending = {**PASSED, "payload": {**PASSED["payload"], **DEAR}}
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": {"events": [spending]}}}})
    stopped = there.run("run", "--all", "--budget", "usd=1")
    of_cron = there.run("resume", "--if-unfinished")
    status = json.loads(there.run("status", "--json").out)
    enough = there.run("resume", "--budget", "usd=2", "--json")
    (resumed,) = there.events("system.run_resumed")
    report = json.loads(enough.out)

    assert (stopped.code, of_cron.code, (of_cron.out + of_cron.err).strip(), enough.code) == (5, 0, "", 0)
    told = "over_budget: the budget of the run is used up: 1.5 of 1 US dollars (policy.budget.usd)"
    assert f"[lorch] stopped, resumable: {told}" in stopped.out
    assert f"lorch resume --run {there.run_ids[0]} --budget usd=2" in stopped.out
    assert resumed["payload"].keys() & {"config_changes", "at_once"} == set()  # the budget was said: no surprise
    assert [command["action"] for command in there.commands()] == ["implement", "review", "update_spec"]
    assert (status["stopped"]["code"], status["spent"]["usd"], status["spent"]["tokens"]) == ("over_budget", 1.5, 15)
    assert (report["spent"]["budget"]["usd"], report["spent"]["commands"], report["spent"]["priced"]) == (2.0, 3, 1)
    assert there.findings() == []


def test_the_time_until_a_crash_counts_when_the_guardian_goes_on(tmp_path: Path):
    """The entry of the next orchestrator says that it followed at once; what the dead one had worked is spent."""
    hangs = {"events": [{"type": "hang"}], "times": 1}
    there = Bench(tmp_path / "w", {"builder": {"responses": {"implement": [hangs, {"events": [PASSED]}]}}})
    running = there.start("run", "--all", "--json")
    there.wait_begun("implement")
    running.signal("orchestrator", signal.SIGKILL)
    report = json.loads(running.wait().out)

    (resumed,) = there.events("system.run_resumed")
    (started,) = there.events("system.run_started")
    last = there.ledger()[-1]
    assert (resumed["payload"]["at_once"], last["from"]["agent_type"]) == (True, "system")
    whole_ms = from_timestamp(last["occurred_at"]) - from_timestamp(started["occurred_at"])
    assert report["spent"]["work_s"] >= whole_ms / 1000  # stamps of several actors may cross by some milliseconds
