"""Waiting for leave: what an agent asks for before it does it, and the answers that come on stdin.

An answer is the orchestrator's own ``system.approval_answered``, as it stands in the ledger. Whoever waits is always
answered: by a person, by what is configured, when their time is up, or, with a refusal, when stdin ends.
"""

import queue
import threading
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
    """The requests of this process that wait for an answer. May be used from any thread."""

    def __init__(self) -> None:
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
        """Refuse whoever waits, now and later: stdin has ended."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = self._waiting, {}
        for place in waiting.values():
            place.put(_NOBODY)
