"""A town's processes while they run: started, observed, drained and stopped."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from commonwatt.demo.layout import CEILING_S, DemoFolder, end_time, let_time_begin, set_ceiling
from commonwatt.demo.observer import Observer, Status
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.supervisor import STOP_WITHIN_S, SupervisedPart, Supervisor

STOP_LARGE_WITHIN_S = 60.0  # in place of ``STOP_WITHIN_S`` in a large town, whose parts have thousands of connections

BEHIND_S = 60.0  # town seconds behind from which the clock slows: a control loop then misses whole minutes
KEEPS_UP_S = 20.0  # town seconds behind below which the clock becomes faster again
SLOWER, FASTER = 0.5, 1.25  # factors of the speed at each look at the parts

# Real seconds after the meters stopped in which nothing arrives, and the backlog has not drained: it never will.
DRAIN_WITHIN_S = 60.0
DRAIN_PERIODS_S = 180  # minimum time for the drain in town seconds: three periods of every part
LOOK_EVERY_S = 1.0  # real seconds between two status requests to the parts
LOOK_AT_LARGE_EVERY_S = 5.0  # the same in a large town, whose statuses are sums over thousands of meters
SETTLED_S = 10.0  # real seconds for which all parts are ready after the start of a host, before what comes next
CONTROLLER = ("broker", "gateway")  # the processes on a microgrid's controller


def stages(layout: DemoFolder) -> Iterator[list[SupervisedPart]]:
    """Yield the parts that start together, each stage when the one before is ready.

    In a large town thousands of connections are made before there is other work, and the hosts start one after another.
    """
    if not layout.large:
        yield list(layout.processes)
        return
    for kinds in (("database", "broker"), ("meters",), ("utility",)):
        yield [part for part in layout.processes if part.kind in kinds]
    yield from ([part] for part in layout.processes if part.kind == "host")


def paced(speed: float, highest: float, behind_s: float) -> float:
    """Return the clock's next speed, town seconds in a real second: at least 1, at most ``highest``.

    Args:
        speed: Its present speed.
        highest: The speed that the user asked for.
        behind_s: Town seconds by which the slowest part is behind.
    """
    factor = SLOWER if behind_s > BEHIND_S else FASTER if behind_s < KEEPS_UP_S else 1.0
    return min(highest, max(1.0, speed * factor))


def behind_s(seen: Mapping[str, Mapping[str, Any]], silent: Set[str], now: float) -> float:
    """Return the town seconds by which the slowest part is behind: fleet, gateways, the utility's queue.

    Args:
        seen: The last status of each part.
        silent: Parts that did not answer the last request: they are as far behind as their last status is old.
        now: The town's time at the request.
    """
    told = [0.0]
    for name, status in seen.items():
        if name == "utility" or name.endswith((" meters", " gateway")) or name.startswith("fleet "):
            own = next((status[key] for key in ("lag_s", "queue_s") if key in status and name not in silent), 0.0)
            # A gateway's status is made by the loop that works: a busy one's is old.
            is_old = name in silent or name.endswith(" gateway")
            told.append(max(own, now - status["time"]) if is_old else own)
    return max(told)


def without_power(seen: Mapping[str, Status]) -> set[str]:
    """Return the processes whose controller's battery is empty: by its meters it has been dark for 48 hours (T9)."""
    dark = [part.removesuffix(" meters") for part, status in seen.items() if status.get("dark")]
    return {f"{name} {kind}" for name in dark for kind in CONTROLLER}


