"""Process actors over every host of workers: the same promises, whether the worker is a thread or a process."""

import contextlib
import functools
import os
import threading

import pytest
from actor_probes import PATIENCE_S, Probe
from actor_workers import Broken, Closing, Front, Locked, NeverOpens, Scripted

from lorch_actors.actors.base import ActorContext
from lorch_actors.actors.messages import (
    Call,
    Crash,
    Down,
    PoisonMessage,
    RestartWorker,
    Shutdown,
    Started,
    Stop,
    WorkerDied,
)
from lorch_actors.actors.runtime import start_runtime
from lorch_actors.actors.thread_host import ThreadHost
from lorch_actors.errors import LockedError


@pytest.fixture(params=["thread", "process"])
def runtime(request, clock):
    """Make a system whose workers are threads, and one whose workers are processes."""
    workers = ThreadHost() if request.param == "thread" else None
    system = start_runtime(clock=clock, workers=workers, preload=["actor_workers"])
    clock.on_move = system.reactor.wake
    yield system
    system.close()


@pytest.fixture
def start(runtime, boss, log):
    """Start a front below ``boss``, and end it at the end of the test."""
    refs = []

    def begin(create=Scripted, **arguments):
        context = ActorContext("front", runtime.directory.next_incarnation("front"), "boss", runtime)
        refs.append(Front.start(context, log=log, create=create, **arguments))
        return refs[-1]

    yield begin
    for ref in refs:
        if ref.is_alive():
            ref.tell(lambda front: front.finish())
    if refs:
        freed = threading.Event()
        if not runtime.directory.when_free("front", freed.set):
            assert freed.wait(PATIENCE_S)


@pytest.fixture
def front(start, boss, log):
    """Start a front and wait until its worker is up."""
    ref = start()
    assert Started("front", 1) == boss.next()
    assert log.next() == ("hello", {"ready": True})
    return ref


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def waiting(fifo):
    """Wait until the worker waits on the FIFO, keep it there during the block, then let it go on."""
    held = os.open(fifo, os.O_WRONLY)
    try:
        yield
    finally:
        os.close(held)


def settle(runtime, ref):
    """Wait until reactor and front have dealt with everything that was there."""
    for _ in range(2):
        passed = threading.Event()
        runtime.reactor.call_soon(passed.set)
        assert passed.wait(PATIENCE_S)
    sync(ref)


def sync(ref):
    ref.ask(Call(lambda: None), timeout=PATIENCE_S)


def replies(log, count):
    found = []
    while len(found) < count:
        kind, value = log.next()
        found += [value] if kind == "reply" else []
    return found


def test_replies_come_in_order_and_messages_are_acknowledged(front, log):
    """Every message is answered, then acknowledged by its number."""
    front.tell(["echo", {"n": 1, "bytes": b"\x00", "none": None}])

    assert log.take(2) == [("reply", {"n": 1, "bytes": b"\x00", "none": None}), ("acked", 1)]
    for number in range(500):
        front.tell(["echo", number])
    assert list(range(500)) == replies(log, 500)


def test_what_arrives_during_work_is_one_batch(front, log, fifo):
    """Five messages that wait together are handled together: this is what makes group commit possible."""
    front.tell(["wait", fifo])
    with waiting(fifo):
        for _ in range(5):
            front.tell(["batch"])
        sync(front)

    assert log.take(2) == [("reply", "waited"), ("acked", 1)]
    assert log.take(6) == [("reply", 5)] * 5 + [("acked", 6)]


def test_a_worker_that_fails_is_reported_and_its_messages_come_again(front, boss, log, tmp_path):
    """The next worker gets what was not acknowledged, in order, and what was sent in between."""
    front.tell(["fail_until", str(tmp_path / "marks"), 1])
    front.tell(["echo", "second"])
    died = boss.next()
    assert (died.name, "RuntimeError: not yet" in str(died.reason)) == ("front", True)
    front.tell(["echo", "third"])
    front.tell(RestartWorker())

    assert replies(log, 3) == ["survived", "second", "third"]
    assert Started("front", 1) == boss.next()


@pytest.mark.parametrize("end", ["exit", "fail"])
def test_even_a_clean_exit_without_being_asked_is_a_death(front, boss, end):
    """A worker has no business ending by itself."""
    front.tell([end] if end == "exit" else [end, "x"])

    assert WorkerDied is type(boss.next())


