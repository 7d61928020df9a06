"""Programs under guard, remote-controlled, each in a process of its own; no test leaves one behind."""

import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from lorch_actors import processes

OBEDIENT = Path(__file__).with_name("obedient.py")
WAIT_S = 20


class Guarded:
    """A guardian with an obedient orchestrator below it."""

    def __init__(self, control, process):
        self._control = control
        self._reports = control.makefile("r")
        self.process = process

    @property
    def pid(self):
        return self.process.pid

    def report(self):
        """Return what an orchestrator tells next."""
        return json.loads(self._reports.readline())

    def order(self, order):
        self._control.sendall(order.encode())

    def ask(self, order):
        self.order(order)
        return self.report()

    def end(self):
        """Wait for the end of the guardian; return exit code and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, errors.decode()

    def close(self):
        self._reports.close()
        self._control.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def mark():
    """Mark the processes of one test, which have all ended when it has."""
    value = uuid.uuid4().hex
    yield value
    left = processes.marked("LORCH_TEST", value)
    processes.end_all(lambda: processes.marked("LORCH_TEST", value), deadline_s=WAIT_S)
    assert left == set()


@pytest.fixture
def under_guard(tmp_path, mark):
    """Return a function that puts a command line under guard."""
    started = []

    def start(*argv, limits=None, prefix=(), without_interpreter=False, **options):
        ours, theirs = socket.socketpair()
        ours.settimeout(WAIT_S)
        interpreter = [] if without_interpreter else [sys.executable]
        command = [*prefix, *interpreter, str(OBEDIENT), str(theirs.fileno()), json.dumps(limits or {}), *argv]
        environment = {**os.environ, "LORCH_TEST": mark}
        environment.pop("LORCH_RUN_ID", None)
        settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": tmp_path, "env": environment}
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **(settings | options))
        theirs.close()
        started.append(Guarded(ours, process))
        return started[-1]

    yield start
    for guarded in started:
        # A test that failed half-way has left its guardian running.
        if guarded.process.poll() is None:
            guarded.process.kill()
            guarded.process.wait()
            processes.end_all(lambda: processes.marked("LORCH_TEST", mark), deadline_s=WAIT_S)
        guarded.close()
