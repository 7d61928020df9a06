"""An agent in plain Python that does wrong on demand, and shares nothing with the package.

A task's ``fault`` says what goes wrong, its ``role`` with whom (the builder). Most faults happen at the first attempt
only, so that the next one shows whether the run goes on. Everything else is answered at once, and well.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

ROLE = os.environ["LORCH_AGENT_TYPE"]
ME = {"agent_type": ROLE, "agent_id": f"{ROLE}-{os.getpid()}"}
OUTCOME = {
    "builder": {"event": "builder.completed", "payload": {"tests": {"status": "pass"}}},
    "reviewer": {"event": "review.completed", "status": "approved"},
    "spec_maintainer": {"event": "spec.updated"},
}[ROLE]
FAILED = {"tests": {"status": "fail", "summary": "this must not be acted on"}}
LIMIT = 262_144
WRITING = threading.Lock()
PAST = []
HEARTBEATS = threading.Event()
FAULTS = {}


def fault(function):
    """Make a function known under its name."""
    FAULTS[function.__name__] = function
    return function


def now(ahead_s=0.0):
    """Return the time as the protocol wants it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead_s))


def put(data, fd=1):
    """Write all of it."""
    with WRITING:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]


def line(message):
    """Return a message as it is written."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def say(*messages):
    """Write messages in one piece."""
    put(b"".join(map(line, messages)))


def event(command, **fields):
    """Return an event about a command; by default the good answer."""
    whole = {
        "kind": "event",
        "message_id": os.urandom(8).hex(),
        "correlation_id": command["correlation_id"],
        "task_id": command["task_id"],
        "from": {"agent_type": ROLE},
        **OUTCOME,
        "occurred_at": now(),
    }
    return {name: value for name, value in {**whole, **fields}.items() if value is not None}


def other(command, name, payload=None, **fields):
    """Return an event that is no answer."""
    return event(command, event=name, payload=payload, status=None, **fields)


def log(text, **fields):
    """Return a log message."""
    return {"kind": "log", "level": "info", "message": text, "fields": fields, "timestamp": now()}


def first(command):
    """Tell whether no attempt was used up yet."""
    return command["retry"]["attempt"] == 0


def once(command):
    """Tell whether this is the first delivery, also where repeats cost no attempt."""
    mark = f"marks-{command['task_id']}"
    if os.path.exists(mark):
        return False
    open(mark, "x").close()
    return True


def written(path, content=b"done\n"):
    """Write a file and return what to claim of it."""
    with open(path, "wb") as file:
        file.write(content)
    return {"path": path, "sha256": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[1]
    except OSError:
        return None


def is_agent(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return b"\0LORCH_AGENT_ID=" in environ.read()
    except OSError:
        return True


def peak_kib(pid):
    """Return the most memory that a process ever had, in KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmHWM"))


def exactly(command, size_bytes):
    """Return a good answer of so many bytes, without newline."""
    payload = {"tests": {"status": "pass"}, "pad": ""}
    bare = line(event(command, message_id="exactly-this-long", payload=payload))[:-1]
    return bare.replace(b'"pad":""', b'"pad":"' + b"x" * (size_bytes - len(bare)) + b'"')


# -- what comes to an end ---------------------------------------------------------------------------------------------


@fault
def killed(command):
    """Die while a tool in a session of its own works on."""
    if first(command):
        subprocess.Popen(["sleep", "120"], start_new_session=True, stdout=1)
        os.kill(os.getpid(), signal.SIGKILL)
    say(event(command))


@fault
def answer_and_exit(command):
    """Answer and be gone in the same moment."""
    put(line(event(command)))
    os._exit(0)


@fault
def answer_without_newline_and_exit(command):
    """Let the answer be the last thing, and unfinished."""
    put(line(event(command))[:-1])
    os._exit(3)


