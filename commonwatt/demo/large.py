"""A town of hundreds of microgrids: which processes serve them, servers of other makers, its drain."""

import os
import resource
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.clique.cliques import CliqueMembers, warm_meters
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.runtime.postgres import found, programs
from commonwatt.town.town import Function, Microgrid, Town

Status = Mapping[str, Any]  # the last status of a part

QUIET_S = 60  # town seconds after the last slot from which a heartbeat tells that a gateway's backlog is empty
_BACKLOGS = ("backlog_parts", "backlog_events", "backlog_letters")  # of a gateway's heartbeat


def arrived(utility: Status, fleets: Collection[Status]) -> int:
    """Return how much has arrived: records at the gateways, and slots at the utility."""
    slots = utility.get("totals", {}).get("received_slots", 0)
    return int(slots + sum(one["acknowledged"] for one in fleets))


def is_drained(utility: Status, fleets: Collection[Status], last: EpochSeconds) -> bool:
    """Whether all meters' backlogs are empty after the last slot, and by their heartbeats those of all gateways."""
    heartbeats = [one["heartbeat"] for one in utility.get("microgrids", {}).values()]
    fresh = bool(heartbeats) and all(one is not None and one["time"] > last + QUIET_S for one in heartbeats)
    at_meters = any(one["held"] or one["events_held"] for one in fleets)
    return fresh and not at_meters and not any(one.get(key, 0) for one in heartbeats for key in _BACKLOGS)


ALONE = 20  # most microgrids of a town in which each has a broker and a gateway of its own
TOGETHER = 200  # controllers of a host, at most; microgrids of a broker, about
LEAST = 3  # hosts, and brokers: as many as a clique has members
# Most connections of a fleet of meters, though a process may have 20,000 files open: a busy machine gives all processes
# equal shares, and to the gateways a fleet that is starved looks like meters that are gone.
FLEET_SOCKETS = 8_500


@dataclass(frozen=True, kw_only=True)
class TownProcesses:
    """The processes of a large town, each with the names of its microgrids, in the town's order."""

    brokers: Sequence[Sequence[ControllerId]]  # the controllers whose meters connect to each broker
    hosts: Sequence[Sequence[ControllerId]]  # the controllers whose gateways run in each host
    fleets: Sequence[Sequence[MicrogridId]]  # the microgrids whose meters run in each fleet


def placed(town: Town, orders: Mapping[MicrogridId, CliqueMembers]) -> TownProcesses:
    """Return the places of a town's microgrids.

    A meter's brokers are different processes, since a client id can be at one broker only once, and so are the hosts
    of a clique: one that ends takes no controller with its backups. ``orders``: who may manage each microgrid.
    """
    names = list(town.microgrids)
    together = [(*orders.get(name, (name,)), *town.collectors.get(name, ())) for name in names]
    return TownProcesses(
        brokers=spread(names, together, max(LEAST, len(names) // TOGETHER)),
        hosts=spread(names, together, max(LEAST, len(names) // TOGETHER + 1)),
        fleets=_fleets(town, orders),
    )


def spread(
    names: Sequence[ControllerId], apart: Iterable[Collection[ControllerId]], least: int
) -> list[list[ControllerId]]:
    """Distribute controllers evenly over ``least`` places, or more; no two of a group of ``apart`` share a place."""
    others: dict[ControllerId, set[ControllerId]] = {name: set() for name in names}
    for group in apart:
        for name in group:
            others[name] |= set(group) - {name}
    while True:
        places: list[list[ControllerId]] = [[] for _ in range(least)]
        at: dict[ControllerId, int] = {}
        for name in names:
            taken = {at[other] for other in others[name] & at.keys()}
            free = [place for place in range(least) if place not in taken]
            if not free:
                break
            at[name] = min(free, key=lambda place: len(places[place]))
            places[at[name]].append(name)
        else:
            return places
        least += 1


def _fleets(town: Town, orders: Mapping[MicrogridId, CliqueMembers]) -> list[list[MicrogridId]]:
    """Distribute microgrids over as few fleets as their connections allow, about equally, in the town's order."""
    sockets = {name: _sockets(one, len(orders.get(name, (name,)))) for name, one in town.microgrids.items()}
    total = sum(sockets.values())
    count = -(-total // FLEET_SOCKETS)
    fleets: list[list[MicrogridId]] = [[] for _ in range(count)]
    before = 0
    for name, some in sockets.items():
        fleets[before * count // total].append(name)
        before += some
    return fleets


def _sockets(microgrid: Microgrid, brokers: int) -> int:
    """Return the connections of a microgrid's meters: one of each, and those of warm ones at each further broker."""
    emulated = [meter for meter in microgrid.meters if meter.emulated]
    inside = {m.id: m.battery is not None for m in emulated if m.function is not Function.BOUNDARY}
    return len(emulated) + (brokers - 1) * len(warm_meters(inside))


FILES = 20_000  # open files of a process: the connections of a fleet of meters, and its stores


def require_servers() -> None:
    """Check that the servers are installed, and that a process may open enough files."""
    missing = {"mosquitto": found("mosquitto"), "postgresql": programs()}
    if packages := [name for name, path in missing.items() if path is None]:
        raise ConfigError(
            f"a town of so many microgrids needs {' and '.join(packages)}: sudo apt-get install {' '.join(packages)}"
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        raise ConfigError(f"each process needs {FILES:,} open files, and may have {hard:,}: raise it, ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))


def mosquitto(config: Path, devices: Iterable[Path]) -> Sequence[str]:
    """Write the files of a Mosquitto beside a broker's settings file, for several microgrids; return its command.

    Raises:
        ConfigError: The files can't be made.
    """
    out = config.with_name("mosquitto")
    command = [sys.executable, "-m", "commonwatt", "broker", "render", "mosquitto", "--config", str(config)]
    command += ["--out", str(out), *(word for path in devices for word in ("--devices", str(path)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the files of a Mosquitto could not be made: {done.stderr.strip()}")
    settings = out / "mosquitto.conf"
    if os.geteuid() == 0:
        # Otherwise it would change to a user who can't read these files.
        settings = out / "as-root"
        settings.write_text(f"user root\ninclude_dir {out.resolve()}\n")
    return [str(found("mosquitto")), "-c", str(settings)]