def test_nothing_is_restarted_without_the_supervisor(front, boss, log):
    """The front waits for its supervisor's word, and keeps what it is sent meanwhile."""
    front.tell(["fail", "x"])
    assert WorkerDied is type(boss.next())
    front.tell(["echo", "kept"])
    front.ask(lambda actor: log.tell(("kept", actor.unacknowledged, actor.worker_pid)), timeout=PATIENCE_S)

    assert log.next() == ("kept", 2, None)


def test_a_worker_that_cannot_open_fails_the_start_with_its_own_error(start, boss):
    """An error made for a person crosses whole: type, place and remedy."""
    start(Locked)
    down = boss.next()

    assert LockedError is type(down.reason.exception)
    assert str(down.reason.exception) == "lorch.lock: another run holds it\n  Wait."


def test_a_worker_that_breaks_in_its_start_fails_the_start(start, boss):
    """Any other exception says where it came from."""
    start(Broken)
    text = str(boss.next().reason.exception)

    assert "ZeroDivisionError: no good reason" in text
    assert "actor_workers.py" in text


def test_a_worker_that_hangs_in_its_start_is_killed_in_time(start, boss, clock, fifo):
    """The start has a deadline."""
    ref = start(functools.partial(NeverOpens, fifo), start_ms=3_000)
    sync(ref)
    clock.advance(3_000)
    down = boss.next()
    unblock(fifo)

    assert "did not start within 3000 ms" in str(down.reason.exception)


def unblock(fifo):
    """Let a thread that was cut off go; a process that was killed is not there any more."""
    os.close(os.open(fifo, os.O_RDWR))


def test_stop_lets_the_worker_finish_and_close(start, boss, log, tmp_path, fifo):
    """What was sent before the stop is handled, then the worker closes in order."""
    ref = start(functools.partial(Closing, str(tmp_path / "closed")))
    assert Started("front", 1) == boss.next()
    ref.tell(["wait", fifo])
    with waiting(fifo):
        ref.tell(["echo", "last"])
        ref.tell(Stop())
        sync(ref)

    assert Down("front", 1, Shutdown()) == boss.next()
    assert log.take(2) == [("hello", {"ready": True}), ("reply", "waited")]
    assert ("reply", "last") in log.rest()
    assert (tmp_path / "closed").read_text() == "closed"


def test_a_worker_that_dies_while_it_is_to_finish_is_a_crash(front, boss, log):
    """The end is not called orderly when messages were left."""
    front.tell(["fail", "x"])
    front.tell(Stop())

    reports = [boss.next()]
    if type(reports[0]) is WorkerDied:
        reports.append(boss.next())
    assert Crash is type(reports[-1].reason)


def test_a_dead_worker_does_not_hold_up_the_stop(front, boss):
    """A front whose worker is dead, and not to be restarted any more, ends at once."""
    front.tell(["fail", "x"])
    assert WorkerDied is type(boss.next())
    front.tell(Stop())

    assert Crash is type(boss.next().reason)


def reports_until_poison(front, boss):
    """Play a supervisor without a limit; return how many workers died before the poison was named, and the report."""
    deaths = 0
    while type(told := boss.next()) is not PoisonMessage:
        if type(told) is WorkerDied:
            deaths += 1
            assert deaths < 10
            front.tell(RestartWorker())
    return deaths, told


def test_three_deaths_on_one_message_name_it(front, boss):
    """The third death on one message is not answered by a fourth delivery."""
    front.tell(["fail", "poison"])

    assert (2, PoisonMessage("front", ["fail", "poison"], 3)) == reports_until_poison(front, boss)


def test_the_poison_is_found_among_others(front, boss, fifo, tmp_path):
    """Of a batch that kills workers the culprit is named, within five deaths, and those before it are handled."""
    marks = str(tmp_path / "marks")
    front.tell(["wait", fifo])
    with waiting(fifo):
        for number in range(5):
            front.tell(["note", marks, str(number)])
        front.tell(["fail", "poison"])
        front.tell(["note", marks, "after"])
        sync(front)

    assert (4, PoisonMessage("front", ["fail", "poison"], 3)) == reports_until_poison(front, boss)
    assert {"0", "1", "2", "3", "4"} == set((tmp_path / "marks").read_text().split())


