"""Which batteries give and which receive: a pure function of levels and minima (C2, docs/control.md)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from commonwatt.model.units import MeterId, MilliwattHours


@dataclass(frozen=True, kw_only=True)
class BatteryState:
    """A battery as its gateway knows it.

    Attributes:
        level: What it holds, milliwatt-hours.
        capacity: What it holds when full, milliwatt-hours.
        minimum: Below this it does not share, and is helped up to it, milliwatt-hours.
        available: Whether it can take part: its level is recent, it is up and not isolated.
    """

    level: MilliwattHours
    capacity: MilliwattHours
    minimum: MilliwattHours
    available: bool = True


@dataclass(frozen=True)
class Decision:
    """Which batteries give and which receive. Without receivers none gives."""

    donors: frozenset[MeterId] = frozenset()
    receivers: frozenset[MeterId] = frozenset()


def decide_spec(batteries: Mapping[MeterId, BatteryState], before: Decision, band_permille: int) -> Decision:
    """Strategy ``spec``: when any battery is below its minimum and others are above theirs, those above share (C2).

    A band of ``band_permille`` thousandths of its capacity keeps a battery from flapping: it needs help from the
    moment it is below its minimum until it is the band above it, and gives from the band above its minimum down to it.

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
        and battery.level > battery.minimum + (0 if meter in before.donors else _band(battery, band_permille))
    )
    return Decision(donors, receivers) if donors and receivers else Decision(frozenset(), receivers)


def _band(battery: BatteryState, permille: int) -> MilliwattHours:
    return battery.capacity * permille // 1000


def _helped_to(battery: BatteryState, permille: int) -> MilliwattHours:
    # A minimum within the band of the capacity would never be left otherwise.
    return min(battery.minimum + _band(battery, permille), battery.capacity)


def near_minimum(batteries: Mapping[MeterId, BatteryState], permille: int) -> Set[MeterId]:
    """Return the batteries within ``permille`` thousandths of their capacity above their minimum, or below it."""
    return {m for m, b in batteries.items() if b.level <= b.minimum + b.capacity * permille // 1000}
