"""Processes are found, told apart and ended, whatever they do against it."""

import os
import resource
import select
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import pytest

from lorch_actors import processes
from lorch_actors.processes import hunt, proc
from lorch_actors.processes.watermark import watermarked

WAIT_S = 10
PROLOGUE = (
    "import os, signal, sys, time\n"
    "fd = int(sys.argv[1])\n"
    "def ready(): os.write(fd, b'%d\\n' % os.getpid())\n"
    "def rest(): time.sleep(600)\n"
)
"""What programs of these tests start with: `ready` says that a process is as the test wants it."""


class Programs:
    """Starts small programs that say when they are ready."""

    def __init__(self, mark):
        self.mark = mark
        self.started = []

    def start(self, code, *, count=1, **options):
        """Start a program; return it and the pids of the processes that said they are ready, in that order."""
        reading, writing = os.pipe()
        command = [sys.executable, "-S", "-E", "-c", PROLOGUE + code, str(writing)]
        environment = {**os.environ, "LORCH_TEST": self.mark}
        program = subprocess.Popen(command, pass_fds=[writing], env=environment, **options)
        os.close(writing)
        said = b""
        while said.count(b"\n") < count:
            said += os.read(reading, 100)
        os.close(reading)
        self.started.append(program)
        return program, [int(pid) for pid in said.split()]

    def pids(self):
        return processes.marked("LORCH_TEST", self.mark)


@pytest.fixture
def programs():
    """Start programs that have all ended when the test has; this process inherits their orphans meanwhile."""
    processes.set_child_subreaper()
    started = Programs(uuid.uuid4().hex)
    yield started
    processes.end_all(started.pids, deadline_s=WAIT_S)
    for program in started.started:
        program.wait()
    owned = {program.pid for program in started.started}
    processes.reap_adopted(owned)
    processes._prctl(processes._PR_SET_CHILD_SUBREAPER, 0)


def end(programs, **options):
    return processes.end_all(programs.pids, **({"deadline_s": WAIT_S} | options))


def alive(pids):
    return [pid for pid in pids if (who := processes.identify(pid)) and processes.is_alive(who)]


def test_a_process_is_named_by_boot_pid_and_start():
    """Two looks at one process give one identity."""
    me = processes.identify(os.getpid())

    assert me == processes.identify(os.getpid())
    assert (me.boot_id, me.pid) == (processes.boot_id(), os.getpid())
    assert processes.is_alive(me)


def test_a_name_with_parentheses_and_blanks_is_no_obstacle(programs):
    """The name in /proc/PID/stat is whatever the process likes."""
    program, _ = programs.start("open('/proc/self/comm', 'w').write('a) Z 1 (b'); ready(); rest()")

    assert (processes.identify(program.pid).pid, processes.children(os.getpid()) >= {program.pid}) == (
        program.pid,
        True,
    )


def test_a_zombie_is_dead(programs):
    """A process that ended, but was not reaped, has an identity and no life."""
    program, _ = programs.start("ready(); rest()")
    who = processes.identify(program.pid)
    program.kill()
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)

    assert processes.identify(program.pid) == who
    assert not processes.is_alive(who)
    assert not processes.kill(who, signal.SIGKILL)


def test_whoever_is_on_its_way_out_is_told_from_whoever_lives(programs):
    """A pidfd alone says nothing between the moment that files are closed and the end."""
    program, _ = programs.start("ready(); rest()")
    handle = os.pidfd_open(program.pid)
    try:
        assert not processes.is_exiting(handle)
        program.kill()
        program.wait()
        assert processes.is_exiting(handle)
    finally:
        os.close(handle)


def test_a_process_that_stands_still_is_alive(programs):
    """SIGSTOP is not death."""
    program, _ = programs.start("ready(); rest()")
    program.send_signal(signal.SIGSTOP)

    assert processes.is_alive(processes.identify(program.pid))


def test_a_reused_pid_is_neither_the_old_process_nor_killed(programs):
    """Another start, or another boot, is another process."""
    program, _ = programs.start("ready(); rest()")
    who = processes.identify(program.pid)
    others = [who._replace(start_ticks=who.start_ticks - 1), who._replace(boot_id="another")]

    assert [processes.is_alive(other) for other in others] == [False, False]
    assert [processes.kill(other, signal.SIGKILL) for other in others] == [False, False]
    assert processes.is_alive(who)