def test_deaths_on_different_messages_do_not_add_up(front, boss, log, tmp_path):
    """A worker that dies often, but gets on, is the supervisor's business and no poison."""
    for number in range(4):
        front.tell(["fail_until", str(tmp_path / f"marks-{number}"), 2])
    for _ in range(8):
        told = boss.next()
        while type(told) is Started:
            told = boss.next()
        assert WorkerDied is type(told)
        front.tell(RestartWorker())

    assert replies(log, 4) == ["survived"] * 4


def test_a_worker_that_stands_still_is_replaced(runtime, front, boss, log, clock, fifo):
    """Ten seconds on one message without any sign, and it is killed."""
    front.tell(["wait", fifo])
    sync(front)
    clock.advance(9_999)
    settle(runtime, front)
    assert boss.rest() == []
    clock.advance(1)
    died = boss.next()
    unblock(fifo)

    assert "stood still for 10000 ms" in str(died.reason)


def test_progress_is_a_sign_of_life(runtime, front, boss, log, clock, fifo, tmp_path):
    """The deadline of the oldest message starts anew with every sign."""
    second = str(tmp_path / "second")
    os.mkfifo(second)
    front.tell(["work", fifo, second])
    with waiting(fifo):
        clock.advance(9_000)
    with waiting(second):
        settle(runtime, front)  # the sign is given between the two waits
        clock.advance(9_000)
        settle(runtime, front)
        assert boss.rest() == []

    assert replies(log, 1) == ["worked"]


def test_an_orchestrator_that_stood_still_does_not_blame_its_worker(runtime, front, boss, log, fifo, clock):
    """When the deadline is noticed late, and the answer is already there, the worker lives."""
    paused, resume = threading.Event(), threading.Event()
    front.tell(["wait", fifo])
    with waiting(fifo):
        front.tell(lambda actor: (paused.set(), resume.wait(PATIENCE_S)))
        assert paused.wait(PATIENCE_S)
        clock.advance(10_000)
        reactor_rounds(runtime, until=lambda: front.actor_inbox.qsize() >= 1)
    reactor_rounds(runtime, until=lambda: front.actor_inbox.qsize() >= 2)
    resume.set()

    assert log.take(2) == [("reply", "waited"), ("acked", 1)]
    sync(front)
    assert boss.rest() == []


def reactor_rounds(runtime, until):
    """Let the reactor go round until something is so."""
    while not until():
        passed = threading.Event()
        runtime.reactor.call_soon(passed.set)
        assert passed.wait(PATIENCE_S)


def test_an_idle_worker_has_no_deadline(front, boss, log, clock):
    """Hours without a message are no stall."""
    front.tell(["echo", 1])
    assert log.take(2) == [("reply", 1), ("acked", 1)]
    clock.advance(3_600_000)
    sync(front)
    front.tell(["echo", 2])

    assert log.take(2) == [("reply", 2), ("acked", 2)]
    assert boss.rest() == []


def test_a_message_that_is_too_large_crashes_its_sender_not_the_worker(front, boss, monkeypatch):
    """The limit on frames holds on the way in."""
    monkeypatch.setattr("lorch_actors.actors.frames.FRAME_MAX_BYTES", 100)
    front.tell(["echo", "x" * 200])

    assert "exceeds the 100" in str(boss.next().reason)


def test_a_large_message_crosses_whole(front, log):
    """Twenty megabytes there and back, far beyond what the socket holds."""
    data = bytes(range(256)) * 80_000
    front.tell(["echo", data])

    assert data == replies(log, 1)[0]


def test_a_front_that_crashes_takes_its_worker_along(front, boss):
    """A bug in the front leaves no worker behind for its successor to meet."""
    front.tell(lambda actor: 1 / 0)

    assert ZeroDivisionError is type(boss.next().reason.exception)


def test_cutting_off_a_front_kills_its_worker(runtime, boss, log):
    """What a hanging front holds can be killed from outside."""
    context = ActorContext("front", 1, "boss", runtime)
    ref = Front.start(context, log=log, create=Scripted)
    assert Started("front", 1) == boss.next()
    context.fence.cut()
    told = Probe()
    runtime.directory.register("boss", told)
    sync(ref)
    ref.tell(Stop())

    assert Down is type(told.next())
