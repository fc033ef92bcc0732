"""Homes as researchers see them: one account at one place, with four energies a step (U7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, Quarter
from commonwatt.town.town import Direction, Function
from utility.registry.accounts import DatedRegistry, Installed

HALF_HOUR_S = 1800  # the step in which attackers know readings, seconds
KINDS = (Function.APARTMENT, Function.HOUSE)  # the functions of homes; public services are no homes
Energies = NDArray[np.int64]  # milliwatt-hours, (homes, steps)

Flags = NDArray[np.bool_]


class Measure(StrEnum):
    """An energy of a home in a step."""

    USED = "used"  # generated + taken - given - rise of the battery's level; so it includes the battery's charging loss
    GENERATED = "generated"  # by its panels, as far as used, stored or given
    TAKEN = "taken"  # from the microgrid or the town, through the incoming meter
    GIVEN = "given"  # to the microgrid or the town, through the outgoing meter


@dataclass(frozen=True, kw_only=True, order=True)
class Home:
    """An account at a place during a whole period."""

    microgrid: MicrogridId  # the microgrid
    place: str  # the place, unique within the microgrid
    account: AccountNumber  # the account
    function: Function  # house or apartment

    @property
    def key(self) -> str:
        """Its name inside the utility; never published."""
        return f"{self.microgrid}/{self.place}/{self.account}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Homes:
    """Homes with their energies in the steps of a period."""

    homes: tuple[Home, ...]  # the homes, one a row
    start: EpochSeconds  # start of the first step
    step_s: int  # length of a step, seconds
    values: Mapping[Measure, Energies]  # by measure; 0 where unknown
    known: Flags  # whether all readings of a step are there

    @property
    def times(self) -> NDArray[np.int64]:
        """Start of each step, UTC epoch seconds."""
        return self.start + self.step_s * np.arange(self.known.shape[1], dtype=np.int64)

    @property
    def end(self) -> EpochSeconds:
        """End of the last step."""
        return self.start + self.step_s * int(self.known.shape[1])

    def take(self, rows: NDArray[np.intp] | Sequence[int]) -> "Homes":
        """Return some of the homes."""
        return replace(
            self,
            homes=tuple(self.homes[row] for row in rows),
            values={measure: values[rows] for measure, values in self.values.items()},
            known=self.known[rows],
        )

    def in_steps(self, step_s: int) -> "Homes":
        """Return the homes in longer steps, which begin at multiples of their length; partial ones are left out."""
        if step_s == self.step_s:
            return self
        size = step_s // self.step_s
        skip = -(self.start // self.step_s) % size
        steps = (self.known.shape[1] - skip) // size

        def blocks(array: NDArray[np.generic]) -> NDArray[np.generic]:
            return array[:, skip : skip + steps * size].reshape(len(array), steps, size)

        return replace(
            self,
            start=self.start + skip * self.step_s,
            step_s=step_s,
            values={measure: np.asarray(blocks(values).sum(axis=2)) for measure, values in self.values.items()},
            known=np.asarray(blocks(self.known).all(axis=2)),
        )


@dataclass(frozen=True, kw_only=True)
class HomeMeter:
    """A meter of a home."""

    row: int  # the row of the home
    id: MeterId  # the meter
    direction: Direction  # its direction
    first: Quarter  # its first quarter in the period
    until: Quarter  # the quarter after its last
    battery: bool  # whether a battery is behind it


def homes_of(registry: DatedRegistry, first: Quarter, until: Quarter) -> tuple[tuple[Home, ...], list[HomeMeter]]:
    """Return the homes of a period, in order of their names, and their meters.

    A home had one account and its meters during the whole period: a place that changed hands, or that had no meter for
    a while, is none. Meters may have been exchanged.
    """
    places: dict[tuple[MicrogridId, str], list[Installed]] = {}
    for _, meter in sorted(registry.meters.items()):
        start, end = meter.within(first, until)
        if meter.function in KINDS and start < end:
            places.setdefault((meter.microgrid, meter.place), []).append(meter)
    found: dict[Home, list[Installed]] = {}
    for (microgrid, place), meters in places.items():
        holders = {_holder(meter, first, until) for meter in meters}
        account = holders.pop()
        if account is not None and not holders and _metered(meters, first, until):
            home = Home(microgrid=microgrid, place=place, account=account, function=meters[0].function)
            found[home] = meters
    homes = tuple(sorted(found))
    return homes, [_entry(row, meter, first, until) for row, home in enumerate(homes) for meter in found[home]]


def meters_of(meters: Sequence[HomeMeter], rows: Sequence[int]) -> list[HomeMeter]:
    """Return the meters of some homes, as of homes in that order."""
    place = {row: at for at, row in enumerate(rows)}
    return [replace(meter, row=place[meter.row]) for meter in meters if meter.row in place]


def _holder(meter: Installed, first: Quarter, until: Quarter) -> AccountNumber | None:
    """Return the one account that had a meter during its part of a period; ``None``: nobody, or several."""
    whole = meter.within(first, until)
    return next((account for account, *span in meter.held(first, until) if tuple(span) == whole), None)


def _metered(meters: Sequence[Installed], first: Quarter, until: Quarter) -> bool:
    """Return whether in each direction of a place there was a meter during the whole period."""
    for direction in {meter.direction for meter in meters}:
        covered = first
        for start, end in sorted(meter.within(first, until) for meter in meters if meter.direction is direction):
            if start > covered:
                return False
            covered = max(covered, end)
        if covered < until:
            return False
    return True


def _entry(row: int, meter: Installed, first: Quarter, until: Quarter) -> HomeMeter:
    start, end = meter.within(first, until)
    return HomeMeter(
        row=row,
        id=meter.id,
        direction=meter.direction,
        first=start,
        until=end,
        battery=meter.capacity is not None,
    )


def quarters_of(start: EpochSeconds, end: EpochSeconds) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a period, and the one after its last."""
    return start // QUARTER_S, end // QUARTER_S
