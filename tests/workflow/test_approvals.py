"""Leave: what agents ask for in the middle of a command is answered once, by policy, by a person, or by the clock."""

import msgspec
import pytest
from agent_scripts import PASS, Ask, Exit, Say, error, playing
from harness import World

from lorch_actors.protocol.configuration import Policy
from lorch_actors.protocol.documents import RunStatus
from lorch_actors.workflow import approvals
from lorch_actors.workflow.approvals import INPUT_KEPT_BYTES
from lorch_actors.workflow.orders import AskOperator

ASKS = {"builder": {"permissions": "ask"}}
GOES_ON = Say("builder.progress")
TIMEOUT_MS = round(Policy().approval_timeout_s * 1000)


def asking(*items, **given):
    """Return a world whose builder asks, under ``ask`` unless told otherwise."""
    return World(playing(implement=list(items)), **{"agent_settings": ASKS} | given).start()


def answered(world):
    """Return who said what, in order."""
    notes = world.payloads("system.approval_answered")
    return [(note["by"], note["decision"]) for note in notes]


@pytest.mark.parametrize(("said", "outcome"), [("allow", None), ("deny", "permission_denied")])
def test_a_person_decides_and_the_agent_hears_it(said, outcome):
    """What the operator says goes into the ledger and from there to the process that asked."""
    world = asking(Ask("Bash", {"command": "make"}), operator=lambda _order: said).play()

    assert answered(world) == [("operator", said)]
    assert world.failure() == outcome
    assert world.payloads("system.approval_requested")[0]["input"] == {"command": "make"}


@pytest.mark.parametrize(("permissions", "said"), [("allow", "allow"), ("workspace", "deny"), (None, "deny")])
def test_without_ask_the_policy_answers_and_nobody_is_asked(permissions, said):
    """Under `allow` and `workspace`, which is the default, there is nothing to wait for."""
    settings = {"builder": {"permissions": permissions}} if permissions else {}
    world = asking(Ask(), agent_settings=settings)
    before_ms = world.steady_ms
    world.play()

    assert answered(world) == [("policy", said)]
    assert world.payloads("system.approval_requested") == []
    assert world.steady_ms == before_ms


def test_an_unattended_run_denies_when_the_time_is_up_and_says_so():
    """Nobody answers: after `policy.approval_timeout_s` it is no, with the reason."""
    world = asking(Ask())
    before_ms = world.steady_ms
    world.play()

    assert answered(world) == [("timeout", "deny")]
    assert (world.run.unanswered, world.steady_ms - before_ms) == (1, TIMEOUT_MS)
    assert world.payloads("system.approval_answered")[0]["reason"] == (
        "nobody answered within 600 s (policy.approval_timeout_s)"
    )
    assert world.failure() == "permission_denied"


def test_the_deadline_stands_still_while_somebody_is_asked():
    """The command has 600 s for its work; four requests of 500 s each take nothing away from them."""
    ask = Ask(denied=Ask(denied=Ask(denied=Ask(denied=PASS))))
    world = asking(ask, policy={"approval_timeout_s": 500}).play()

    assert len(answered(world)) == 4
    assert world.payloads("system.command_timed_out") == []
    assert world.run.status == RunStatus.COMPLETED


def test_the_deadline_goes_on_where_it_stopped():
    """Who works 400 s, waits, and works 300 s more has passed a deadline of 600 s."""
    world = asking(Ask(allowed=()))
    world.play_until(lambda w: w.run.pending and w.run.pending.delivered_to)
    world.pass_time(400_000)
    world.play_until(lambda w: w.events("system.approval_requested"))
    world.pass_time(TIMEOUT_MS - 1000)
    world.operator = lambda _order: "allow"
    world.orders_done.clear()
    world.play_until(lambda w: w.events("system.approval_answered"))
    world.output.clear()
    assert world.ask().wake_after_ms == 200_000

    world.pass_time(200_000)
    world.step()
    assert len(world.payloads("system.command_timed_out")) == 1


def test_waits_for_people_have_a_bound_in_all():
    """Under one command they take no more than `policy.max_wait_s` together; from then on it is no at once."""
    ask = PASS
    for number in range(5):
        ask = Ask(given={"n": number}, denied=ask)
    world = asking(ask, policy={"max_wait_s": 1000})
    before_ms = world.steady_ms
    world.play()

    assert world.steady_ms - before_ms == 1_000_000
    assert [note["delay_ms"] for note in world.payloads("system.approval_requested")] == [600_000, 400_000, 0, 0, 0]


def test_who_asks_again_after_a_crash_is_answered_as_before():
    """The orchestrator dies after the answer: the new process asks the same and need not wait for anybody."""
    world = asking(Ask(allowed=(Say("builder.progress"))), operator=lambda _order: "allow")
    world.play_until(lambda w: w.events("builder.progress"))
    world.script = playing(implement=[Ask()])
    world.operator = lambda _order: None
    world.crash()
    before_ms = world.steady_ms
    world.play()

    assert answered(world) == [("operator", "allow"), ("operator", "allow")]
    assert world.steady_ms == before_ms
    assert world.run.status == RunStatus.COMPLETED