def test_a_signal_reaches_the_process_it_is_meant_for(programs):
    """The identity matches: the signal is sent."""
    program, _ = programs.start("ready(); rest()")

    assert processes.kill(processes.identify(program.pid), signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM


def test_nobody_is_identified_by_a_pid_that_nobody_has(programs):
    """A process that was reaped is gone."""
    program, _ = programs.start("ready()")
    program.wait()

    assert processes.identify(program.pid) is None
    assert not processes.is_alive(processes.ProcessIdentity(processes.boot_id(), program.pid, 1))


def test_descendants_are_found_in_sessions_of_their_own(programs):
    """Children, grandchildren and orphans, at any depth."""
    code = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.setsid(); ready(); rest()\n"
        "    ready(); rest()\n"
        "ready(); rest()\n"
    )
    program, pids = programs.start(code, count=3)

    assert processes.descendants(program.pid) == set(pids) - {program.pid}
    assert processes.descendants(os.getpid()) >= set(pids)
    assert len(processes.children(program.pid)) == 1


def test_the_kernels_own_lists_tell_the_same(programs):
    """Of every thread's children, at any depth, in sessions of their own; nothing of who is gone."""
    code = (
        "import threading\n"
        "def other():\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            ready(); rest()\n"
        "        ready(); rest()\n"
        "    rest()\n"
        "threading.Thread(target=other).start()\n"
        "ready(); rest()\n"
    )
    program, pids = programs.start(code, count=3)

    assert processes.below(program.pid) == set(pids) - {program.pid} == processes.descendants(program.pid)
    assert processes.nearest(program.pid) == processes.children(program.pid)
    assert processes.nearest(2**22 + 1) == set()


def test_a_parent_that_ends_while_the_table_is_read_hides_nobody(monkeypatch):
    """Its children hang in the air in one look; so there is another."""
    first = {1: 0, 10: 1, 12: 11}
    second = {1: 0, 10: 1, 12: 10}
    looks = iter([first, second])
    table = {}

    def look():
        table.update(next(looks))
        return list(table)

    monkeypatch.setattr(proc, "pids", look)
    monkeypatch.setattr(proc, "stat", lambda pid: [b"S", b"%d" % table[pid]])

    assert proc.descendants(10) == {12}


def test_the_marker_is_matched_as_a_whole(programs):
    """Neither a part of the value nor another variable that ends alike."""
    program, _ = programs.start("ready(); rest()")
    mark = programs.mark

    assert processes.marked("LORCH_TEST", mark) == {program.pid}
    assert processes.marked("LORCH_TEST", mark[:-1]) == set()
    assert processes.marked("TEST", mark) == set()
    assert processes.environment_marker(program.pid, "LORCH_TEST") == mark
    assert processes.environment_marker(program.pid, "LORCH_TES") is None


def test_what_cannot_be_looked_at_carries_no_marker(monkeypatch):
    """Processes of others, and those that end meanwhile, are passed over."""
    monkeypatch.setattr(proc, "pids", lambda: [os.getpid(), 2**22 + 1])
    monkeypatch.setattr(proc, "read", lambda _path: None)

    assert processes.marked("PATH", os.environ["PATH"]) == set()
    assert processes.environment_marker(1, "PATH") is None


def test_the_watermark_cannot_be_shed(programs):
    """It stays with a program that has neither environment nor parent nor session of its starter's."""
    code = (
        "from lorch_actors.processes.watermark import set_watermark\n"
        f"set_watermark('run-{programs.mark}')\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        ready()\n"
        "        os.execve(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(600)'], {})\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "ready(); rest()"
    )
    _, pids = programs.start(code, count=2)
    found = watermarked(f"run-{programs.mark}")
    others = watermarked(f"run-{programs.mark[:-1]}")
    processes.end_all(lambda: watermarked(f"run-{programs.mark}"), deadline_s=5)

    assert found == set(pids)
    assert others == set()
    assert watermarked(f"run-{programs.mark}") == set()


def test_a_hard_limit_below_the_watermark_is_no_error(programs):
    """Then the marker in the environment is all there is."""
    code = (
        "import resource\n"
        "from lorch_actors.processes.watermark import set_watermark\n"
        "resource.setrlimit(resource.RLIMIT_RTTIME, (1000, 1000))\n"
        "set_watermark('run')\n"
        "ready(); rest()"
    )
    program, pids = programs.start(code)

    assert pids == [program.pid]


