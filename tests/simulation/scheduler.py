"""A runtime on one thread: a seed decides what happens next, and time is a number.

Actors, supervisors, fronts and workers are the program's own; threads, epoll, processes and clocks are played. Whatever
could happen next is a *token* in one list; each turn draws one by chance. Only when none is left does time go on, to
the next timer. So a run is a function of its seed.

Messages from one sender to one receiver keep their order. Of several senders, chance decides whose comes first, however
long ago it was sent: that is less than threads promise, and covers all that they may do.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Container
from typing import Any

from lorch_actors.actors.directory import Directory
from lorch_actors.actors.messages import CallbackFailed
from lorch_actors.actors.runtime import Runtime

TURNS_MAX = 12_000
NEVER = 1 << 60
REACTOR = "reactor"


class Stuck(AssertionError):  # noqa: N818 - it is what it says
    """Nothing is left to do, and what was waited for has not come; or it does not come to an end."""


class Alarm:
    """A callback at a point in time."""

    __slots__ = ("__weakref__", "callback", "owner")

    def __init__(self, callback: Callable[[], object], owner: str) -> None:
        self.callback: Callable[[], object] | None = callback
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None


class Mailbox:
    """Envelopes by sender. Each is worth one turn of the actor."""

    __slots__ = ("_channels", "_owed", "_scheduler", "actor", "begun", "blocked", "closed")

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self._channels: dict[str, list[Any]] = {}
        self._owed: list[Callable[[], None]] = []
        self.actor: Any = None
        self.blocked = False
        self.begun = False
        self.closed = False

    def put(self, envelope: Any) -> None:
        sender = self._scheduler.current
        channel = self._channels.get(sender)
        if channel is None:
            self._channels[sender] = [envelope]
        else:
            channel.append(envelope)
        self._scheduler.tokens.append(self.turn)

    def get(self) -> Any:
        """Return the next envelope of a sender that chance chooses. One that has none left is forgotten."""
        channels = self._channels
        if len(channels) > 1:
            chosen = [*channels][int(self._scheduler.chance.random() * len(channels))]
        else:
            (chosen,) = channels
        channel = channels[chosen]
        envelope = channel.pop(0)
        if not channel:
            del channels[chosen]
        return envelope

    def empty(self) -> bool:
        return not self._channels

    def begin(self) -> None:
        if self.blocked:
            self._owed.append(self.begin)
            return
        self.begun = True
        self._scheduler.run_as(self.actor.name, self.actor.begin)
        self._end_if_over()
        self.release()

    def turn(self) -> None:
        if self.closed:
            return
        if self.blocked or not self.begun:
            self._owed.append(self.turn)
            return
        actor, scheduler = self.actor, self._scheduler
        if actor.context.name in scheduler.armed:
            scheduler.fail(actor, self.get())
        else:
            scheduler.step(actor, self.get())
        if actor.actor_stopped.is_set():
            self._end_if_over()

    def release(self) -> None:
        """Let the actor go on that was held up."""
        self.blocked = False
        owed, self._owed = self._owed, []
        for token in owed:
            self._scheduler.ready(token)

    def _end_if_over(self) -> None:
        if self.actor.ended and not self.closed:
            self.closed = True
            self._scheduler.run_as(self.actor.name, self.actor.end)
            self._scheduler.actors.pop(self.actor.name, None)


class Scheduler:
    """Clock, execution and turns. ``runtime`` is what actors are given.

    current: who is at work now, as the sender of what is told. actors: those that run, by name; of two incarnations at
    once, the newer. trace: where a trace goes to, if one is wanted.

    disturbed_from: as of which turn ``disturb`` is called before each. armed: actors for whose next step ``fail`` is
    called. broken: what was found wrong amid a turn; raised at its end, where no actor takes it for its own.
    """

    def __init__(self, seed: object, start_ms: int = 1_000_000, trace: Callable[[str], None] | None = None) -> None:
        self.chance = random.Random(f"{seed}")
        self.trace = trace
        self.now_ms = start_ms
        self.wall_offset_ms = 0
        self.current = ""
        self.turns = 0
        self.disturbed_from = NEVER
        self.armed: Container[str] = ()
        self.broken: AssertionError | None = None
        self.actors: dict[str, Any] = {}
        self.tokens: list[Callable[[], None]] = []
        self._alarms: list[tuple[int, int, Alarm]] = []
        self._order = itertools.count()
        self.runtime = Runtime(
            clock=self,
            random=random.Random(f"runtime {seed}"),
            reactor=SimulatedReactor(self),
            workers=_Nobody(),
            agents=_Nobody(),
            directory=Directory(),
            execution=self,
        )

    # clock

    def wall_ms(self) -> int:
        return self.now_ms + self.wall_offset_ms

    def steady_ms(self) -> int:
        return self.now_ms

    # execution

    def new_inbox(self, actor: Any) -> Mailbox:
        return Mailbox(self)

    def start(self, actor: Any) -> None:
        actor.actor_inbox.actor = actor
        self.actors[actor.name] = actor
        self.on_start(actor)
        self.ready(actor.actor_inbox.begin)

    def apart(self, name: str, work: Callable[[], object]) -> None:
        self.ready(lambda: self.run_as(name, work))

    def collect_garbage(self) -> None:
        """Leave it to the interpreter: a run is short."""

    # for who plays with it

    def on_start(self, actor: Any) -> None:
        """Note that an actor is started. To be overridden."""

    def disturb(self) -> None:
        """Do what goes wrong from a turn on. To be overridden."""

    def fail(self, actor: Any, envelope: Any) -> None:
        """Let an actor that is armed fail at an envelope. To be overridden."""

    def step(self, actor: Any, envelope: Any) -> None:
        """Let an actor handle an envelope."""
        self.current = actor.context.name
        if self.trace is not None:
            self.tell(f"{self.current} takes {envelope.message!r}")
        actor.step(envelope)
        self.current = ""

    # turns

    def ready(self, token: Callable[[], None]) -> None:
        """Let this happen some time."""
        self.tokens.append(token)

    def draw(self, count: int) -> int:
        """Return a number below ``count``."""
        return int(self.chance.random() * count)

    def run_as(self, who: str, deed: Callable[[], object]) -> None:
        """Have it done in somebody's name."""
        before, self.current = self.current, who
        try:
            deed()
        finally:
            self.current = before

    def turn(self) -> None:
        """Let one thing happen."""
        if self.turns >= self.disturbed_from:
            self.disturb()
        self.turns += 1
        tokens = self.tokens
        if tokens:
            chosen = int(self.chance.random() * len(tokens))
            tokens[chosen], tokens[-1] = tokens[-1], tokens[chosen]
            tokens.pop()()
        else:
            self.pass_time()
        if self.broken is not None:
            raise self.broken

    def run_until(self, reached: Callable[[], object]) -> None:
        """Take turns until something is so."""
        last = self.turns + TURNS_MAX
        while not reached():
            if self.turns >= last:
                raise Stuck(f"not over after {TURNS_MAX} turns")
            self.turn()

    def settle(self) -> None:
        """Let everything happen that does so without time going on."""
        while self.tokens:
            self.turn()

    def advance(self, ms: int) -> None:
        """Let time go on, and everything happen that is due."""
        self.settle()
        until_ms = self.now_ms + ms
        while self._alarms and self._alarms[0][0] <= until_ms:
            self.pass_time()
            self.settle()
        self.now_ms = until_ms

    @property
    def has_alarms(self) -> bool:
        """Whether there is a timer."""
        return bool(self._alarms)

    def pass_time(self) -> None:
        """Ring the next timer."""
        if not self._alarms:
            raise Stuck("nothing is left to do")
        at_ms, _, alarm = heapq.heappop(self._alarms)
        if alarm.callback is not None:
            self.now_ms = max(self.now_ms, at_ms)
            self._ring(alarm)

    def _ring(self, alarm: Alarm) -> None:
        callback, alarm.callback = alarm.callback, None
        if callback is not None:
            self.call_back(callback, alarm.owner)

    def call_at(self, steady_ms: int, callback: Callable[[], object], owner: str = "") -> Alarm:
        alarm = Alarm(callback, owner)
        if steady_ms <= self.now_ms:
            self.tokens.append(lambda: self._ring(alarm))
        else:
            heapq.heappush(self._alarms, (steady_ms, next(self._order), alarm))
        return alarm

    def call_back(self, callback: Callable[[], object], owner: str) -> None:
        """Call what belongs to the reactor's thread; what it raises ends its owner."""
        self.current = REACTOR
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - its owner is told, as by the reactor
            self.runtime.directory.tell(owner, CallbackFailed(error))
        self.current = ""

    def tell(self, line: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace(f"{self.turns:6} {self.now_ms:9} ms  {line}")


class SimulatedReactor:
    """Timers of the scheduler, and outputs that are read as long as there is something: the face of `EpollReactor`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._watches: dict[int, _Watch] = {}
        self.is_readable: Callable[[int], bool] = lambda _: False
        self.call_at = scheduler.call_at

    def call_soon(self, callback: Callable[[], object], owner: str = "") -> None:
        self._scheduler.ready(lambda: self._scheduler.call_back(callback, owner))

    def watch_read(self, fd: int, callback: Callable[[], object], owner: str) -> None:
        self._watches[fd] = _Watch(callback, owner)
        self.look(fd)

    def pause_read(self, fd: int) -> None:
        watch = self._watches.get(fd)
        if watch is not None:
            watch.paused = True

    def resume_read(self, fd: int) -> None:
        watch = self._watches.get(fd)
        if watch is not None and watch.paused:
            watch.paused = False
            self.look(fd)

    def unwatch(self, fd: int) -> None:
        self._watches.pop(fd, None)

    def look(self, fd: int) -> None:
        """See whether there is something to read that somebody waits for."""
        watch = self._watches.get(fd)
        if watch is not None and not watch.paused and not watch.due and self.is_readable(fd):
            watch.due = True
            self._scheduler.ready(lambda: self._fire(fd, watch))

    def close(self) -> None:
        self._watches.clear()

    def _fire(self, fd: int, watch: "_Watch") -> None:
        watch.due = False
        if self._watches.get(fd) is watch and not watch.paused and self.is_readable(fd):
            self._scheduler.call_back(watch.callback, watch.owner)
            self.look(fd)


class _Watch:
    __slots__ = ("callback", "due", "owner", "paused")

    def __init__(self, callback: Callable[[], object], owner: str) -> None:
        self.callback = callback
        self.owner = owner
        self.paused = False
        self.due = False


class _Nobody:
    """Stands for a host of workers or agents where there are none."""

    def close(self) -> None:
        pass
