"""The inbox of the main thread: whatever happens wakes it."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from lorch_actors.actors.inbox import Inbox

LATE_S = 10
ASKED = {signal.SIGUSR1: "asked to stop", signal.SIGUSR2: None}


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """Have an inbox that does not wait for ever."""
    inbox = Inbox()
    late = threading.Timer(LATE_S, lambda: inbox.tell("too late"))
    late.start()
    yield inbox
    late.cancel()
    inbox.close()


def test_messages_of_threads_come_in_their_order(inbox: Inbox) -> None:
    """Also what was told before anybody waited."""
    thread = threading.Thread(target=lambda: [inbox.tell(number) for number in range(3)])
    thread.start()

    assert [inbox.wait() for _ in range(3)] == [0, 1, 2]
    thread.join()


def test_a_signal_that_another_thread_gets_wakes_it(inbox: Inbox) -> None:
    """The kernel may give a signal to any thread; the main one sleeps, and its handlers with it."""
    sent = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))

    with inbox.hearing(ASKED):
        sent.start()
        assert inbox.wait() == "asked to stop"


def test_a_signal_that_came_before_it_waits_is_heard(inbox: Inbox) -> None:
    """Each as often as it came; one that means nothing is passed over, and handled."""
    with inbox.hearing(ASKED):
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(os.getpid(), number)

        assert [inbox.wait(), inbox.wait()] == ["asked to stop", "asked to stop"]


def test_afterwards_signals_have_their_former_meaning(inbox: Inbox) -> None:
    """And what a thread tells a closed inbox disturbs nobody who has got the numbers of its files."""
    before = signal.getsignal(signal.SIGUSR1)
    with inbox.hearing(ASKED):
        pass
    inbox.close()
    reading, writing = os.pipe2(os.O_NONBLOCK)
    inbox.tell("to nobody")

    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.close(reading)
    os.close(writing)