@fault
def loud_and_gone(command):
    """Say more than is read at once, answer, and be gone while the end of it waits in the pipe."""
    pieces = [line(other(command, "builder.progress", {"number": n})) for n in range(2000)]
    put(b"".join(pieces) + line(event(command)))
    os._exit(0)


@fault
def leaves_the_next_unread(command):
    """Answer, and end when the next command is there, without reading it."""
    say(event(command))
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    waiting.poll()
    os._exit(0)


@fault
def closes_stdout(command):
    """Live on without a voice."""
    if first(command):
        HEARTBEATS.set()
        with WRITING:
            os.close(1)
    else:
        say(event(command))


@fault
def silent(command):
    """Say nothing about the first delivery, ever."""
    if not first(command):
        say(event(command))


@fault
def late(command):
    """Answer the first delivery only when it is asked to go."""
    if first(command):
        sys.stdin.buffer.read()
        say(event(command, message_id="too-late", payload=FAILED))
    else:
        say(event(command))


@fault
def stops_heartbeats(command):
    """Live, but give no sign of it."""
    if first(command):
        HEARTBEATS.set()
    else:
        say(event(command))


@fault
def never_reads(command):
    """Read one command and no other."""
    if first(command):
        say(event(command, payload={"tests": {"status": "fail", "summary": "x" * 100_000}}))
        hung_up = select.poll()
        hung_up.register(0, 0)
        hung_up.poll()
        sys.exit(1)
    say(event(command))


# -- what is too much -------------------------------------------------------------------------------------------------


@fault
def oversize(command):
    """Write a line of one byte too many."""
    put(b"o" * (LIMIT + 1) + b"\n")
    say(event(command))


@fault
def oversize_answer(command):
    """Write an answer of one byte too many, then one that fits."""
    put(exactly(command, LIMIT + 1) + b"\n")
    say(event(command))


@fault
def endless_line(command):
    """Write 96 MiB without a newline, and end."""
    if first(command):
        put(b"e" * (96 << 20))
        os._exit(0)
    say(event(command))


@fault
def exact_limit(command):
    """Answer in a line of exactly the limit."""
    put(exactly(command, LIMIT) + b"\n")


@fault
def stderr_line(command):
    """Write one line of two MiB to stderr, and five MiB of short ones."""
    put(b"s" * (2 << 20) + b"\nafter it\n", 2)
    put(b"a short remark to nobody in particular, to be kept\n" * 100_000, 2)
    say(event(command))


@fault
def many_events(command):
    """Say twenty thousand things at once, answer, and be gone while much of it waits in the pipe."""
    pieces = [line(other(command, "builder.progress", {"stage": "s", "number": n})) for n in range(20_000)]
    put(b"".join(pieces) + line(event(command)))
    os._exit(0)


@fault
def some_events(command):
    """Say a hundred things at once."""
    say(*(other(command, "builder.progress", {"number": n}) for n in range(100)), event(command))


@fault
def many_logs(command):
    """Write two hundred logs at once."""
    say(*(log(f"remark {n}") for n in range(200)), event(command))


@fault
def noisy(command):
    """Write too many bad lines to be of any use."""
    if first(command):
        put(b"no message\n" * 30)
    else:
        say(event(command))


@fault
def memory(command):
    """Tell how much memory the run's own processes ever had: guardian, orchestrator, and all below it but agents."""
    parents = {pid: parent for pid in filter(str.isdigit, os.listdir("/proc")) if (parent := parent_of(pid))}
    orchestrator = str(os.getppid())
    ours, new = {parents[orchestrator]}, {orchestrator}
    while new:
        ours |= new
        new = {pid for pid, parent in parents.items() if parent in new and not is_agent(pid)}
    peaks = []
    for pid in ours:
        try:
            peaks.append(peak_kib(pid))
        except (OSError, StopIteration):  # it has ended
            continue
    say(event(command, payload={"tests": {"status": "pass"}, "peaks_kib": peaks}))


# -- what is wrong ----------------------------------------------------------------------------------------------------


