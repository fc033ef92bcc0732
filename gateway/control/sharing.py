"""Decides which batteries share and which receive: a pure function of levels and minima (C2, docs/control.md)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from commonwatt.model.ids import MeterId
from commonwatt.model.units import MilliwattHours


@dataclass(frozen=True, kw_only=True)
class BatteryState:
    """The state of a battery, from its meter's reports.

    Attributes:
        level: The energy stored in it, milliwatt-hours.
        capacity: Its capacity, milliwatt-hours.
        minimum: Its sharing minimum, milliwatt-hours: below it the battery receives, and does not share.
        available: Whether it can take part: its level is recent, it is up and not isolated.
        shares: Whether it shares by command; else it only receives.
    """

    level: MilliwattHours
    capacity: MilliwattHours
    minimum: MilliwattHours
    available: bool = True
    shares: bool = True


@dataclass(frozen=True)
class Decision:
    """The donors and the receivers; without receivers there are no donors."""

    donors: frozenset[MeterId] = frozenset()
    receivers: frozenset[MeterId] = frozenset()


def decide_spec(batteries: Mapping[MeterId, BatteryState], before: Decision, band_permille: int) -> Decision:
    """Strategy ``spec``: when any battery is below its minimum and others are above theirs, those above share (C2).

    A band of ``band_permille`` thousandths of its capacity keeps a battery from flapping: a receiver starts below its
    minimum and ends at the band above it; a donor starts above the band and ends at its minimum.

    Args:
        batteries: Every battery of the microgrid, by its meter.
        before: The decision in force.
        band_permille: Width of the band.
    """
    receivers = frozenset(
        meter
        for meter, battery in batteries.items()
        if battery.available
        and battery.level < (_helped_to(battery, band_permille) if meter in before.receivers else battery.minimum)
    )
    donors = frozenset(
        meter
        for meter, battery in batteries.items()
        if meter not in receivers
        and battery.available
        and battery.shares
        and battery.level > battery.minimum + (0 if meter in before.donors else _band(battery, band_permille))
    )
    return Decision(donors, receivers) if donors and receivers else Decision(frozenset(), receivers)


def _band(battery: BatteryState, permille: int) -> MilliwattHours:
    return battery.capacity * permille // 1000


def _helped_to(battery: BatteryState, permille: int) -> MilliwattHours:
    # Otherwise a battery whose minimum is closer to its capacity than the band would receive for ever.
    return min(battery.minimum + _band(battery, permille), battery.capacity)


def near_minimum(batteries: Mapping[MeterId, BatteryState], permille: int) -> Set[MeterId]:
    """Return the batteries within ``permille`` thousandths of their capacity above their minimum, or below it."""
    return {m for m, b in batteries.items() if b.level <= b.minimum + b.capacity * permille // 1000}
