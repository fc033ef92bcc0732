"""The town's plant as buying sees it: its battery, and the line to the regional grid (T5)."""

from dataclasses import dataclass

from commonwatt.model.units import QUARTER_S, MilliwattHours

_PER_HOUR = 3600 // QUARTER_S


@dataclass(frozen=True, kw_only=True)
class Plant:
    """The state and the limits of the plant."""

    # The energy in its battery, milliwatt-hours; a measured level may lie outside 0 to ``capacity``.
    level: MilliwattHours
    capacity: MilliwattHours  # the battery's capacity, milliwatt-hours
    floor: MilliwattHours  # the level below which the battery is never discharged, milliwatt-hours
    # The level kept for outages and the public microgrid, milliwatt-hours; what lies above it is traded.
    reserve: MilliwattHours
    power_w: int  # the most power with which the battery is charged or discharged, watts
    loss_permille: int  # the part of charged energy that is lost, thousandths; discharging loses nothing
    line_w: int  # the limit of the line in the present supply state, watts

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.floor <= self.reserve <= self.capacity:
            raise ValueError(f"not 0 <= floor <= reserve <= capacity: {self.floor}, {self.reserve}, {self.capacity}")
        if not 0 <= self.loss_permille < 1000 or self.power_w < 0 or self.line_w < 0:
            raise ValueError(f"loss {self.loss_permille}, power {self.power_w} or line {self.line_w} out of range")

    @property
    def line_quarter(self) -> MilliwattHours:
        """The most energy that the line delivers in a quarter-hour."""
        return self.line_w * 1000 // _PER_HOUR

    @property
    def power_quarter(self) -> MilliwattHours:
        """The most energy that goes into or out of the battery in a quarter-hour."""
        return self.power_w * 1000 // _PER_HOUR

    def intake_to(self, target: MilliwattHours) -> MilliwattHours:
        """Return the energy to charge, loss included, that raises the level to ``target``; 0 above it."""
        kept = 1000 - self.loss_permille
        return -(-max(0, target - self.level) * 1000 // kept)

    def stored(self, intake: MilliwattHours) -> MilliwattHours:
        """Return what ``intake`` of charged energy adds to the level."""
        return intake - (intake * self.loss_permille + 999) // 1000