STUBBORN = {
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); rest()",
    "stopped": "ready(); os.kill(os.getpid(), signal.SIGSTOP)",
    "in a session of its own": "os.setsid(); ready(); rest()",
    "an orphan": "if os.fork() == 0:\n    os.setsid(); ready(); rest()",
    "one of many threads": "import threading\nthreading.Thread(target=rest).start(); ready()",
    "a tree": "os.fork(); os.fork(); ready(); rest()",
}


@pytest.mark.parametrize("code", STUBBORN.values(), ids=STUBBORN)
def test_the_stubborn_are_ended(programs, code):
    """SIGKILL through a pidfd ends them all, and the children among them are reaped."""
    program, pids = programs.start(code, count=4 if "fork(); os.fork" in code else 1)
    if program.pid not in pids:
        program.wait()  # only then is the other one an orphan, and nobody on its way out is left to be looked at

    assert end(programs) == []
    assert (alive([program.pid, *pids]), programs.pids()) == ([], set())


def test_the_willing_are_given_time_to_end_by_themselves(programs, tmp_path):
    """SIGTERM first: who ends within the grace has done what it wanted to do."""
    farewell = tmp_path / "farewell"
    code = f"signal.signal(signal.SIGTERM, lambda *_: (open({str(farewell)!r}, 'x'), sys.exit())); ready(); rest()"
    programs.start(code)

    assert (end(programs, grace_s=WAIT_S), farewell.exists()) == ([], True)


def test_the_deaf_are_killed_when_the_grace_is_over(programs):
    """Who ignores SIGTERM gets SIGKILL, and not before."""
    programs.start(STUBBORN["deaf"])
    started_at = time.monotonic()
    left = end(programs, grace_s=0.2)

    assert (left, 0.2 <= time.monotonic() - started_at < WAIT_S) == ([], True)


def test_processes_that_keep_forking_are_ended(programs):
    """None that was started while we looked is left."""
    code = (
        "end = time.monotonic() + 20\n"
        "ready()\n"
        "while time.monotonic() < end:\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1); os._exit(0)\n"
        "    time.sleep(0.002)\n"
    )
    programs.start(code)

    assert (end(programs), programs.pids()) == ([], set())


RUNNER = (
    "end = time.monotonic() + 3\n"
    "ready()\n"
    "for _ in range(2): os.fork()\n"
    "while time.monotonic() < end:\n"
    "    if os.fork(): os._exit(0)\n"
)
"""Four chains of processes, each of which lives until it has started the next; all over after three seconds."""


@pytest.mark.long
def test_runners_are_ended_by_their_group(programs):
    """Processes that pass on the torch faster than one can look have a process group in common."""
    programs.start(RUNNER, start_new_session=True)
    bystander, _ = programs.start("ready(); rest()")
    me = os.getpid()
    left = processes.end_all(lambda: processes.descendants(me), deadline_s=2, keep={bystander.pid})

    assert (left, processes.descendants(me)) == ([], {bystander.pid})


def test_a_group_is_ended_with_members_that_no_look_has_met(programs):
    """What shows is a zombie, and the group that a hunted process founded: the rest of it runs somewhere."""
    code = (
        "trace = os.fork()\n"
        "if trace == 0: os._exit(0)\n"
        "os.waitid(os.P_PID, trace, os.WEXITED | os.WNOWAIT)\n"
        "os.write(fd, b'%d\\n' % trace)\n"
        "if os.fork() == 0: ready()\n"
        "rest()\n"
    )
    leader, (trace, unseen) = programs.start(code, count=2, start_new_session=True)
    handle = os.pidfd_open(unseen)
    processes.end_all(lambda: {leader.pid} if alive([leader.pid]) else {trace}, deadline_s=WAIT_S)
    ended, _, _ = select.select([handle], [], [], 1)
    os.close(handle)

    assert ended == [handle]


def test_a_hunt_that_runs_out_of_time_says_so():
    """As long as every look shows somebody who has just ended, nobody claims that all is over."""
    ended = []

    def find():
        runner = os.fork()
        if runner == 0:
            os._exit(0)
        os.waitid(os.P_PID, runner, os.WEXITED | os.WNOWAIT)
        ended.append(runner)
        return [runner]

    left = processes.end_all(find, deadline_s=0.1)
    processes.reap_adopted(())

    assert (len(left), set(left) <= set(ended)) == (1, True)


