"""The reactor: events reach the right owner, timers come in order, failures stay with their owner."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from actor_probes import PATIENCE_S, ManualClock, Probe

from lorch_actors.actors.epoll_reactor import EpollReactor


@pytest.fixture
def errors():
    return Probe()


@pytest.fixture
def reactor(clock, errors):
    made = EpollReactor(clock, lambda owner, error: errors.tell((owner, error)))
    clock.on_move = made.wake
    made.start()
    yield made
    made.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    with ours, theirs:
        yield ours, theirs


def settle(reactor):
    """Wait until the reactor has gone round twice: everything that was ready has been looked at."""
    for _ in range(2):
        passed = threading.Event()
        reactor.call_soon(passed.set)
        assert passed.wait(PATIENCE_S)


def test_data_is_announced_as_long_as_it_is_there(reactor, pair, log):
    """The read callback comes again until everything has been read."""
    ours, theirs = pair
    reactor.watch_read(ours.fileno(), lambda: log.tell(ours.recv(1)), "a")
    theirs.send(b"xyz")

    assert log.take(3) == [b"x", b"y", b"z"]


def test_arrivals_are_announced_once(reactor, pair, log):
    """What is left unread is not announced again; what comes later is, and the end; also to a watch just begun."""
    ours, theirs = pair
    theirs.send(b"there already")
    reactor.watch_arrivals(ours.fileno(), lambda: log.tell("more"), "a")
    assert log.next() == "more"
    settle(reactor)
    assert log.rest() == []
    theirs.send(b"z")
    assert log.next() == "more"
    theirs.close()

    assert log.next() == "more"


def test_writability_is_announced_once(reactor, pair, log):
    """The write callback is for one time."""
    ours, _ = pair
    reactor.watch_write(ours.fileno(), lambda: log.tell("writable"), "a")

    assert log.next() == "writable"
    settle(reactor)
    assert log.rest() == []


def test_a_full_socket_is_announced_when_it_has_room(reactor, pair, log):
    """The write callback waits for room."""
    ours, theirs = pair
    filled = fill(ours)
    reactor.watch_write(ours.fileno(), lambda: log.tell("room"), "a")
    settle(reactor)
    assert log.rest() == []
    while filled:
        filled -= len(theirs.recv(filled))

    assert log.next() == "room"


def fill(sock):
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        return sent


def test_a_paused_descriptor_says_nothing_even_when_the_other_end_closes(reactor, pair, log):
    """A throttled pipe whose writer is gone does not make the reactor spin."""
    ours, theirs = pair
    reactor.watch_read(ours.fileno(), lambda: (log.tell("read"), reactor.unwatch(ours.fileno())), "a")
    reactor.pause_read(ours.fileno())
    theirs.close()
    settle(reactor)
    rounds = reactor._round
    settle(reactor)
    assert reactor._round - rounds <= 4
    assert log.rest() == []
    reactor.resume_read(ours.fileno())

    assert log.next() == "read"


def test_an_idle_reactor_sleeps(reactor, pair, clock):
    """Neither a watch without events nor a timer far away makes it go round."""
    reactor.watch_read(pair[0].fileno(), lambda: None, "a")
    reactor.call_at(clock.steady_ms() + 3_600_000, lambda: None)
    settle(reactor)
    before = reactor._round
    cpu = time.thread_time()
    settle(reactor)

    assert reactor._round - before <= 4
    assert time.thread_time() - cpu < 1


def test_a_new_owner_of_a_number_gets_no_event_of_the_old_one(reactor, log):
    """A descriptor closed and opened again between event and callback is not mistaken for its predecessor."""
    first_r, first_w = os.pipe()
    second_r, second_w = os.pipe()
    third_r, third_w = os.pipe()
    os.write(first_w, b"x")
    os.write(third_w, b"x")

    def replace_both():
        # Both are in the same list of events; whichever comes first gives the other's number to a silent pipe.
        for fd in (first_r, third_r):
            reactor.unwatch(fd)
            os.dup2(second_r, fd)
            reactor.watch_read(fd, lambda: log.tell("wrong"), "b")
        log.tell("replaced")

    ready = threading.Event()

    def watch_both():
        reactor.watch_read(first_r, replace_both, "a")
        reactor.watch_read(third_r, replace_both, "a")
        ready.set()

    reactor.call_soon(watch_both)
    assert ready.wait(PATIENCE_S)
    assert log.next() == "replaced"
    settle(reactor)

    assert log.rest() == []
    for fd in (first_r, third_r):
        reactor.unwatch(fd)
    for fd in (first_r, first_w, second_r, second_w, third_r, third_w):
        os.close(fd)


def test_no_callback_runs_once_unwatch_has_returned(reactor, pair, log):
    """Another thread may close the descriptor right after ``unwatch``, even if a callback was under way."""
    ours, theirs = pair
    inside, leave = threading.Event(), threading.Event()

    def read():
        inside.set()
        leave.wait(PATIENCE_S)
        log.tell("callback over")

    reactor.watch_read(ours.fileno(), read, "a")
    theirs.send(b"x")
    assert inside.wait(PATIENCE_S)
    other = threading.Thread(target=lambda: (reactor.unwatch(ours.fileno()), log.tell("unwatched")))
    other.start()
    leave.set()
    other.join(PATIENCE_S)

    assert log.rest()[-1] == "unwatched"


def test_a_failing_callback_is_taken_off_and_reported(reactor, pair, errors, log):
    """It is reported under its owner's name, once, and others go on."""
    ours, theirs = pair
    reactor.watch_read(ours.fileno(), lambda: 1 / 0, "a")
    theirs.send(b"x")
    owner, error = errors.next()
    reactor.call_soon(lambda: log.tell("alive"))

    assert ("a", ZeroDivisionError) == (owner, type(error))
    assert log.next() == "alive"
    settle(reactor)
    assert errors.rest() == []


