"""The emulated weather: sun, clouds and temperature, the same for the same town and time (T1, T7).

It has no state except caches: random values come from a hash of the town's seed and the day.
"""

from datetime import date, datetime
from hashlib import blake2b
from math import cos, pi
from zoneinfo import ZoneInfo

from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.town.file import TownTable
from meter_sim.sun import DAY_S, Sun

OVERCAST_SHARE = 0.35  # share of days that are overcast
OVERCAST_LOSS = (0.10, 0.15)  # least and greatest share of the sun that an overcast day takes away (T7)

_YEAR_S = 365.2425 * DAY_S
_COLDEST_S = 20 * DAY_S  # the coldest time of the northern year, seconds after New Year
_WARMEST_HOUR = 15  # the warmest hour of the day, by the sun's time
_MEAN_C, _SEASON_C, _DAY_C = 10.5, 12.5, 5.0
"""The year's mean temperature, and the amplitudes of the year and of the day, degrees Celsius."""


def seed_of(*parts: object) -> int:
    """Return 64 bits that depend on every part, the same in every process and on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def chance(*parts: object) -> float:
    """Return a number in [0, 1), derived from ``seed_of`` the parts."""
    return (seed_of(*parts) >> 11) / 2**53


class Weather:
    """A town's weather; scenarios override ``overcast`` or ``temperature_c``."""

    def __init__(self, table: TownTable) -> None:
        self._table = table
        self._zone = ZoneInfo(table.timezone)
        self._sun = Sun(table.latitude, table.longitude)

    def solar(self, time: EpochSeconds, step_s: int = SLOT_S) -> float:
        """Return the fraction of full sun, 0 to 1, that reaches the panels in the step that starts at ``time``."""
        return self._sun.fraction(time, step_s) * self.clouds(time)

    def overcast(self, day: date) -> bool:
        """Whether a local day is overcast."""
        return chance(self._table.seed, "overcast", day) < OVERCAST_SHARE

    def clouds(self, time: EpochSeconds) -> float:
        """Return the share of the sun that clouds let through: 1, or 0.85 to 0.90 throughout an overcast day (T7)."""
        day = datetime.fromtimestamp(time, self._zone).date()
        if not self.overcast(day):
            return 1.0
        least, greatest = OVERCAST_LOSS
        return 1.0 - least - (greatest - least) * chance(self._table.seed, "clouds", day)

    def temperature_c(self, time: EpochSeconds) -> float:
        """Return the outdoor temperature in degrees Celsius: one wave through the year and one through the day."""
        season = cos(2 * pi * (time - _COLDEST_S) / _YEAR_S)
        if self._table.latitude < 0:
            season = -season
        sun_hour = time % DAY_S / 3600 + self._table.longitude / 15
        return _MEAN_C - _SEASON_C * season + _DAY_C * cos(2 * pi * (sun_hour - _WARMEST_HOUR) / 24)
