"""Cliques of controllers, and the order in which controllers may manage a microgrid (P 3, docs/controllers.md).

A clique is fixed when its microgrids are registered. An addition changes no clique: added microgrids form cliques among
themselves. One or two that wait for a third have the last two members of the last clique as backups.
"""

from collections.abc import Mapping, Sequence

from commonwatt.model.units import ControllerId, MicrogridId

SIZE = 3  # members of a clique

Clique = tuple[ControllerId, ...]


def formed(cliques: Sequence[Clique], kinds: Mapping[MicrogridId, str]) -> tuple[Clique, ...]:
    """Return the cliques after microgrids were registered: those that were there, then those of the new ones.

    Args:
        kinds: The kind of each registered microgrid, in the order of their numbers.
    """
    placed = {member for clique in cliques for member in clique}
    new = [name for name in kinds if name not in placed]
    # The apartments join the residential microgrids that are left over.
    new = [n for n in new if kinds[n] == "residential"] + [n for n in new if kinds[n] == "apartment"]
    full = len(new) - len(new) % SIZE
    return (*cliques, *(tuple(new[at : at + SIZE]) for at in range(0, full, SIZE)))


def orders(cliques: Sequence[Clique], kinds: Mapping[MicrogridId, str]) -> dict[MicrogridId, Clique]:
    """Return the controllers that may manage each microgrid, the first one first: its own, then its backups."""
    found = {member: _from(clique, member) for clique in cliques for member in clique}
    waiting = [name for name, kind in kinds.items() if name not in found and kind != "public"]
    backups = cliques[-1][-2:] if cliques else ()
    for name in waiting:
        found[name] = (name, *(backups or _from(waiting, name)[1:]))
    residential = [name for name, kind in kinds.items() if kind == "residential"]
    return {name: found.get(name, (name, *residential[:-3:-1])) for name in kinds}


def exchanges(orders: Mapping[MicrogridId, Clique]) -> tuple[Clique, ...]:
    """Return the groups of at most three controllers that beat each other: cliques, and those who back one microgrid.

    The members of a group are in the order of its first microgrid.
    """
    groups: dict[frozenset[ControllerId], Clique] = {}
    for order in orders.values():
        if len(order) > 1:
            groups.setdefault(frozenset(order), order)
    return tuple(groups.values())


def _from(members: Sequence[ControllerId], first: ControllerId) -> Clique:
    """Return the members as a ring that begins with one of them."""
    at = members.index(first)
    return (*members[at:], *members[:at])
