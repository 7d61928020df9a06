"""Worker processes under SIGKILL, SIGSTOP, full sockets, a dying fork server and a dying orchestrator."""

import errno
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from actor_probes import PATIENCE_S, Probe
from actor_workers import Front, Scripted

from lorch_actors.actors.child import child
from lorch_actors.actors.fork_server import NAME, _answer
from lorch_actors.actors.messages import Call, Shutdown
from lorch_actors.actors.runtime import start_runtime
from lorch_actors.actors.supervisor import Supervisor
from lorch_actors.actors.tree import start_tree
from lorch_actors.processes import identify

WAIT_MS = PATIENCE_S * 1000


@pytest.fixture
def runtime(clock):
    """Make a system with worker processes and a clock moved by hand."""
    system = start_runtime(clock=clock, preload=["actor_workers"])
    clock.on_move = system.reactor.wake
    yield system
    system.close()


@pytest.fixture
def tree(runtime, log):
    """Start a supervisor above one front named ``front``, whose worker is up."""
    spec = child(Front, "front", log=log, create=Scripted)
    made = start_tree(runtime, child(Supervisor, "top", children=[spec], intensity=20))
    assert made.wait_started(WAIT_MS), made.wait(0)
    assert log.next() == ("hello", {"ready": True})
    yield made
    made.stop()
    assert made.wait(WAIT_MS) is not None


def pid_of(runtime):
    """Return the pid of the worker there is now."""
    answer = Probe()
    runtime.tell("front", lambda actor: answer.tell(actor.worker_pid))
    return answer.next()


def sync(runtime):
    runtime.directory.find("front").ask(Call(lambda: None), timeout=PATIENCE_S)


def settle(runtime):
    """Wait until reactor and front have dealt with everything that was there."""
    for _ in range(2):
        passed = threading.Event()
        runtime.reactor.call_soon(passed.set)
        assert passed.wait(PATIENCE_S)
    sync(runtime)


def server_of(runtime):
    """Return the pid of the fork server there is now."""
    return runtime.workers.server.pid


def ends_in(pidfd, ms):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(ms))


@contextmanager
def watched(pid):
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


def test_an_idle_worker_that_is_killed_is_replaced(runtime, tree, log):
    """Nobody sends anything, and yet the next worker comes up."""
    first = pid_of(runtime)
    os.kill(first, signal.SIGKILL)

    assert log.next() == ("hello", {"ready": True})
    assert first != pid_of(runtime)


def test_a_worker_killed_in_the_middle_of_a_message_gets_it_again(runtime, tree, log, fifo):
    """The message in hand and those behind it are handled by the next worker, in order."""
    runtime.tell("front", ["wait", fifo])
    held = os.open(fifo, os.O_WRONLY)
    runtime.tell("front", ["echo", "behind"])
    pid = pid_of(runtime)
    os.kill(pid, signal.SIGKILL)
    assert log.next() == ("hello", {"ready": True})
    second = os.open(fifo, os.O_WRONLY)  # waits for the next worker to have come as far
    os.close(held)
    os.close(second)

    seen = [log.next()]
    while seen[-1] != ("acked", 2):
        seen.append(log.next())
    assert [value for kind, value in seen if kind == "reply"] == ["waited", "behind"]


def test_every_message_is_handled_however_often_workers_die(runtime, tree, log, tmp_path):
    """Ten kills under a stream of messages: none is lost, none overtakes another, and all are acknowledged."""
    path = tmp_path / "notes"
    for round_ in range(10):
        for number in range(20):
            runtime.tell("front", ["note", str(path), str(20 * round_ + number)])
        pid = pid_of(runtime)
        if pid is not None:
            with suppress(ProcessLookupError):  # still dead from the last round
                os.kill(pid, signal.SIGKILL)
    while log.next() != ("acked", 200):
        pass

    order = list(dict.fromkeys(path.read_text().split()))
    assert [str(number) for number in range(200)] == order