@fault
def error_final(command):
    """Report an error that no retry mends."""
    say(other(command, "error", {"code": "no_licence", "message": "the compiler has no licence"}))


@fault
def error_retryable(command):
    """Report an error that goes away."""
    say(other(command, "error", {"message": "busy", "retryable": True}) if first(command) else event(command))


@fault
def error_retriable(command):
    """Report it in the spelling of lorch 1.5."""
    say(other(command, "error", {"message": "busy", "retriable": True}) if first(command) else event(command))


@fault
def always_retryable(command):
    """Report an error that could go away and never does."""
    say(other(command, "error", {"code": "busy", "message": "busy as ever", "retryable": True}))


@fault
def retry_after(command):
    """Ask to be left alone for a moment."""
    say(other(command, "error", {"code": "limit", "retry_after_s": 0.05}) if once(command) else event(command))


@fault
def resets_at(command):
    """Ask to be left alone until a time."""
    say(other(command, "error", {"code": "limit", "resets_at": now(1)}) if once(command) else event(command))


@fault
def long_wait(command):
    """Ask to be left alone for a day."""
    say(other(command, "error", {"code": "limit", "message": "quota", "retry_after_s": 86_400}))


@fault
def wrong_task(command):
    """Answer for another task first."""
    say(event(command, task_id="T-other", payload=FAILED), event(command))


@fault
def wrong_correlation(command):
    """Answer another command first."""
    say(event(command, correlation_id="corr-other", payload=FAILED), event(command))


@fault
def wrong_role(command):
    """Answer as somebody else first."""
    say(event(command, **{"from": {"agent_type": "reviewer"}}, payload=FAILED), event(command))


@fault
def wrong_event(command):
    """Send what only a reviewer may send first."""
    say(other(command, "review.completed"), event(command))


@fault
def poses_as_system(command):
    """Declare everything finished in the orchestrator's name."""
    finished = {"status": "completed"}
    forged = other(command, "system.run_finished", finished, **{"from": {"agent_type": "system"}})
    say(forged, other(command, "system.run_finished", finished), event(command))


@fault
def sends_a_command(command):
    """Give a command instead of taking one."""
    say(command, event(command))


@fault
def same_id(command):
    """Use one message id for everything."""
    steps = [other(command, "builder.progress", {"number": n}, message_id="same") for n in range(3)]
    say(*steps, event(command, message_id="same"))


@fault
def doubled(command):
    """Answer, and answer again, and differently."""
    answer = event(command)
    say(answer, answer, event(command, payload=FAILED), other(command, "error", {"message": "no"}))


@fault
def answers_late(command):
    """Answer the last command once more, with the new one under way, in every mixture of old and new."""
    mixtures = []
    if PAST:
        old = PAST[-1]
        again = {**OUTCOME, "payload": FAILED, "status": "changes_requested" if ROLE == "reviewer" else None}
        mixtures += [event(old, **again), event(command, correlation_id=old["correlation_id"], **again)]
        mixtures += [event(old, correlation_id=command["correlation_id"], **again)] * (
            old["task_id"] != command["task_id"]
        )
    say(*mixtures, event(command))


@fault
def asks_twice(command):
    """As reviewer, ask for changes in the first round, and say so again in the second before approving."""
    asks = {"status": "changes_requested", "payload": {"issues": ["rename it"]}}
    if command["inputs"]["round"] == 1:
        say(event(command, **asks))
    else:
        say(event(PAST[-1], **asks), event(command))


@fault
def goes_on(command):
    """Go on after the answer."""
    say(event(command), other(command, "builder.progress", {"stage": "after the answer"}), log("and on"))


@fault
def unknown_status(command):
    """Review with a status that nobody knows."""
    say(event(command, status="looks_fine_to_me"))


@fault
def no_status(command):
    """Review without a status, once."""
    say(event(command, status=None) if first(command) else event(command))


