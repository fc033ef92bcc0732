"""How long a microgrid lasts without its line, as it is told to people and programs; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
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
            return f"more than {HORIZON_H} h"
        high = f"more than {HORIZON_H}" if self.high is None else f"{self.high:.1f}"
        middle = f"more than {HORIZON_H} h" if self.middle is None else f"{self.middle:.1f} h"
        return f"{middle} ({self.low:.1f} to {high} h)"


@dataclass(frozen=True, kw_only=True)
class HoursLeft:
    """How long the homes of a microgrid have energy, if its line fails at ``at``."""

    at: EpochSeconds  # the time of the projection
    first: Band  # until the first home is dark
    half: Band  # until half of the homes are dark at once
    all: Band  # until all homes are dark at once
    reasons: Sequence[str] = ()  # why it is less sure than usual, for people


def hours_left(lasts: Lasts, row: int, at: EpochSeconds, reasons: Sequence[str] = ()) -> HoursLeft:
    """Return what is told of the microgrid of a row."""
    first, half, all_ = (_band(hours, row) for hours in (lasts.first, lasts.half, lasts.all))
    return HoursLeft(at=at, first=first, half=half, all=all_, reasons=tuple(reasons))


def _band(hours: Range, row: int) -> Band:
    return Band(*(None if isinf(value := float(each[row])) else round(value, 1) for each in hours))