def test_a_paused_writer_is_replaced_and_never_writes_again(runtime, tree, log, clock, tmp_path):
    """A stopped worker makes no event; its deadline passes, it is killed for certain, and only then replaced."""
    pid = pid_of(runtime)
    os.kill(pid, signal.SIGSTOP)
    with watched(pid) as pidfd:
        path = tmp_path / "notes"
        runtime.tell("front", ["note", str(path), "once"])
        sync(runtime)
        clock.advance(10_000)

        assert log.take(3) == [("hello", {"ready": True}), ("reply", "once"), ("acked", 1)]
        assert ends_in(pidfd, 0)
    assert path.read_text() == "once\n"


def test_a_front_that_crashes_leaves_no_worker_that_stands_still(runtime, tree, log):
    """A stopped worker would hear nothing of the closed socket, and write when it wakes up."""
    pid = pid_of(runtime)
    os.kill(pid, signal.SIGSTOP)
    with watched(pid) as pidfd:
        runtime.tell("front", lambda actor: 1 // 0)

        assert log.next() == ("hello", {"ready": True})
        assert ends_in(pidfd, 0)


def test_a_front_that_hangs_is_cut_off_together_with_its_worker(runtime, tree, log, clock):
    """Its own thread cannot end the worker any more; whoever cuts it off does."""
    pid = pid_of(runtime)
    let_go = threading.Event()
    with watched(pid) as pidfd:
        runtime.tell("front", lambda actor: let_go.wait(3 * PATIENCE_S))  # longer than it is waited for below
        tree.stop()
        runtime.directory.find("top").ask(Call(lambda: None), timeout=PATIENCE_S)
        clock.advance(60_000)

        assert ends_in(pidfd, WAIT_MS)
        assert not let_go.is_set()
        let_go.set()


def test_a_killed_peer_corrupts_nothing(runtime, tree, log, tmp_path):
    """A worker that dies in the middle of a frame leaves no damage for the next one."""
    runtime.tell("front", ["kill_half_way", str(tmp_path / "flag")])

    assert log.take(3) == [("hello", {"ready": True}), ("reply", "whole"), ("acked", 1)]


def test_a_worker_that_sends_damage_is_killed(runtime, tree, log):
    """Bytes that are no frame are never a value: the worker is replaced until the message is poison."""
    runtime.tell("front", ["garble"])

    assert log.take(2) == [("hello", {"ready": True})] * 2
    reason = tree.wait(WAIT_MS)
    assert "['garble']" in str(reason)


def test_a_worker_that_does_not_read_blocks_nobody(runtime, tree, log):
    """With the socket full, the front goes on taking messages; they follow when there is room."""
    pid = pid_of(runtime)
    os.kill(pid, signal.SIGSTOP)
    for number in range(100):
        runtime.tell("front", ["echo", bytes([number]) * 65_536])
    sync(runtime)
    os.kill(pid, signal.SIGCONT)

    seen = []
    while len(seen) < 100:
        kind, value = log.next()
        seen += [value[0]] if kind == "reply" else []
    assert list(range(100)) == seen


def test_a_worker_holds_nothing_that_is_not_its_own(runtime, tree, log):
    """Neither the fork server's descriptors nor locks of the orchestrator: one socket, one pidfd, /proc itself."""
    runtime.tell("front", ["descriptors"])

    kinds = [kind for kind in log.next()[1] if not kind.startswith("/proc")]
    assert kinds == ["anon_inode", "socket"]


def test_a_fork_server_holds_its_socket_and_a_handle_on_its_worker(runtime, tree, log):
    """It is a copy of the orchestrator, whose locks and pipes would else outlive it."""
    fds = Path(f"/proc/{server_of(runtime)}/fd")

    kinds = sorted(os.readlink(fd).split(":")[0] for fd in fds.iterdir() if int(fd.name) > 2)
    assert kinds == ["anon_inode", "socket"]


def test_a_fork_server_that_cannot_fork_says_why_and_keeps_nothing(monkeypatch):
    """Asked again and again while there is no room for a process, it must not run out of descriptors as well."""

    def refuse():
        raise BlockingIOError(errno.EAGAIN, "no room for a process")

    monkeypatch.setattr(os, "fork", refuse)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked_with = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    with ours, theirs:
        assert _answer(theirs, asked_with) is None
        assert int.from_bytes(ours.recv(64), "big", signed=True) == -errno.EAGAIN
    assert [fd for fd in asked_with if os.path.exists(f"/proc/self/fd/{fd}")] == []


def test_a_fork_server_bears_its_name(runtime, tree, log):
    """Programs such as top show it, and chaos finds it by that."""
    assert Path(f"/proc/{server_of(runtime)}/comm").read_text() == f"{NAME}\n"


def test_the_first_fork_server_is_the_orchestrators_younger_self():
    """It starts no interpreter of its own."""
    script = ORCHESTRATOR.format(here=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as orchestrator:
        worker = int(orchestrator.stdout.readline())
        server = parent_of(worker)
        own, its = (Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (orchestrator.pid, server))
        orchestrator.kill()

    assert own == its


def test_a_worker_bears_its_name(runtime, tree, log):
    """Programs such as top show which worker it is."""
    runtime.tell("front", ["name"])

    assert log.next() == ("reply", "lorch-front")


def test_signals_for_everybody_leave_a_worker_alone(runtime, tree, log):
    """Ctrl-C, a hang-up and a service manager's SIGTERM are the orchestrator's business."""
    runtime.tell("front", ["signal"])

    assert log.next() == ("reply", "alive")


def test_signals_for_everybody_leave_the_fork_server_alone(runtime, tree, log):
    """What a terminal or a service manager sends to the whole group does not cost a new server."""
    worker, server = pid_of(runtime), server_of(runtime)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server, number)
    os.kill(worker, signal.SIGKILL)

    assert log.next() == ("hello", {"ready": True})
    assert server == server_of(runtime)


def test_a_worker_outlives_the_fork_server_and_the_next_one_gets_a_new_server(runtime, tree, log):
    """The death of the fork server is noticed by nobody until a worker is to be started."""
    worker, server = pid_of(runtime), server_of(runtime)
    with watched(server) as pidfd:
        os.kill(server, signal.SIGKILL)
        assert ends_in(pidfd, WAIT_MS)
    runtime.tell("front", ["echo", "still here"])
    assert log.take(2) == [("reply", "still here"), ("acked", 1)]
    os.kill(worker, signal.SIGKILL)

    assert log.next() == ("hello", {"ready": True})
    assert worker != pid_of(runtime)
    assert server != server_of(runtime)


def test_a_fork_server_that_somebody_else_has_reaped_is_replaced(runtime, tree, log):
    """A sweep that reaps what it ends must not leave us waiting for a child that is not there."""
    worker, server = pid_of(runtime), server_of(runtime)
    os.kill(server, signal.SIGKILL)
    with suppress(ChildProcessError):  # whoever comes first
        os.waitpid(server, 0)
    os.kill(worker, signal.SIGKILL)

    assert log.next() == ("hello", {"ready": True})
    assert server != server_of(runtime)


def test_a_fork_server_that_stands_still_is_replaced(runtime, tree, log, clock):
    """It is seen after a fifth of a second, long before the start of the worker is overdue."""
    with starting_worker(runtime) as (server, server_pidfd):
        clock.advance(200)

        assert ends_in(server_pidfd, WAIT_MS)
    assert log.next() == ("hello", {"ready": True})
    assert server != server_of(runtime)


def test_the_death_of_a_fork_server_costs_no_restart_of_its_own(runtime, log, clock):
    """The worker whose start it owed is started by the next one; its supervisor counts the worker's death alone."""
    spec = child(Front, "front", log=log, create=Scripted)
    tree = start_tree(runtime, child(Supervisor, "top", children=[spec], intensity=1))
    assert tree.wait_started(WAIT_MS), tree.wait(0)
    assert log.next() == ("hello", {"ready": True})
    with starting_worker(runtime) as (_, server_pidfd):
        clock.advance(200)
        assert ends_in(server_pidfd, WAIT_MS)

    assert log.next() == ("hello", {"ready": True})
    tree.stop()
    assert tree.wait(WAIT_MS) == Shutdown()


def test_a_fork_server_that_is_only_slow_is_left_alone(runtime, tree, log, clock, monkeypatch):
    """On a machine that is busy an answer may take seconds."""
    monkeypatch.setattr("lorch_actors.processes.stands_still", lambda pid: False)
    with starting_worker(runtime) as (server, server_pidfd):
        for _ in range(39):
            clock.advance(200)
            settle(runtime)
        os.kill(server, signal.SIGCONT)
        assert log.next() == ("hello", {"ready": True})

        assert not ends_in(server_pidfd, 0)


def test_a_fork_server_that_never_answers_is_replaced(runtime, tree, log, clock, monkeypatch):
    """After eight seconds it does not matter why."""
    monkeypatch.setattr("lorch_actors.processes.stands_still", lambda pid: False)
    with starting_worker(runtime) as (_, server_pidfd):
        for _ in range(40):
            clock.advance(200)
            settle(runtime)

        assert ends_in(server_pidfd, WAIT_MS)
    assert log.next() == ("hello", {"ready": True})


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@contextmanager
def starting_worker(runtime):
    """Stop the fork server and have a worker started by it; yield its pid and a handle on it."""
    worker, server = pid_of(runtime), server_of(runtime)
    with watched(worker) as pidfd, watched(server) as server_pidfd:
        os.kill(server, signal.SIGSTOP)
        os.waitid(os.P_PID, server, os.WSTOPPED | os.WNOWAIT)
        os.kill(worker, signal.SIGKILL)
        assert ends_in(pidfd, WAIT_MS)
        waits_for_start(runtime)
        settle(runtime)
        try:
            yield server, server_pidfd
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(server_pidfd, signal.SIGCONT)


def waits_for_start(runtime):
    """Wait until the front has begun to start the next worker."""
    answer = Probe()
    launches = 1
    while launches == 1:
        runtime.tell("front", lambda actor: answer.tell(actor._launches))
        launches = answer.next()


ORCHESTRATOR = textwrap.dedent("""
    import sys, threading
    sys.path.insert(0, {here!r})
    from actor_probes import Probe
    from actor_workers import Front, Scripted
    from lorch_actors.actors.child import child
    from lorch_actors.actors.runtime import start_runtime
    from lorch_actors.actors.supervisor import Supervisor
    from lorch_actors.actors.tree import start_tree
    log = Probe()
    runtime = start_runtime(preload=["actor_workers"])
    tree = start_tree(runtime, child(Supervisor, "top", children=[child(Front, "front", log=log, create=Scripted)]))
    tree.wait_started(20_000)
    log.next()
    if sys.argv[1:]:
        runtime.tell("front", ["wait", sys.argv[1]])
    runtime.tell("front", lambda front: print(front.worker_pid, flush=True))
    threading.Event().wait()
""")


@pytest.mark.parametrize("busy", [False, True])
def test_workers_are_gone_within_a_second_of_their_orchestrator(busy, fifo):
    """Its SIGKILL reaches an idle worker, one that is at work, and the fork server."""
    script = ORCHESTRATOR.format(here=str(Path(__file__).parent))
    arguments = [fifo] if busy else []
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) as orchestrator:
        worker = int(orchestrator.stdout.readline())
        held = os.open(fifo, os.O_WRONLY) if busy else None
        server = parent_of(worker)
        with watched(worker) as worker_pidfd, watched(server) as server_pidfd:
            orchestrator.kill()

            assert ends_in(worker_pidfd, 1000)
            assert ends_in(server_pidfd, 1000)
        if held is not None:
            os.close(held)