def test_those_to_keep_are_not_touched(programs):
    """A hunt passes by whom it was told to, and whoever hunts."""
    first, _ = programs.start("ready(); rest()")
    second, _ = programs.start("ready(); rest()")
    left = processes.end_all(lambda: programs.pids() | {os.getpid()}, deadline_s=WAIT_S, keep={first.pid})

    assert (left, alive([first.pid, second.pid])) == ([], [first.pid])


def test_a_child_that_another_waits_for_keeps_its_exit_code(programs):
    """Who is not found is not reaped."""
    program, _ = programs.start("ready(); rest()")
    other, _ = programs.start("ready()")
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    processes.end_all(lambda: [program.pid], deadline_s=WAIT_S)

    assert other.wait() == 0


def test_more_processes_than_handles_are_ended(programs, monkeypatch):
    """They are taken in rounds."""
    monkeypatch.setattr(hunt, "_MAX_HANDLES", 3)
    programs.start("for _ in range(3): os.fork()\nready(); rest()", count=8)

    assert (end(programs), programs.pids()) == ([], set())


def test_descriptors_that_run_out_are_used_in_turn(programs):
    """A hunt goes on with the few it gets, and leaves none open."""
    programs.start("for _ in range(3): os.fork()\nready(); rest()", count=8)
    before = set(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 10, hard))
    fillers = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(6):
            os.close(fillers.pop())
        left = end(programs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)

    assert (left, set(os.listdir("/proc/self/fd"))) == ([], before)


def test_who_refuses_is_named(programs, monkeypatch):
    """A process of another user may not be signalled; the hunt does not wait for it."""
    program, _ = programs.start("ready(); rest()")

    def refuse(*_arguments):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        started_at = time.monotonic()
        left = end(programs)

    assert (left, time.monotonic() - started_at < WAIT_S) == ([program.pid], True)


def test_adopted_zombies_are_reaped_and_owned_ones_are_not(programs):
    """A subreaper reaps what it inherits, and steals no exit code."""
    owned, _ = programs.start("ready(); sys.exit(3)")
    os.waitid(os.P_PID, owned.pid, os.WEXITED | os.WNOWAIT)
    parent, (orphan,) = programs.start("if os.fork() == 0:\n    ready(); rest()")
    parent.wait()
    handle = os.pidfd_open(orphan)
    os.kill(orphan, signal.SIGKILL)
    select.select([handle], [], [], WAIT_S)
    os.close(handle)

    assert processes.reap_adopted({owned.pid}) == [orphan]
    assert processes.reap_adopted({owned.pid}) == []
    assert owned.wait() == 3


def test_there_may_be_nothing_to_reap():
    """Neither a child nor a zombie is needed."""
    assert processes.reap_adopted(()) == []


def test_a_subreaper_inherits_orphans(programs):
    """An orphan's new parent is the nearest subreaper, not init."""
    parent, (orphan,) = programs.start("if os.fork() == 0:\n    os.setsid(); ready(); rest()")
    parent.wait()

    assert processes.children(os.getpid()) >= {orphan}


def test_a_process_shows_the_name_it_was_given(programs):
    """Cut to what the kernel keeps."""
    code = "from lorch_actors import processes\nprocesses.set_name('lorch-ledger-writer')\nready(); rest()"
    program, _ = programs.start(f"sys.path[:0] = {sys.path!r}\n" + code)
    with open(f"/proc/{program.pid}/comm") as file:
        name = file.read()

    assert name == "lorch-ledger-wr\n"


def test_a_child_may_die_with_its_parent(programs):
    """The kernel sees to it, however the parent ends; and a parent that is gone already is noticed."""
    code = (
        f"sys.path[:0] = {sys.path!r}\n"
        "from lorch_actors import processes\n"
        "parent = os.getpid()\n"
        "for expected in (parent, 1):\n"
        "    if os.fork() == 0:\n"
        "        processes.die_with_parent(expected); ready(); rest()\n"
        "    if expected == 1: os.wait()\n"
        "ready(); rest()\n"
    )
    parent, pids = programs.start(code, count=2)
    (child,) = set(pids) - {parent.pid}
    handle = os.pidfd_open(child)
    parent.kill()
    ended, _, _ = select.select([handle], [], [], WAIT_S)
    os.close(handle)

    assert ended == [handle]
