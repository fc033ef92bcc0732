"""The boundary of microgrids: voltage and switch, import limit, feeder, and what these limits leave over (C5, A8).

A microgrid is off the grid while its switch is open or the town's side has no voltage; then nothing passes, in either
direction. An import limit never limits the export.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from commonwatt.energy.physics.places import Places
from commonwatt.settlement.splits import Array, Flags

NO_LIMIT_W = 2**40  # an import limit above every feeder, watts: no limit


class Cause(IntEnum):
    """Why load was not served, or sun not used."""

    PLACE = 0  # the place is isolated by command
    ISLAND = 1  # the microgrid is off the grid
    LIMIT = 2  # the microgrid's import limit
    FEEDER = 3  # the microgrid's feeder is at its limit
    TOWN = 4  # the town had no more energy, or no more use for it


@dataclass(frozen=True, kw_only=True, eq=False)
class Boundary:
    """The state of each microgrid's boundary in one step, (M,)."""

    voltage: Flags  # whether the town's side has voltage
    closed: Flags  # whether the switch is closed
    import_limit_w: Array  # limit of the import, watts; ``NO_LIMIT_W``: none

    @classmethod
    def open_to_town(cls, microgrids: int) -> "Boundary":
        """Return boundaries that limit nothing."""
        yes = np.ones(microgrids, dtype=np.bool_)
        return cls(voltage=yes, closed=yes, import_limit_w=np.full(microgrids, NO_LIMIT_W))


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """What each microgrid exchanges with the town in one step, milliwatt-hours, (M,)."""

    imported: Array  # energy from the town
    exported: Array  # energy to the town
    short: Array  # load not served, by cause, (causes, M)
    spilled: Array  # sun not used, by cause, (causes, M)

    def reduced(self, imported: Array, exported: Array) -> "Exchange":
        """Return the exchange after the town has given or taken less."""
        short, spilled = self.short.copy(), self.spilled.copy()
        short[Cause.TOWN] += self.imported - imported
        spilled[Cause.TOWN] += self.exported - exported
        return Exchange(imported=imported, exported=exported, short=short, spilled=spilled)


def exchange(places: Places, boundary: Boundary, net: Array) -> Exchange:
    """Return what the boundaries let pass of each microgrid's net demand (negative: surplus)."""
    wanted, offered = np.maximum(net, 0), np.maximum(-net, 0)
    short, spilled = (np.zeros((len(Cause), len(net)), dtype=np.int64) for _ in range(2))
    on_grid = np.asarray(boundary.voltage & boundary.closed)
    limit = boundary.import_limit_w * (1000 * places.step_s) // 3600
    imported = np.minimum(np.minimum(wanted, places.feeder), limit) * on_grid
    exported = np.minimum(offered, places.feeder) * on_grid
    if (rows := np.flatnonzero(wanted != imported)).size:
        by = np.where(limit < places.feeder, Cause.LIMIT, Cause.FEEDER)[rows]
        short[np.where(on_grid[rows], by, Cause.ISLAND), rows] = (wanted - imported)[rows]
    if (rows := np.flatnonzero(offered != exported)).size:
        spilled[np.where(on_grid[rows], Cause.FEEDER, Cause.ISLAND), rows] = (offered - exported)[rows]
    return Exchange(imported=imported, exported=exported, short=short, spilled=spilled)