def test_a_fork_server_that_stands_still_is_gone_with_its_orchestrator():
    """It has no marker that it could be found by, so the kernel ends it."""
    script = ORCHESTRATOR.format(here=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as orchestrator:
        worker = int(orchestrator.stdout.readline())
        server = parent_of(worker)
        with watched(server) as server_pidfd:
            os.kill(server, signal.SIGSTOP)
            orchestrator.kill()

            assert ends_in(server_pidfd, 1000)


def test_no_zombie_is_left_of_a_killed_worker(runtime, tree, log):
    """The fork server reaps its children; nothing of the dead one stays."""
    first = pid_of(runtime)
    identity = identify(first)
    os.kill(first, signal.SIGKILL)
    assert log.next() == ("hello", {"ready": True})

    assert identity != identify(first)


ADOPTING = textwrap.dedent("""
    import os, select, signal, sys
    sys.path.insert(0, {here!r})
    from actor_probes import Probe
    from actor_workers import Front, Scripted
    from lorch_actors.actors.child import child
    from lorch_actors.actors.runtime import start_runtime
    from lorch_actors.actors.supervisor import Supervisor
    from lorch_actors.actors.tree import start_tree
    from lorch_actors.processes import identify, set_child_subreaper
    set_child_subreaper()
    log = Probe()
    runtime = start_runtime(preload=["actor_workers"])
    tree = start_tree(runtime, child(Supervisor, "top", children=[child(Front, "front", log=log, create=Scripted)]))
    log.next()
    pids = Probe()
    runtime.tell("front", lambda front: pids.tell(front.worker_pid))
    worker = pids.next()
    dead = select.poll()
    dead.register(os.pidfd_open(runtime.workers.server.pid), select.POLLIN)
    os.kill(runtime.workers.server.pid, signal.SIGKILL)
    dead.poll()
    os.kill(worker, signal.SIGKILL)
    log.next()
    print(identify(worker), flush=True)
    tree.stop()
    tree.wait(10_000)
    runtime.close()
""")


def test_a_subreaper_reaps_the_workers_it_adopts(tmp_path):
    """When the fork server dies before its worker, the orchestrator inherits the corpse and buries it."""
    script = ADOPTING.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, text=True)

    assert (done.stdout, done.stderr) == ("None\n", "")


