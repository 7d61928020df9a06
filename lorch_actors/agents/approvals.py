"""Waiting for leave: what an agent asks for before it does it, and the answers that come on stdin.

An answer is the orchestrator's own ``system.approval_answered``, as it stands in the ledger: by a person, by what is
configured, or because their time is up. When stdin ends nobody has said anything: the process ends as well, without an
outcome, and asks again when its command is sent again.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from lorch_actors.protocol.messages import Event

ANSWERED: Final = "system.approval_answered"


class Answer(Struct, frozen=True):
    """What was said to a request, and why."""

    is_allowed: bool
    reason: str


_NOBODY: Final = Answer(is_allowed=False, reason="nobody is there to answer any more")


class Approvals:
    """The requests of this process that wait for an answer. May be used from any thread.

    stop: ends the process from any thread; in the main thread it raises what ends it.
    """

    def __init__(self, stop: Callable[[], None] = lambda: None) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._waiting: dict[str, queue.SimpleQueue[Answer]] = {}
        self._is_closed = False

    def expect(self, request_id: str) -> "queue.SimpleQueue[Answer]":
        """Return where the answer to a request will be; call it before the request is sent."""
        place: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self._lock:
            self._waiting[request_id] = place
            if self._is_closed:
                place.put(_NOBODY)
        return place

    def wait(self, place: "queue.SimpleQueue[Answer]") -> Answer:
        """Return the answer that comes to this place; when none can come any more, end the process."""
        answer = place.get()
        if answer is _NOBODY:
            self._stop()
        return answer

    def take(self, event: Event) -> bool:
        """Hand an answer to whoever waits for it; tell whether the event was one."""
        note = event.payload or {}
        if event.event != ANSWERED:
            return False
        with self._lock:
            place = self._waiting.pop(str(note.get("request_id")), None)
        if place is not None:
            place.put(Answer(is_allowed=note.get("decision") == "allow", reason=str(note.get("reason", ""))))
        return True

    def close(self) -> None:
        """Wake whoever waits, now and later: stdin has ended."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = self._waiting, {}
        for place in waiting.values():
            place.put(_NOBODY)
