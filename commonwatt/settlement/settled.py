"""Settled quarter-hours: what each meter exchanged with the town and with its microgrid, as bills read it (C4, U2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import Quarter

QUARTERS_A_DAY = 96  # quarter-hours of a settled day; the day is of UTC: it never has 92 or 100
Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours, (meters, quarters)


class Quantity(IntEnum):
    """What is settled for a meter; an incoming meter has the first two, an outgoing one the last two.

    The outgoing meter of a place with a battery but without an incoming meter (a building, the farm) has all four.
    """

    IMPORTED = 1  # taken from the town
    SHARED_IN = 2  # taken from other places of the microgrid
    EXPORTED = 3  # given to the town
    SHARED_OUT = 4  # given to other places of the microgrid


QUANTITY_WORDS: Mapping[Quantity, str] = {
    Quantity.IMPORTED: "taken from the town",
    Quantity.SHARED_IN: "received from neighbours",
    Quantity.EXPORTED: "given to the town",
    Quantity.SHARED_OUT: "given to neighbours",
}
"""Each quantity for people, on every page and bill."""


class SettledQuality(IntEnum):
    """The worst quality of the readings that a settled quarter-hour was made of."""

    # A slot has no reading and no estimate: nothing is settled of it; the energies are those of the other slots.
    MISSING = 0
    ESTIMATED = 1
    EDITED = 2  # a person entered it
    AVERAGED = 3
    MEASURED = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledQuarters:
    """Settled quarter-hours: a row for each meter, a column for each quarter."""

    meters: NDArray[np.uint64]  # the ids, ascending, (meters)
    first: Quarter  # the first quarter; the columns follow it without a gap
    # By quantity, milliwatt-hours, never negative; a quantity that no meter has may be absent.
    energies: dict[Quantity, Energies]
    quality: NDArray[np.uint8]  # ``SettledQuality`` of each quarter, (meters, quarters), uint8
    provisional: NDArray[np.bool_]  # whether a reading may still come, (meters, quarters)
    version: NDArray[np.int32]  # the version of the settled day, from 1; 0: not settled yet, (meters, quarters), int32

    def of(self, quantity: Quantity) -> Energies:
        """Return the energies of a quantity; zeros where no meter has it."""
        found = self.energies.get(quantity)
        return np.zeros(self.quality.shape, np.int64) if found is None else found