def test_a_worker_knows_who_it_is(runtime, log):
    """The front is told the identity of every worker process before its hello."""
    seen = Probe()

    class Noting(Front):
        def on_worker_up(self, identity):
            seen.tell(identity)

    tree = start_tree(runtime, child(Supervisor, "top", children=[child(Noting, "front", log=log, create=Scripted)]))
    assert tree.wait_started(WAIT_MS)
    assert seen.next() == identify(pid_of(runtime))
    tree.stop()
    assert tree.wait(WAIT_MS) is not None


@pytest.mark.parametrize("too_late", [False, True])
def test_a_worker_that_dies_at_once_fails_the_start(runtime, log, monkeypatch, too_late):
    """A process that is gone before anybody has looked at it is a death like any other."""
    if too_late:
        monkeypatch.setattr("lorch_actors.actors.process_host.identify", lambda pid: None)
    spec = child(Front, "front", log=log, create=functools.partial(os._exit, 3))
    tree = start_tree(runtime, child(Supervisor, "top", children=[spec]))

    assert "the worker of front: its process died" in str(tree.wait(WAIT_MS))


def test_a_worker_that_cannot_be_sent_over_fails_the_start(runtime, log):
    """What cannot be pickled is a bug of the front, told as such."""
    spec = child(Front, "front", log=log, create=lambda: None)
    tree = start_tree(runtime, child(Supervisor, "top", children=[spec]))

    assert "pickle" in str(tree.wait(WAIT_MS))
    assert threading.active_count() < 20
