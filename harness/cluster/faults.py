"""The faults of docs/cluster.md's table, each for a cluster that is settled."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.cluster.machines import DATABASES, DatabaseMachines, What


@dataclass(frozen=True)
class Fault:
    """A fault of a machine, and its end."""

    do: Callable[[DatabaseMachines, str], None]
    mend: Callable[[DatabaseMachines, str], None]
    lasts_s: float  # from the one to the other


def killed(what: What = "all", lasts_s: float = 30.0) -> Fault:
    """Return the loss of processes by kill -9; then what does not run is started."""
    return Fault(lambda machines, name: machines.kill(name, what), lambda machines, name: machines.boot(name), lasts_s)


def stopped(what: What = "all", lasts_s: float = 60.0) -> Fault:
    """Return a pause of processes by SIGSTOP."""
    return Fault(
        lambda machines, name: machines.stop(name, what), lambda machines, name: machines.cont(name, what), lasts_s
    )


def partitioned(lasts_s: float = 60.0) -> Fault:
    """Return the loss of the network."""
    return Fault(DatabaseMachines.partition, DatabaseMachines.heal, lasts_s)


Where = Callable[[DatabaseMachines], list[str]]


def primary(machines: DatabaseMachines) -> list[str]:
    """The primary."""
    return [machines.primary()]


def sync_standby(machines: DatabaseMachines) -> list[str]:
    """The synchronous standby."""
    return [machines.sync_standby()]


def other(machines: DatabaseMachines) -> list[str]:
    """The other standby."""
    return [machines.other()]


def standbys(machines: DatabaseMachines) -> list[str]:
    """Both standbys."""
    return [name for name in DATABASES if name != machines.primary()]


def etcd_leader(machines: DatabaseMachines) -> list[str]:
    """The machine whose etcd leads."""
    return [machines.etcd_leader()]


FAULTS: dict[str, tuple[Where, Fault]] = {
    "primary: kill -9": (primary, killed()),
    "primary: SIGSTOP": (primary, stopped()),
    "primary: partition": (primary, partitioned()),
    "synchronous standby: kill -9": (sync_standby, killed()),
    "synchronous standby: SIGSTOP": (sync_standby, stopped()),
    "synchronous standby: partition": (sync_standby, partitioned()),
    "other standby: kill -9": (other, killed()),
    "other standby: SIGSTOP": (other, stopped()),
    "other standby: partition": (other, partitioned()),
    "both standbys: kill -9, 60 s": (standbys, killed(lasts_s=60.0)),
    "primary's PostgreSQL: kill -9": (primary, killed("postgres", 30.0)),
    "primary's PostgreSQL: SIGSTOP": (primary, stopped("postgres")),
    "primary's Patroni: kill -9, not restarted": (primary, killed("patroni", 45.0)),
    "etcd's leader: kill -9": (etcd_leader, killed("etcd", 30.0)),
    "etcd's leader: SIGSTOP": (etcd_leader, stopped("etcd", 40.0)),
    "all three etcd: kill -9, 60 s": (lambda _: list(DATABASES), killed("etcd", 60.0)),
}
"""By name: which machines, and what happens to them."""
