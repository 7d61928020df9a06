"""What supervisors do according to Erlang/OTP's `supervisor`, as a plain function of what happens to their children.

Nothing here runs: a `Model` is told how a child ended and how much time passed, and says which children come up and go
down, in which order. Each thing that happens is dealt with to its end before the next one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lorch_actors.actors.child import Restart, Strategy


@dataclass
class Node:
    """A child: a worker, or with ``children`` a supervisor.

    fails: which of its starts fail, counted from 1. up: it runs. wanted: it is to run. failed: so many starts in a row.
    times: when a supervisor restarted something, within its period.
    """

    name: str
    restart: Restart = Restart.PERMANENT
    fails: tuple[int, ...] = ()
    children: list["Node"] = field(default_factory=list)
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 1
    period_ms: int = 1000
    up: bool = False
    wanted: bool = True
    failed: int = 0
    times: list[int] = field(default_factory=list)

    def workers(self) -> Iterator["Node"]:
        """Yield the workers below."""
        for one in self.children:
            yield from one.workers() if one.children else (one,)


class Model:
    """A tree under ``top``, two levels of supervisors at most. events: what has happened, as a `Record` tells it."""

    def __init__(self, top: Node) -> None:
        self.top = top
        self.events: list[str] = []
        self._now_ms = 0
        self._starts: Counter[str] = Counter()

    def begin(self) -> None:
        """Start everything."""
        self._start(self.top)

    def pass_time(self, ms: int) -> None:
        """Let time go on."""
        self._now_ms += ms

    def end(self, worker: Node, *, is_crash: bool) -> None:
        """Let a worker end."""
        self._down(worker)
        is_restarted = {Restart.PERMANENT: True, Restart.TRANSIENT: is_crash, Restart.TEMPORARY: False}
        worker.wanted = is_restarted[worker.restart]
        if worker.wanted:
            self._climb(self._above(worker), worker)

    def lose(self, worker: Node) -> None:
        """Let the process behind a worker's front die: another one takes its place, which counts as a restart."""
        above = self._above(worker)
        if worker.restart is Restart.TEMPORARY:
            worker.wanted = False
            self._down(worker)
        elif self._admit(above):
            self.events.append(f"again {worker.name}")
        else:
            self._stop(above)
            self._climb_from(above)

    def stop(self) -> None:
        """Stop the tree in order."""
        self._stop(self.top)

    # -- how it is done -----------------------------------------------------------------------------------------

    def _above(self, node: Node) -> Node:
        return next(one for one in (self.top, *self.top.children) if any(child is node for child in one.children))

    def _climb(self, above: Node, node: Node) -> None:
        if not self._restart(above, node):
            self._climb_from(above)

    def _climb_from(self, given_up: Node) -> None:
        if given_up is not self.top:
            self._climb(self.top, given_up)

    def _restart(self, above: Node, node: Node) -> bool:
        """Restart a child with its group; return False when the supervisor has given up instead, and is down."""
        if node.failed > above.intensity or not self._admit(above):
            self._stop(above)
            return False
        at = next(index for index, one in enumerate(above.children) if one is node)
        group = {Strategy.ONE_FOR_ONE: [], Strategy.REST_FOR_ONE: above.children[at + 1 :]}
        for other in reversed(group.get(above.strategy, above.children)):
            if other is not node:
                other.wanted = other.restart is not Restart.TEMPORARY
                self._stop(other)
        return self._start_children(above)

    def _admit(self, above: Node) -> bool:
        above.times = [at_ms for at_ms in above.times if at_ms >= self._now_ms - above.period_ms] + [self._now_ms]
        return len(above.times) <= above.intensity

    def _start(self, node: Node) -> bool:
        if node.children:
            node.up, node.times = True, []
            for child in node.children:
                child.wanted, child.failed = True, 0
            return self._start_children(node)
        self._starts[node.name] += 1
        if self._starts[node.name] in node.fails:
            self.events.append(f"down {node.name}")
            return False
        node.up = True
        self.events.append(f"up {node.name}")
        return True

    def _start_children(self, above: Node) -> bool:
        for one in above.children:
            if one.wanted and not one.up:
                if not self._start(one):
                    one.failed += 1
                    return self._restart(above, one)
                one.failed = 0
        return True

    def _stop(self, node: Node) -> None:
        if node.up and node.children:
            node.up = False
            for child in reversed(node.children):
                self._stop(child)
        elif node.up:
            self._down(node)

    def _down(self, worker: Node) -> None:
        worker.up = False
        self.events.append(f"down {worker.name}")
