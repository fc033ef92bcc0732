"""Which process serves which microgrid in a large town: brokers, hosts of gateways, fleets of meters (pure)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from commonwatt.cliques.formation import Clique
from commonwatt.cliques.warm import warm_meters
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.town.town import Function, Microgrid, Town

ALONE = 20  # most microgrids of a town in which each has a broker and a gateway of its own
TOGETHER = 200  # controllers of a host, at most; microgrids of a broker, about
LEAST = 3  # hosts, and brokers: as many as a clique has members
# Most connections of a fleet of meters, though a process may have 20,000 files open: a busy machine gives all processes
# equal shares, and to the gateways a fleet that is starved looks like meters that are gone.
FLEET_SOCKETS = 8_500


@dataclass(frozen=True, kw_only=True)
class Places:
    """The processes of a large town, each with the names of its microgrids, in the town's order."""

    brokers: Sequence[Sequence[ControllerId]]  # the controllers whose meters connect to each broker
    hosts: Sequence[Sequence[ControllerId]]  # the controllers whose gateways run in each host
    fleets: Sequence[Sequence[MicrogridId]]  # the microgrids whose meters run in each fleet


def placed(town: Town, orders: Mapping[MicrogridId, Clique]) -> Places:
    """Return the places of a town's microgrids.

    A meter's brokers are different processes, since a client id can be at one broker only once, and so are the hosts
    of a clique: one that ends takes no controller with its backups. ``orders``: who may manage each microgrid.
    """
    names = list(town.microgrids)
    together = [(*orders.get(name, (name,)), *town.collectors.get(name, ())) for name in names]
    return Places(
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


def _fleets(town: Town, orders: Mapping[MicrogridId, Clique]) -> list[list[MicrogridId]]:
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
