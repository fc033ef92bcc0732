"""How long a microgrid lasts without its line, as it is told to people and programs; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import NamedTuple

from commonwatt.energy.lasting import HORIZON_H, Lasts, Range
from commonwatt.model.units import EpochSeconds


class Band(NamedTuple):
    """Hours from the time of the projection; ``None``: more than ``HORIZON_H``."""

    low: float | None  # less in one of ten cases
    middle: float | None  # what is expected
    high: float | None  # more in one of ten cases
    alone: float | None  # what would be expected if no battery shared
    least: float | None  # without sun, help, and with much more use: what it is not less than

    @property
    def words(self) -> str:
        """The hours for people: what is expected, and the band."""
        if self.low is None:
            return hours(None)
        return f"{hours(self.middle)} ({self.low:.1f} to {hours(self.high)})"

    @property
    def sharing(self) -> str:
        """What it makes that batteries share, a sentence for people."""
        if self.alone == self.middle:
            return "Sharing changes nothing."
        if self.alone is None or (self.middle is not None and self.middle < self.alone):
            return f"Without sharing {hours(self.alone)}: with it, what some homes keep is used by all."
        more = "makes it" if self.middle is None else f"gives {hours(round(self.middle - self.alone, 1))} more:"
        return f"Sharing {more} {hours(self.middle)} in place of {hours(self.alone)}."


def hours(value: float | None) -> str:
    """Return hours for people; ``None``: more than are looked ahead."""
    return f"more than {HORIZON_H} h" if value is None else f"{value:.1f} h"


@dataclass(frozen=True, kw_only=True)
class HoursLeft:
    """How long the homes of a microgrid have energy, if its line fails at ``at``."""

    at: EpochSeconds  # the time of the projection
    first: Band  # until the first home is dark
    half: Band  # until half of the homes are dark at once
    all: Band  # until all homes are dark at once
    reasons: Sequence[str] = ()  # why it is less sure than usual, for people
    homes: Range | None = field(default=None, compare=False, repr=False)  # until each home is dark, by its column
    as_now: Band | None = None  # until the first home is dark if use goes on as now; ``None``: it is about as usual

    @property
    def bands(self) -> dict[str, Band]:
        """The hours by name: ``first``, ``half``, ``all``."""
        return {"first": self.first, "half": self.half, "all": self.all}


def hours_left(lasts: Lasts, row: int, at: EpochSeconds, reasons: Sequence[str] = ()) -> HoursLeft:
    """Return what is told of the microgrid of a row."""
    first, half, all_ = (band(hours, row) for hours in (lasts.first, lasts.half, lasts.all))
    homes = Range(*(each[row] for each in lasts.homes))
    return HoursLeft(at=at, first=first, half=half, all=all_, reasons=tuple(reasons), homes=homes)


def band(hours: Range, at: int) -> Band:
    """Return the band of a microgrid, or of a home, by its place in the arrays."""
    return Band(*(None if isinf(value := float(each[at])) else round(value, 1) for each in hours))