@fault
def unknown_field(command):
    """Answer with a field that the protocol does not have."""
    say(event(command, note="x") if first(command) else event(command))


@fault
def not_a_number(command):
    """Answer with something that is JSON to Python only."""
    if first(command):
        put(line(event(command, payload={"tests": {"status": "pass"}, "ratio": float("nan")})))
    else:
        say(event(command))


@fault
def grows_when_written(command):
    """Answer in a line that fits, and does not fit in compact form: 1e15 becomes 1000000000000000.0."""
    if first(command):
        bare = line(event(command, payload={"tests": {"status": "pass"}, "n": "N"}))
        put(bare.replace(b'"N"', b"[" + b",".join([b"1e15"] * 40_000) + b"]"))
    else:
        say(event(command))


@fault
def grows_when_redacted(command):
    """Answer in a line that fits until its secrets are replaced."""
    if first(command):
        say(event(command, payload={"tests": {"status": "pass"}, "dump": os.environ["API_TOKEN"] * 20_000}))
    else:
        say(event(command))


@fault
def bad_lines(command):
    """Write everything that is no message."""
    deep = b"[" * 70 + b"]" * 70
    lines = [b"hello", b"", b"{}", b"null", b"[]", b'{"kind":"event"}', b"\xff\xfe\x00", b'{"a":1,"a":2}', b"{", deep]
    lines += [b'{"kind":"log","level":"info","message":"\\ud800","timestamp":"2026-01-01T00:00:00Z"}']
    put(b"\n".join(lines) + b"\n")
    say(event(command))


@fault
def missing_tests(command):
    """Say nothing of the tests."""
    say(event(command, payload={}) if first(command) else event(command))


@fault
def other_version(command):
    """Say that one worked on something else."""
    say(event(command, observed_version={"snapshot_id": "snap-000000000000"}) if first(command) else event(command))


@fault
def expected_output(command):
    """Leave nothing behind at first, then what was asked for."""
    if not first(command):
        os.makedirs("src/sub", exist_ok=True)
        written("src/sub/expected.txt")
    say(event(command))


# -- artifacts --------------------------------------------------------------------------------------------------------


@fault
def artifact(command):
    """Claim what the task says, always."""
    claim = {"sha256": "sha256:" + "0" * 64, "size": 5, **command["inputs"]["claim"]}
    say(event(command, artifacts=[claim]))


@fault
def true_but_outside(command):
    """Claim a file outside of the workspace as it is."""
    path = command["inputs"]["path"]
    with open(path, "rb") as file:
        content = file.read()
    sha256 = "sha256:" + hashlib.sha256(content).hexdigest()
    say(event(command, artifacts=[{"path": path, "sha256": sha256, "size": len(content)}]))


@fault
def false_once(command):
    """Claim a false checksum, then the true one."""
    claim = written(f"src/{command['task_id']}.txt")
    say(event(command, artifacts=[{**claim, "sha256": "sha256:" + "1" * 64} if first(command) else claim]))


@fault
def large_artifact(command):
    """Leave two thousand bytes behind."""
    say(event(command, artifacts=[written("src/large.bin", b"l" * 2000)]))


# -- what is told -----------------------------------------------------------------------------------------------------


@fault
def tells_where(command):
    """Tell where one is and what one was given."""
    names = ("LORCH_AGENT_TYPE", "AGENT_TYPE", "LORCH_RUN_ID", "LORCH_WORKSPACE", "PWD", "GIVEN", "INHERITED")
    told = {"cwd": os.getcwd(), "env": {name: os.environ.get(name) for name in names}}
    told["open"] = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    say(event(command, payload={"tests": {"status": "pass"}, **told}))


@fault
def takes_over_the_terminal(command):
    """Say what would clear a terminal, turn text around and set a title."""
    text = "\x1b[2J\x1b]0;title\x07 \u202eabc\r\x9b1m \x08"
    put(text.encode() + b"\n", 2)
    say({**log(text), "level": "warn"}, other(command, "builder.progress", {"stage": text, "message": text}))
    say(
        other(command, "error", {"code": text, "message": text, "retryable": True})
        if first(command)
        else event(command)
    )