def test_even_a_system_exit_in_a_callback_harms_nobody_else(reactor, errors, log):
    """The reactor's thread survives whatever a callback raises."""
    reactor.call_soon(sys.exit, "a")
    reactor.call_soon(lambda: log.tell("alive"))

    assert log.next() == "alive"
    assert SystemExit is type(errors.next()[1])


def test_timers_come_in_the_order_of_their_times(reactor, clock, log):
    """Equal times keep the order in which they were set; cancelled ones do not come."""
    now = clock.steady_ms()
    for delay, name in ((30, "c"), (10, "a"), (20, "cancelled"), (10, "b")):
        timer = reactor.call_at(now + delay, lambda name=name: log.tell(name))
        if name == "cancelled":
            timer.cancel()
            timer.cancel()
    clock.advance(9)
    settle(reactor)
    assert log.rest() == []
    clock.advance(100)

    assert log.take(3) == ["a", "b", "c"]


def test_cancelled_timers_do_not_pile_up(reactor, clock):
    """Deadlines that are set and called off ten thousand times leave almost nothing behind."""
    for _ in range(10_000):
        reactor.call_at(clock.steady_ms() + 600_000, lambda: None).cancel()

    assert len(reactor._timers) < 200


def test_a_timer_with_a_real_clock_is_on_time(errors):
    """The reactor sleeps for the time that is left, and not much longer."""

    class RealClock(ManualClock):
        def steady_ms(self):
            return time.monotonic_ns() // 1_000_000

    made = EpollReactor(RealClock(), lambda *_: None)
    made.start()
    fired = Probe()
    due = time.monotonic_ns() // 1_000_000 + 30
    made.call_at(due, lambda: fired.tell(time.monotonic_ns() // 1_000_000))
    late_ms = fired.next() - due
    made.close()

    assert 0 <= late_ms < 1000


def test_the_death_of_a_process_is_announced_once(reactor, log):
    """A killed process is reported through its pidfd."""
    with subprocess.Popen(["sleep", "600"]) as child:
        pidfd = os.pidfd_open(child.pid)
        reactor.watch_process(pidfd, lambda: log.tell("dead"), "a")
        settle(reactor)
        assert log.rest() == []
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

        assert log.next() == "dead"
        settle(reactor)
        assert log.rest() == []
        os.close(pidfd)


def test_what_cannot_be_watched_is_refused(reactor, tmp_path, pair, log):
    """A regular file has no events: the caller hears of it, and the number is free for another."""
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        reactor.watch_read(file.fileno(), lambda: None, "a")
    assert reactor._watches == {}
