"""Workers for the tests, in a module of their own because worker processes import it."""

import os
import signal
import socket
import stat
from pathlib import Path

from lorch_actors.actors.process_actor import ProcessActor
from lorch_actors.actors.worker import Worker
from lorch_actors.errors import LockedError


class Scripted(Worker):
    """Does what a message says: ``[verb, *arguments]``. Replies to every message."""

    def open(self):
        return {"ready": True}

    def handle(self, messages, context):
        for verb, *arguments in messages:
            yield getattr(self, f"do_{verb}")(context, len(messages), *arguments)

    def do_echo(self, context, batch, value):
        return value

    def do_batch(self, context, batch):
        return batch

    def do_wait(self, context, batch, fifo):
        """Stand still until somebody opens and closes the other end of ``fifo``."""
        with open(fifo, "rb") as pipe:
            pipe.read()
        return "waited"

    def do_work(self, context, batch, first, second):
        """Give a sign of progress between two waits."""
        self.do_wait(context, batch, first)
        context.progress()
        self.do_wait(context, batch, second)
        return "worked"

    def do_note(self, context, batch, path, text):
        """Leave a mark, so that a test can count how often a message was handled."""
        with open(path, "a") as file:
            file.write(text + "\n")
        return text

    def do_fail(self, context, batch, text):
        raise RuntimeError(text)

    def do_exit(self, context, batch):
        raise SystemExit(0)

    def do_fail_until(self, context, batch, path, deaths):
        """Fail until ``path`` has been marked ``deaths`` times."""
        marks = Path(path).read_text().count("\n") if Path(path).exists() else 0
        if marks < deaths:
            self.do_note(context, batch, path, "died")
            raise RuntimeError("not yet")
        return "survived"

    def do_kill(self, context, batch):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_kill_half_way(self, context, batch, path):
        """Write half a frame and die, the first time."""
        if not Path(path).exists():
            Path(path).touch()
            os.write(_socket_fd(), b"\x00\x00\x10\x00half a frame")
            os.kill(os.getpid(), signal.SIGKILL)
        return "whole"

    def do_garble(self, context, batch):
        os.write(_socket_fd(), b"\xff" * 64)
        return "garbled"

    def do_descriptors(self, context, batch):
        return sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in _own_fds() if fd > 2)

    def do_name(self, context, batch):
        return Path("/proc/self/comm").read_text().strip()

    def do_signal(self, context, batch):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        return "alive"


class Closing(Scripted):
    """Marks a file when it is closed in order."""

    def __init__(self, path):
        self.path = path

    def close(self):
        Path(self.path).write_text("closed")


class Locked(Scripted):
    """Cannot be opened, for a reason that a person can act on."""

    def open(self):
        raise LockedError("another run holds it", where="lorch.lock", remedy="Wait.")


class Broken(Scripted):
    """Cannot be opened, for no good reason."""

    def open(self):
        raise ZeroDivisionError("no good reason")


class NeverOpens(Scripted):
    """Hangs in its start."""

    def __init__(self, fifo):
        self.fifo = fifo

    def open(self):
        self.do_wait(None, 0, self.fifo)
        return {}


class Front(ProcessActor):
    """Logs what the worker says and sends it what it is told; a callable is called with the front."""

    def __init__(self, context, *, log, **arguments):
        super().__init__(context, **arguments)
        self.log = log

    def on_hello(self, hello):
        self.log.tell(("hello", hello))

    def on_reply(self, reply):
        self.log.tell(("reply", reply))

    def on_acked(self, number):
        self.log.tell(("acked", number))

    def receive(self, message):
        if callable(message):
            message(self)
        else:
            self.send(message)


def _own_fds():
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}") or _is_open(fd)]


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _socket_fd():
    return next(fd for fd in _own_fds() if fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode) and _is_stream(fd))


def _is_stream(fd):
    with socket.socket(fileno=os.dup(fd)) as one:
        return one.type == socket.SOCK_STREAM
