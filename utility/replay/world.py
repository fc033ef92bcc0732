"""Stored days as a simulation takes them, what it makes of each place, and the rows that show it (pure).

By quarter-hours a day's import and export would differ by some per cent from the settled ones, since batteries share
and empty within minutes; by minutes they stay within 1 % of nearly every day (docs/scenarios.md).
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from commonwatt.energy.places import Places
from commonwatt.energy.simulation import Simulation
from commonwatt.energy.splits import Array
from commonwatt.energy.step import Inputs
from commonwatt.model.units import SLOT_S, EpochSeconds, MicrogridId
from utility.energy.quarters import QUARTERS_A_DAY
from utility.energy.sharing import Members, pro_rata
from utility.registry.layout import Day
from utility.webkit.columns import Shown, Written

Place = tuple[MicrogridId, str]  # a microgrid, and the name of a place of it
Course = NDArray[np.int32]  # what places used and their panels gave, milliwatt-hours, (2, places, steps)
STEP_S, DAY_S = 60, 86_400
TAKEN, SENT, GENERATION, LEVEL = range(4)  # what is read of places


def course(read: Array, levels: Array, loss_permille: int) -> Course:
    """Return what places used: what they took and their panels gave, less what they sent and their batteries stored.

    Args:
        read: What they read by slot of 15 s, by ``TAKEN`` to ``LEVEL``, (4, places, slots).
        levels: The levels of their batteries at the beginning, (places).
    """
    gain = np.diff(read[LEVEL], axis=1, prepend=levels[:, None])
    stored = np.where(gain > 0, gain * 1000 // (1000 - loss_permille), gain)
    both = (read[TAKEN] - read[SENT] + read[GENERATION] - stored, read[GENERATION])
    parts = [each.reshape(len(each), -1, STEP_S // SLOT_S).sum(axis=2) for each in both]
    return np.asarray(np.maximum(np.stack(parts), 0), np.int32)


def rows_of(blocks: list[Places], row: Mapping[Place, int]) -> list[NDArray[np.intp]]:
    """Return the rows of the places of each layout, (M, P), by the row of each place."""
    return [
        np.array([[row[grid, name] for name in names] for grid, names in zip(each.microgrids, each.names, strict=True)])
        for each in blocks
    ]


class StoredWorld:
    """The world of stored days.

    Args:
        blocks: The microgrids.
        rows: The rows of their places in a course, ``rows_of``.
        today: Returns the course of the day at hand.
        levels: The levels of the batteries at the beginning, by row.
    """

    def __init__(
        self, blocks: list[Places], rows: list[NDArray[np.intp]], today: Callable[[], Course], levels: Array
    ) -> None:
        self._layouts = list(zip(blocks, rows, strict=True))
        self._today, self._levels = today, levels

    def at(self, time: EpochSeconds) -> list[Inputs]:
        """Return the inputs of the step that starts at ``time``."""
        load, sun = self._today()[:, :, time % DAY_S // STEP_S].astype(np.int64)
        return [Inputs(load=load[rows] * places.users, generation=sun[rows]) for places, rows in self._layouts]

    def levels(self, percent: int) -> list[Array]:
        """Return the levels of the batteries at the beginning."""
        del percent
        return [np.minimum(self._levels[rows], places.capacity) for places, rows in self._layouts]


def run_day(simulation: Simulation, rows: list[NDArray[np.intp]], day: Day) -> tuple[Array, Array]:
    """Run a day.

    Returns:
        The energies of places by ``Quantity``, milliwatt-hours, (4, places, 96). What they gave and received,
        by sharing, milliwatt-hours, and for how many seconds they had less than half of their load, (3, places).
    """
    places = sum(each.size for each in rows)
    energies, sums = np.zeros((4, places, QUARTERS_A_DAY), np.int64), np.zeros((3, places), np.int64)
    for time in range(day * DAY_S, (day + 1) * DAY_S, STEP_S):
        quarter = time % DAY_S * QUARTERS_A_DAY // DAY_S
        for at, step in zip(rows, simulation.step(time), strict=True):
            flows = step.flows
            taken, sent = flows.demand + flows.received, flows.surplus + flows.pushed + flows.given
            inside = pro_rata(Members(sent=sent, taken=taken))
            energies[:, at, quarter] += (
                *(taken - inside.shared_in, inside.shared_in),
                *(sent - inside.shared_out, inside.shared_out),
            )
            is_dark = 2 * flows.unserved > flows.served + flows.unserved
            sums[:, at] += flows.given, flows.received - flows.absorbed, STEP_S * is_dark
    return energies, sums


def differs_permille(energies: Array, settled: Array, owner: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return by how many thousandths each microgrid's import and export differ from the settled ones.

    Args:
        energies: Of a replayed day.
        settled: What each imported and exported, (2, microgrids).
        owner: The microgrid of each place.
    """
    replayed = [np.bincount(owner, energies[quantity].sum(axis=1), settled.shape[1]) for quantity in (0, 2)]
    off, whole = np.abs(replayed - settled).sum(axis=0), settled.sum(axis=0)
    return np.asarray(np.divide(1000 * off, whole, out=np.where(off > 0, 1000.0, 0.0), where=whole > 0))


class AccountRow(BaseModel):
    """What an account pays."""

    account: Annotated[int, Shown("Account")]
    was: Annotated[Decimal, Shown("Was, dollars", Written.NUMBER)]
    would: Annotated[Decimal, Shown("Would be, dollars", Written.NUMBER)]
    more: Annotated[Decimal, Shown("More, dollars", Written.NUMBER)]


class PlaceRow(BaseModel):
    """What a place gives by sharing, receives, and goes without."""

    microgrid: Annotated[str, Shown("Microgrid", link="/console/microgrids/{microgrid}")]
    place: Annotated[str, Shown("Place")]
    gave: Annotated[int, Shown("Gave", Written.ENERGY)]
    received: Annotated[int, Shown("Received", Written.ENERGY)]
    was_dark_h: Annotated[float, Shown("Was dark, hours")]
    would_give: Annotated[int, Shown("Would give", Written.ENERGY)]
    would_receive: Annotated[int, Shown("Would receive", Written.ENERGY)]
    would_be_dark_h: Annotated[float, Shown("Would be dark, hours")]

    def rank(self) -> tuple[float, int]:
        """What places are listed by: the hours of dark and the help that change."""
        helps = abs(self.would_give - self.gave) + abs(self.would_receive - self.received)
        return self.was_dark_h - self.would_be_dark_h, -helps

    @classmethod
    def of(cls, place: Place, sums: list[list[int]]) -> "PlaceRow":
        """Return the row of the ``sums`` of what was and would be: given, received, seconds dark."""
        values = (value for given, received, dark_s in sums for value in (given, received, round(dark_s / 3600, 2)))
        return cls(**dict(zip(cls.model_fields, (*place, *values), strict=True)))


class LeftOutRow(BaseModel):
    """A day of a microgrid that does not count."""

    day: Annotated[str, Shown("Day")]
    microgrid: Annotated[str, Shown("Microgrid")]
    why: Annotated[str, Shown("Why")]
