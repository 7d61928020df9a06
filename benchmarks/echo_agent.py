"""An agent without delay, in as little Python as there is: it answers each command at once, and that is all.

ECHO_REPORT: a file to append to at the end: a line with the CPU seconds of this process, then the times at which
commands came (nanoseconds of the steady clock). ECHO_REVIEW=changes_requested: never content. ECHO_REVIEW=silent: no
answer at all, but heartbeats.
"""

import json
import os
import sys
import time

ROLE = os.environ["LORCH_AGENT_TYPE"]
REVIEW = os.environ.get("ECHO_REVIEW", "approved")
DONE = ("builder.completed", "success", {"tests": {"status": "pass"}})
ANSWERS = {
    "implement": DONE,
    "implement_changes": DONE,
    "review": ("review.completed", REVIEW, {"issues": ["more"]}),
    "update_spec": ("spec.updated", "success", {}),
}


def answer(command: dict[str, str], number: int) -> bytes:
    event, status, payload = ANSWERS[command["action"]]
    said = {
        "kind": "event",
        "message_id": f"{ROLE}-{os.getpid()}-{number}",
        "correlation_id": command["correlation_id"],
        "task_id": command["task_id"],
        "from": {"agent_type": ROLE},
        "event": event,
        "status": status,
        "payload": payload,
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return json.dumps(said).encode() + b"\n"


def beat(number: int) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {
        "kind": "heartbeat",
        "agent": {"agent_type": ROLE, "agent_id": f"{ROLE}-{os.getpid()}"},
        "seq": number,
        "status": "busy",
        "pid": os.getpid(),
        "uptime_s": number,
        "last_activity_at": now,
    }
    return json.dumps(said).encode() + b"\n"


def say(line: bytes) -> None:
    os.write(1, line)


def be_silent() -> None:
    """Work for ever: nothing but a heartbeat now and then, until standard input ends."""
    import select

    number = 0
    interval_s = float(os.environ.get("LORCH_HEARTBEAT_INTERVAL_S", "10"))
    while True:
        say(beat(number))
        number += 1
        if select.select([0], [], [], interval_s)[0] and not os.read(0, 65536):
            return


def main() -> None:
    came = []
    if REVIEW == "silent":
        be_silent()
        return
    for number, line in enumerate(sys.stdin.buffer):
        came.append(time.monotonic_ns())
        say(answer(json.loads(line), number))
    report = os.environ.get("ECHO_REPORT")
    if report:
        with open(report, "a") as file:
            file.write(" ".join(map(str, [time.process_time(), *came])) + "\n")


main()
