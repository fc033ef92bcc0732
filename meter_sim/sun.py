"""The clear-sky sun over one place on Earth, computed with numpy only.

pvlib is the reference of the test alone: it brings pandas and scipy, 155 MB in each process, for one angle.

Positions follow J. Meeus, Astronomical Algorithms (2nd edition), chapters 12, 13 and 25 (low accuracy), with the
refraction of the NREL SPA at sea level and 12 degrees Celsius. Tests check that the zenith is within 0.02 degrees of
pvlib's zenith from 2020 to 2060.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOT_S, EpochSeconds

DAY_S = 86_400  # seconds in a UTC day
DAY_SLOTS = DAY_S // SLOT_S  # metering slots in a UTC day
FULL_SUN_W_M2 = 1000.0  # irradiance at which panels are rated: full sun, watts per square metre

_Array = NDArray[np.float64]

_J2000_S = 946_728_000  # UTC epoch seconds of 2000-01-01 12:00
_TERRESTRIAL_S = 69.0  # terrestrial time minus UTC; the sun moves 0.001 degrees in two minutes more or less
_LOWEST_REFRACTED = -0.83337  # elevation, degrees, at which the upper edge of the sun is at the horizon


class Sun:
    """The clear-sky sun over one place on Earth."""

    def __init__(self, latitude: float, longitude: float) -> None:
        self._latitude = latitude
        self._longitude = longitude

    def day(self, day: int) -> _Array:
        """Return the fraction of full sun, 0 to 1, in each of the 5,760 slots of a UTC day counted from 1970."""
        return _clear_day(self._latitude, self._longitude, day)

    def fraction(self, time: EpochSeconds, step_s: int = SLOT_S) -> float:
        """Return the fraction of full sun, 0 to 1, in the step that starts at ``time`` and ends on the same UTC day."""
        slot = time % DAY_S // SLOT_S
        return float(self.day(time // DAY_S)[slot : slot + step_s // SLOT_S].mean())


@lru_cache(maxsize=8)
def _clear_day(latitude: float, longitude: float, day: int) -> _Array:
    """Return the fraction of full sun at the middle of each slot of a UTC day."""
    seconds = day * DAY_S + SLOT_S / 2 + SLOT_S * np.arange(DAY_SLOTS, dtype=np.float64)
    cosine = np.cos(np.radians(apparent_zenith(seconds, latitude, longitude)))
    # Haurwitz's clear sky (1945) needs the zenith alone.
    up = np.maximum(cosine, 1e-9)
    irradiance = np.where(cosine > 0, 1098.0 * up * np.exp(-0.059 / up), 0.0)
    return np.clip(irradiance / FULL_SUN_W_M2, 0.0, 1.0)


def apparent_zenith(seconds: _Array, latitude: float, longitude: float) -> _Array:
    """Return the angle between the refracted sun and the vertical, degrees.

    Args:
        seconds: UTC epoch seconds, (n,).
        latitude: Degrees north.
        longitude: Degrees east.
    """
    right_ascension, declination = _equatorial(seconds + _TERRESTRIAL_S)
    hour_angle = np.radians(_sidereal(seconds) + longitude) - right_ascension
    north = np.radians(latitude)
    sine = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour_angle)
    elevation = np.degrees(np.arcsin(sine))
    refraction = 1.02 / (60 * np.tan(np.radians(elevation + 10.3 / (elevation + 5.11))))
    refraction *= 1013.25 / 1010 * 283 / (273 + 12)
    return np.asarray(90 - elevation - np.where(elevation > _LOWEST_REFRACTED, refraction, 0.0), np.float64)


def _equatorial(seconds: _Array) -> tuple[_Array, _Array]:
    """Return the sun's apparent right ascension and declination, radians (Meeus 25)."""
    t = (seconds - _J2000_S) / (36_525 * DAY_S)
    mean_longitude = 280.46646 + t * (36_000.76983 + t * 0.0003032)
    anomaly = np.radians(357.52911 + t * (35_999.05029 - t * 0.0001537))
    centre = (
        (1.914602 - t * (0.004817 + t * 0.000014)) * np.sin(anomaly)
        + (0.019993 - t * 0.000101) * np.sin(2 * anomaly)
        + 0.000289 * np.sin(3 * anomaly)
    )
    node = np.radians(125.04 - 1934.136 * t)
    longitude = np.radians(mean_longitude + centre - 0.00569 - 0.00478 * np.sin(node))
    obliquity = np.radians(23.439291 - t * 0.0130042 + 0.00256 * np.cos(node))
    right_ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    return right_ascension, np.arcsin(np.sin(obliquity) * np.sin(longitude))


def _sidereal(seconds: _Array) -> _Array:
    """Return the mean sidereal time at Greenwich, degrees (Meeus 12.4)."""
    days = (seconds - _J2000_S) / DAY_S
    t = days / 36_525
    return np.asarray(280.46061837 + 360.98564736629 * days + t * t * 0.000387933, np.float64)