@fault
def large_integers(command):
    """As reviewer, ask for changes in numbers that no double holds."""
    if command["inputs"]["round"] == 1:
        asked = {"above": 2**53 + 1, "below": -(2**63) - 1, "huge": 10**30, "small": 7}
        say(event(command, status="changes_requested", payload=asked))
    else:
        say(event(command))


@fault
def long_request(command):
    """As reviewer, ask for more than a command has room for."""
    if command["inputs"]["round"] == 1:
        say(event(command, status="changes_requested", payload={"issues": ["ü" * 1000] * 100}))
    else:
        say(event(command))


@fault
def fills_the_disk(command):
    """Take all the room there is, once, and go on working."""
    if once(command):
        with open("filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"f" * 4096) == 4096:
                    pass
            except OSError:
                pass
        say(other(command, "builder.progress", {"note": "n" * 100_000}))
        return
    say(event(command))


@fault
def leaves_much(command):
    """Say two mebibytes."""
    say(*(other(command, "builder.progress", {"note": "n" * 100_000}) for _ in range(20)), event(command))


@fault
def leaks(command):
    """Say the secret everywhere, as it is and as JSON spells it."""
    for name in ("API_TOKEN", "AGENT_PASSWORD"):
        secret = os.environ[name]
        put(f"stderr says {secret}\n".encode() + json.dumps(secret).encode() + b"\n", 2)
        put(f"no message but {secret}\n".encode())
        put(b'{"kind": "unknown", "says": ' + json.dumps(secret).encode() + b"}\n")
        spelled = "".join(f"\\u{ord(char):04x}" for char in secret).encode()
        say(log(f"log says {secret}", **{secret: [secret, {"in": secret}]}))
        put(line(log("L")).replace(b'"L"', b'"spelled ' + spelled + b'"'))
        say(other(command, "builder.progress", {"stage": secret, secret: secret}, message_id=os.urandom(8).hex()))
        say(other(command, "builder.progress", {}, message_id=f"id-{secret}"))
        say(event(command, correlation_id=secret), event(command, status=secret))
        put(json.dumps({secret: 1}).encode()[:-1] + b"," + json.dumps({secret: 2}).encode()[1:] + b"\n")
        put(b'{"kind": "unknown", "says": "' + spelled + b'"}\n')
        for fd in (1, 2):
            put(b"x" * (1025 - len(secret.encode())) + secret.encode() + b"x" * LIMIT + b"\n", fd)


@fault
def leaks_and_answers(command):
    """Say the secret everywhere and answer."""
    if first(command):
        leaks(command)
    say(event(command, payload={"tests": {"status": "pass", "summary": os.environ["API_TOKEN"]}}))


# -- life -------------------------------------------------------------------------------------------------------------


def beat():
    """Say that one lives, until that is to stop."""
    interval_s = float(os.environ.get("LORCH_HEARTBEAT_INTERVAL_S", "10"))
    for number in range(1 << 62):
        pulse = {"kind": "heartbeat", "agent": ME, "seq": number, "status": "ready", "pid": os.getpid()}
        say({**pulse, "uptime_s": number * interval_s, "last_activity_at": now()})
        if HEARTBEATS.wait(interval_s):
            return


def main():
    """Answer commands until there are no more."""
    for name in os.environ.get("IGNORES", "").split():
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=beat, daemon=True).start()
    for data in sys.stdin.buffer:
        command = json.loads(data)
        inputs = command["inputs"]
        if inputs.get("role", "builder") == ROLE and "fault" in inputs:
            FAULTS[inputs["fault"]](command)
        else:
            say(event(command))
        PAST.append(command)
    if os.environ.get("STAYS"):
        threading.Event().wait()


if __name__ == "__main__":
    main()