class TownRun:
    """A town's processes while they run."""

    def __init__(self, layout: DemoFolder, stop: threading.Event) -> None:
        """Take a prepared town, and what ends the run early."""
        self.layout = layout  # the town; its clock stands still until ``begin`` returns
        self.supervisor = Supervisor(  # its processes
            layout.data / "processes.json", STOP_LARGE_WITHIN_S if layout.large else STOP_WITHIN_S
        )
        self.observer = Observer(layout)  # the last status of each part
        self.dead: Set[str] = frozenset()  # parts that a scenario keeps dead, beside those without power
        # Town seconds in a real second at present; lower than the clock's while a part can't keep up.
        self.speed = layout.clock.speed
        self._ceiling = 0.0
        self._stop = stop
        self._look_every_s = LOOK_AT_LARGE_EVERY_S if layout.large else LOOK_EVERY_S

    @property
    def is_slow(self) -> bool:
        """Whether the town's clock runs slower than asked for, since a part can't keep up."""
        return self.speed < self.layout.clock.speed

    def begin(self) -> None:
        """Start the processes, wait until every part answers, then let time begin."""
        deadline = time.monotonic() + self.layout.start_up_s - 5
        for parts in stages(self.layout):
            if not self._stop.is_set():
                self.supervisor.start(parts)
                self._wait_until_ready(deadline, SETTLED_S if parts[0].kind == "host" else 0)
        if not self._stop.is_set():
            self.layout = let_time_begin(self.layout)

    def _wait_until_ready(self, deadline: float, lasts_s: float) -> None:
        """Wait until every part is ready and stays so for ``lasts_s``, at most until the deadline."""
        since = math.inf
        while not self._stop.wait(1.0 if self.layout.large else 0.1):
            self.supervisor.watch()
            self.observer.look()
            started = {name: running.part for name, running in self.supervisor.running.items()}
            started |= {part.name: part for part in self.layout.parts if part.hosted}
            now = time.monotonic()
            since = min(since, now) if self.observer.ready(started.keys()) else math.inf
            if now - since >= lasts_s or now >= deadline:
                return

    def watch(self, ends: float | None, looked: Callable[[], None]) -> bool:
        """Supervise until stopped, or until the backlog has drained after the end.

        Args:
            ends: Monotonic time at which the meters end; ``None``: no end.
            looked: Called after each look at the parts, once a second.

        Returns:
            Whether the backlog has drained; ``False`` also if nothing more arrives.
        """
        last_look, drained, arrived = 0.0, 0, 0
        # A slow machine may need minutes to measure and relay what is due.
        patience_s = max(DRAIN_WITHIN_S, self.layout.clock.real_s(DRAIN_PERIODS_S))
        gives_up_at = 0.0
        while not self._stop.wait(0.1):
            now = time.monotonic()
            self.supervisor.watch()
            if now - last_look < self._look_every_s:
                continue
            last_look = now
            asked = self.layout.clock.now()
            self.observer.look()
            self._let_time_go_on(asked)
            looked()
            dead = self.dead | without_power(self.observer.seen)
            self.supervisor.hold(dead & self.supervisor.running.keys())
            # Two empty observations in a row: data in transit between two parts may be in neither status.
            drained = drained + 1 if ends is not None and now >= ends and self.observer.drained() else 0
            if drained == 2:
                return True
            if ends is None or now < ends or self.observer.arrived() > arrived:
                arrived, gives_up_at = self.observer.arrived(), now + patience_s
            elif now >= gives_up_at:
                return False
        return False

    def _let_time_go_on(self, asked: float) -> None:
        """Raise the clock's ceiling: by a margin at full speed, else until the next look, and all parts wait there."""
        clock = self.layout.clock
        if self._ceiling and (beyond := clock.now() - self._ceiling) > 0:
            # All parts stood still at the ceiling: time goes on from it.
            clock.monotonic_origin += clock.real_s(beyond)
        dead = self.dead | without_power(self.observer.seen)
        seen = {name: status for name, status in self.observer.seen.items() if name not in dead}
        self.speed = paced(self.speed, clock.speed, behind_s(seen, self.observer.silent, min(asked, clock.now())))
        full_s = max(CEILING_S, 3 * self._look_every_s) * clock.speed
        ahead_s = full_s if self.speed == clock.speed else self._look_every_s * self.speed
        self._ceiling = max(self._ceiling, clock.now() + ahead_s)
        set_ceiling(self.layout, self._ceiling)

    def close(self) -> tuple[list[str], EpochSeconds]:
        """Stop every part; return the names of those that had to be killed, and the town time at the end."""
        self.observer.close()
        return self.supervisor.stop(), end_time(self.layout)