def test_what_was_allowed_is_exactly_what_was_shown():
    """After a crash the new process asks for something else with the same tool: nobody has allowed that."""
    world = asking(Ask(given={"command": "ls"}, allowed=Say("builder.progress")), operator=lambda _order: "allow")
    world.play_until(lambda w: w.events("builder.progress"))
    world.script = playing(implement=[Ask(given={"command": "rm -r ."})])
    world.operator = lambda _order: "deny"
    world.crash().play()

    assert answered(world) == [("operator", "allow"), ("operator", "deny")]
    assert world.failure() == "permission_denied"


def test_a_refusal_by_the_clock_is_no_answer_for_the_next_process():
    """Nobody was there the first time; somebody may be the second time."""
    world = asking(Ask(denied=Exit(1)))
    world.play_until(lambda w: w.events("system.approval_answered"))
    world.script = playing(implement=[Ask()])
    world.operator = lambda _order: "allow"
    world.play()

    assert answered(world) == [("timeout", "deny"), ("operator", "allow")]
    assert world.run.status == RunStatus.COMPLETED


def test_what_was_not_answered_before_a_crash_is_asked_again_under_the_same_id():
    """So an answer that was given while nobody was running still finds its request."""
    world = asking(Ask())
    world.play_until(lambda w: w.events("system.approval_requested"))
    (first,) = world.run.pending.approvals
    world.crash()
    assert list(world.run.pending.approvals) == [first]

    world.script = playing(implement=[Ask()])
    seen: list[AskOperator] = []
    world.operator = lambda order: seen.append(order) or "allow"
    world.play()
    assert [order.approval_id for order in seen] == [first]
    assert len({note["agent_id"] for note in world.payloads("system.approval_requested")}) == 2


def test_the_same_thing_twice_is_two_requests():
    """Leave is for one time: who wants to do it again asks again, also after a new start."""
    world = asking(Ask(allowed=Ask()), operator=lambda _order: "allow").play()

    ids = [note["approval_id"] for note in world.payloads("system.approval_requested")]
    assert len(set(ids)) == 2


def test_other_input_is_another_request():
    """Each is answered by itself."""
    world = asking(Ask(given={"command": "ls"}, allowed=Ask(given={"command": "rm -r ."})))
    world.operator = lambda _order: "allow" if len(world.payloads("system.approval_requested")) == 1 else "deny"
    world.play()

    assert answered(world) == [("operator", "allow"), ("operator", "deny")]


def test_the_first_answer_in_the_ledger_counts():
    """Person and clock answer under one id, so the second of them is dropped."""
    world = asking(Ask()).play_until(lambda w: w.events("system.approval_requested"))
    world.pass_time(TIMEOUT_MS)
    decision = world.ask()
    (order,) = decision.orders
    world.operator = lambda _order: "allow"
    (approval,) = world.run.pending.approvals.values()
    world._ask_operator(
        AskOperator(
            "T-1",
            world.run.pending.command.correlation_id,
            "builder",
            approval.approval_id,
            approval.agent_id,
            approval.request_id,
        )
    )
    world.append(order.message)
    world.play()

    assert answered(world) == [("operator", "allow")]
    assert world.run.status == RunStatus.COMPLETED


def test_a_request_dies_with_its_process():
    """A crash while somebody is asked: the attempt is over, the wait as well, and the next process asks anew."""
    world = asking((Ask(), Exit(None, 9)))
    world.script = playing(implement=[(Ask(), Exit(None, 9)), PASS])
    world.play()

    assert answered(world) == []
    assert world.run.status == RunStatus.COMPLETED


@pytest.mark.parametrize(("bound", "permissions"), [("REQUESTS_MAX", "allow"), ("OPEN_MAX", "ask")])
def test_an_agent_that_asks_without_end_is_stopped(monkeypatch, bound, permissions):
    """Too many requests in one command, or too many at once, use up an attempt."""
    monkeypatch.setattr(approvals, bound, 20)
    settings = {"builder": {"permissions": permissions}}
    policy = {"retry": {"max_attempts": 1}}

    for number, failure in ((20, None), (21, "too_many_requests")):
        asks = tuple(Ask(given={"n": n}, allowed=GOES_ON, denied=GOES_ON) for n in range(number))
        world = asking((*asks, PASS), policy=policy, agent_settings=settings).play()
        assert world.failure() == failure


def test_a_long_input_is_kept_by_its_beginning():
    """The state of a run does not hold what nobody reads; the agent's own event has the whole."""
    world = asking(Ask(given={"text": "x" * 100_000})).play_until(lambda w: w.events("system.approval_requested"))
    (note,) = world.payloads("system.approval_requested")

    assert note["input"]["size_bytes"] == len(msgspec.json.encode({"text": "x" * 100_000}))
    assert len(note["input"]["begins"]) == INPUT_KEPT_BYTES
    assert world.entries[note["event_seq"] - 1].message.event == "approval.requested"


def test_a_limit_under_an_open_request_is_waited_for():
    """An agent may run into a limit while it asks: then the request is void and the wait begins."""
    world = asking((Ask(), error(retry_after_s=60)), PASS).play()

    assert world.payloads("system.approval_requested") != []
    assert world.run.status == RunStatus.COMPLETED
