"""Faults of a cluster, by the role of what fails, and how long the utility stores nothing meanwhile."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from harness.cluster.machines import DATABASES
from harness.cluster.town.parts import UTILITIES, ClusterTown
from harness.network.waiting import eventually

ROLES = ("primary", "synchronous standby", "other standby", "active utility", "waiting utility", "head-end in use")
WAYS = ("killed", "stopped", "cut off")
AWAY_S = 60.0  # seconds for which something is stopped or cut off
RESTART_S = 10.0  # seconds until a killed machine or process starts again
GOAL_S = 35.0  # most seconds until the utility stores again
_LOOK_S = 0.25


class Stored:
    """When the utilities stored something: looked at on a thread, four times a second."""

    def __init__(self, town: ClusterTown) -> None:
        self._town = town
        self._at = [time.monotonic()]
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(name,), daemon=True) for name in UTILITIES]

    def _look(self, name: str) -> None:
        before: float | None = None
        while not self._ends.wait(_LOOK_S):
            now = self._town.stored_by(name)
            if now is not None and before is not None and now > before:
                self._at.append(time.monotonic())
            before = now

    def longest_pause_s(self, since: float) -> float:
        """Return the longest time without a stored message since a time, also one that goes on."""
        times = sorted([since, *(at for at in self._at if at > since), time.monotonic()])
        return max(later - earlier for earlier, later in pairwise(times))

    def count(self, since: float) -> int:
        """Return how often something was stored since a time."""
        return sum(at > since for at in self._at)

    def __enter__(self) -> "Stored":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a fault did."""

    role: str  # what failed
    way: str  # how
    who: str  # which machine or process
    pause_s: float  # the longest time without a stored message


def suffer(town: ClusterTown, stored: Stored, role: str, way: str) -> Seen:
    """Let something fail, mend it, and wait until the cluster is whole again."""
    who = _who(town, role)
    since = time.monotonic()
    mend = _fail(town, who, way)
    time.sleep(RESTART_S if way == "killed" else AWAY_S)
    mend()
    eventually(lambda: is_whole(town), 180)
    eventually(lambda: stored.count(since) > 0, 120)
    return Seen(role=role, way=way, who=who, pause_s=stored.longest_pause_s(since))


def _who(town: ClusterTown, role: str) -> str:
    machines = town.machines
    if role in ROLES[:3]:
        ask = {
            "primary": machines.primary,
            "synchronous standby": machines.sync_standby,
            "other standby": machines.other,
        }
        return ask[role]()
    if role == "head-end in use":
        return town.head_end()
    eventually(town.active, 60)
    active = town.active()
    assert active is not None
    return active if role == "active utility" else next(name for name in UTILITIES if name != active)


def _fail(town: ClusterTown, who: str, way: str) -> Callable[[], object]:
    """Let it fail; return what mends it."""
    machines = town.machines
    if way == "cut off":
        machines.partition(who)
        return lambda: machines.heal(who)
    if who in DATABASES:
        if way == "killed":
            machines.kill(who, "all")
            return lambda: machines.boot(who)
        machines.stop(who, "all")
        return lambda: machines.cont(who, "all")
    if way == "killed":
        town.kill(who)
        return lambda: town.start(who)
    town.signal(who, signal.SIGSTOP)
    return lambda: town.signal(who, signal.SIGCONT)


def two_away(town: ClusterTown, stored: Stored, seconds: float, *, with_etcd: bool) -> int:
    """Let both standbys fail for a time; return how often something was stored until they are started again.

    The first seconds are left out: the primary notices within them.

    Args:
        with_etcd: Whether etcd fails with them, as on machines that are away: then nothing is primary any more.
    """
    machines = town.machines
    away = [machines.sync_standby(), machines.other()]
    for name in away:
        if with_etcd:
            machines.kill(name, "all")
        else:
            machines.kill(name, "patroni")
            machines.kill(name, "postgres")
    time.sleep(RESTART_S)
    since = time.monotonic()
    time.sleep(seconds - RESTART_S)
    count = stored.count(since)
    said = town.alarms()
    assert said == ["database_away" if with_etcd else "no_standby"], said
    for name in away:
        machines.boot(name) if with_etcd else machines.boot(name, "patroni")
    eventually(lambda: is_whole(town), 180)
    eventually(lambda: stored.count(since) > count, 120)
    return count


def upgraded(town: ClusterTown) -> None:
    """Restart everything in turn, as for an upgrade: both utilities, the waiting one first, then each database."""
    for role in ("waiting utility", "active utility"):
        town.restart(_who(town, role))
        eventually(lambda: is_whole(town), 120)
    for role in ("other standby", "synchronous standby", "primary"):
        town.machines.restart_database(_who(town, role))
        eventually(lambda: is_whole(town), 120)


def is_whole(town: ClusterTown) -> bool:
    """Start what ended by itself; return whether all of the cluster works."""
    town.restart_ended()
    return town.machines.is_settled() and town.active() is not None and all(town.stands(name) for name in UTILITIES)
