"""Weather, sun and load of all places by step, the same for the same town and time (T1-T3, T7; pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from math import cos, pi
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.places import Places, places_of
from commonwatt.energy.step import Inputs
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.town.town import Function, Microgrid, Town, TownTable, average_w

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


COMFORT_C = 18.0  # outdoor temperature without heating or cooling, degrees Celsius
# The year's mean distance of ``Weather.temperature_c`` from comfort, degrees; a test compares it with the curve.
MEAN_STRESS_C = 9.86
Energies: TypeAlias = NDArray[np.int64]  # energies in milliwatt-hours
_NOISE = 0.02
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # step of the counter that random numbers are made from
_KEPT = 2**20  # loads kept in memory at most, 8 bytes each
_MAX_RUNS = 64  # more than the runs of an appliance in a day
_MWH_PER_W = 1000 * SLOT_S / 3600  # milliwatt-hours that one watt uses in a slot
_QUARTER_S = 900
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Appliance:
    """An appliance that switches on and off."""

    share: float  # its part of the place's average use
    power: float  # what it draws when on, as a multiple of the place's average use
    minutes: tuple[int, int]  # shortest and longest run
    # Local hours between which a run starts; one pair is drawn for each run.
    hours: tuple[tuple[float, float], ...] = ((0.0, 24.0),)

    @property
    def runs(self) -> float:
        """Runs a day with which it has its share on average."""
        return self.share * 24 / (self.power * sum(self.minutes) / 2 / 60)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a kind of place uses its energy; the steady part is the rest besides temperature and appliances."""

    temperature: tuple[float, float]  # least and greatest share of heating and cooling
    # Peaks of the steady part over a floor of 1: height, local hour and width in hours.
    bumps: tuple[tuple[float, float, float], ...]
    appliances: tuple[Appliance, ...]  # the appliances


HOME = Habits(
    temperature=(0.10, 0.25),
    bumps=((1.2, 7.3, 1.3), (2.0, 19.5, 2.4)),
    appliances=(
        Appliance(share=0.04, power=0.125, minutes=(12, 20)),  # refrigerator
        Appliance(share=0.14, power=3.5, minutes=(6, 18), hours=((6, 9), (18, 23))),  # hot water
        Appliance(share=0.09, power=2.0, minutes=(15, 50), hours=((6.5, 8), (11.5, 13), (17, 19.5))),  # cooking
        Appliance(share=0.02, power=1.6, minutes=(3, 5), hours=((6, 9), (12, 17), (19, 22))),  # kettle
        Appliance(share=0.04, power=1.2, minutes=(60, 100), hours=((19, 22),)),  # dishwasher
        Appliance(share=0.06, power=2.0, minutes=(35, 80), hours=((8, 11), (17, 21))),  # laundry
    ),
)

SERVICE = Habits(
    temperature=(0.10, 0.20),
    bumps=((0.6, 12.5, 4.5),),
    appliances=(
        Appliance(share=0.06, power=0.10, minutes=(20, 60), hours=((7, 19),)),  # kitchens, laundry
        Appliance(share=0.08, power=0.15, minutes=(10, 40)),  # machines, doors, compressors
    ),
)


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A place that uses energy."""

    seed: int  # the town's seed
    place: str  # its name, unique in the town
    function: Function  # its function, which decides its habits
    average_w: int  # its mean load over a year, watts
    timezone: str  # time zone of its local hours

    @property
    def habits(self) -> Habits:
        """The habits of its function."""
        return HOME if self.function in (Function.HOUSE, Function.APARTMENT) else SERVICE

    @property
    def temperature_share(self) -> float:
        """The share of heating and cooling in its load, mean over a year."""
        least, greatest = self.habits.temperature
        return least + (greatest - least) * chance(self.seed, self.place, "temperature")


class Loads:
    """The loads of a list of places by step; keeps a day in memory, of many places an hour."""

    def __init__(self, consumers: Sequence[Consumer], step_s: int = SLOT_S) -> None:
        """Take the places and the length of a step: 15 s, or a multiple of it that an hour is a multiple of."""
        self._step_s = step_s
        self._size = len(consumers)
        self._span_s = DAY_S if self._size * DAY_S // step_s <= _KEPT else 3600
        shares = [consumer.average_w * consumer.temperature_share for consumer in consumers]
        self._per_degree = np.array(shares, dtype=np.float64) * (_MWH_PER_W * (step_s // SLOT_S)) / MEAN_STRESS_C
        kinds: dict[tuple[Habits, str], list[int]] = {}
        for column, consumer in enumerate(consumers):
            kinds.setdefault((consumer.habits, consumer.timezone), []).append(column)
        self._groups = [
            (np.array(columns), _Group([consumers[column] for column in columns])) for columns in kinds.values()
        ]
        self._start = -1
        self._steps = np.zeros((0, self._size), dtype=np.int64)

    def at(self, time: EpochSeconds, temperature: float) -> Energies:
        """Return each place's load in the step that starts at ``time``, at a temperature in degrees Celsius."""
        start = time // self._span_s * self._span_s
        if start != self._start:
            self._start, self._steps = start, self._span(start)
        stress = np.rint(self._per_degree * abs(temperature - COMFORT_C)).astype(np.int64)
        return np.asarray(self._steps[(time - start) // self._step_s] + stress)

    def _span(self, start: EpochSeconds) -> Energies:
        """Return the loads without heating and cooling, (steps, places)."""
        loads = np.zeros((self._span_s // self._step_s, self._size), dtype=np.int64)
        for columns, group in self._groups:
            loads[:, columns] = group.span(start, self._span_s, self._step_s // SLOT_S)
        return loads


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of appliances, (n,) each: column of the place, first and last slot since 1970, whole energy in a slot."""

    column: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    energy: NDArray[np.float64]

    def within(self, start: int, end: int) -> "_Runs":
        """Return the runs between two slots, cut at both."""
        some = (self.last > start) & (self.first < end)
        first, last = np.maximum(self.first[some], start), np.minimum(self.last[some], end)
        return _Runs(self.column[some], first, last, self.energy[some])

    def steps(self, start: int, slots: int, steps: int, size: int) -> Energies:
        """Return the energy in ``steps`` steps of ``slots`` slots from slot ``start`` at ``size`` places."""
        width = steps + 2
        ends = np.concatenate([self.first, self.last]) - start
        step = ends // slots
        within = ends - step * slots
        energy = np.concatenate([self.energy, -self.energy])
        place = np.concatenate([self.column, self.column]) * width + step
        change = np.bincount(place, energy, minlength=width * size) * slots
        if slots > 1:
            # A run that begins within a step has a part of its power in that step, and the rest from the next one on.
            later = np.bincount(place, energy * within, minlength=width * size)
            change -= later
            change[1:] += later[:-1]
        return np.asarray(np.cumsum(change.reshape(size, width)[:, :steps], axis=1).T.astype(np.int64))


class _Group:
    """Places of the same habits in one time zone."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._habits, self._timezone = consumers[0].habits, consumers[0].timezone
        self._average = np.array([one.average_w * _MWH_PER_W for one in consumers])
        shares = np.array([one.temperature_share for one in consumers])
        self._steady = (1 - shares - sum(one.share for one in self._habits.appliances)) * self._average
        shifts = [chance(one.seed, one.place, "shift") for one in consumers]
        self._shift = ((np.array(shifts) - 0.5) * 2 * 3600 / SLOT_S).astype(np.int64)
        self._noise, self._keys = (
            np.array([seed_of(one.seed, one.place, what) for one in consumers], dtype=np.uint64)
            for what in ("noise", "runs")
        )
        self._days: dict[int, _Runs] = {}

    def span(self, start: EpochSeconds, span_s: int, slots: int) -> Energies:
        """Return the loads without heating and cooling in steps of ``slots`` slots, (steps, places)."""
        steps, first = span_s // SLOT_S // slots, start // SLOT_S
        local = _local_slots(start // DAY_S, self._timezone)[first % DAY_SLOTS :][: span_s // SLOT_S : slots]
        shape = _shape(self._habits.bumps, slots)
        power = shape[(local[:, None] + self._shift) % DAY_SLOTS] * self._steady
        if slots == 1:
            # Over longer steps the noise cancels out.
            number = np.arange(first, first + steps, dtype=np.uint64)[:, None]
            power *= 1 - _NOISE + 2 * _NOISE * _uniform(self._noise + number * _GOLDEN)
        runs = _joined([runs.within(first, first + steps * slots) for runs in self._runs_near(start, start + span_s)])
        return np.asarray(np.rint(power).astype(np.int64)) + runs.steps(first, slots, steps, len(self._keys))

    def _runs_near(self, start: EpochSeconds, end: EpochSeconds) -> list[_Runs]:
        """Return the runs of the local days in which a run between two times may have started."""
        longest_s = 60 * max(one.minutes[1] for one in self._habits.appliances)
        days = [
            day
            for day in range(start // DAY_S - 1, end // DAY_S + 2)
            if _local_midnight(day, self._timezone) < end
            and _local_midnight(day + 1, self._timezone) + longest_s > start
        ]
        self._days = {day: self._days.get(day) or self._runs(day) for day in days}
        return list(self._days.values())

    def _runs(self, day: int) -> _Runs:
        """Return the runs that start in a local day."""
        midnight = _local_midnight(day, self._timezone) / SLOT_S
        return _joined(
            [self._runs_of(number, one, day, midnight) for number, one in enumerate(self._habits.appliances)]
        )

    def _runs_of(self, number: int, appliance: Appliance, day: int, midnight: float) -> _Runs:
        whole = int(appliance.runs)
        # A local day may begin before 1970, with a clock that starts there.
        counter = np.uint64((day * len(self._habits.appliances) + number) * _MAX_RUNS % 2**64)
        drawn = _mixed(self._keys[:, None] + (counter + np.arange(whole + 2, dtype=np.uint64)) * _GOLDEN)
        # The integer part of the runs is certain and the rest random: the mean is exact, and days differ little.
        extra = _fraction(drawn[:, whole + 1] >> np.uint64(43)) < appliance.runs - whole
        drawn = drawn[:, : whole + 1]
        column, run = np.nonzero((np.arange(whole + 1) < whole) | extra[:, None])
        which, start, length = (_fraction(drawn[column, run] >> np.uint64(shift)) for shift in (43, 22, 1))
        hours = np.array(appliance.hours)[(which * len(appliance.hours)).astype(np.int64)]
        per_hour = 3600 // SLOT_S
        begin = hours[:, 0] + (hours[:, 1] - hours[:, 0]) * start
        first = np.rint(midnight + begin * per_hour).astype(np.int64)
        shortest, longest = appliance.minutes
        slots = np.rint((shortest + (longest - shortest) * length) * per_hour / 60).astype(np.int64)
        energy = np.rint(appliance.power * self._average)
        return _Runs(column, first, first + slots, energy[column])


def _joined(runs: Sequence[_Runs]) -> _Runs:
    columns = zip(*((one.column, one.first, one.last, one.energy) for one in runs), strict=True)
    return _Runs(*(np.concatenate(column) for column in columns))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return random bits, the same for the same values (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _uniform(values: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each value."""
    return np.asarray((_mixed(values) >> np.uint64(11)) * 2.0**-53)


def _fraction(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the lowest 21 bits as a number in [0, 1)."""
    return np.asarray((bits & np.uint64(0x1FFFFF)) * 2.0**-21)


@lru_cache(maxsize=8)
def _shape(bumps: tuple[tuple[float, float, float], ...], slots: int) -> NDArray[np.float64]:
    """Return the steady part in the ``slots`` slots from each slot of a local day; a slot's mean is 1."""
    hours = np.arange(DAY_SLOTS) * SLOT_S / 3600
    course = np.ones(DAY_SLOTS)
    for height, hour, width in bumps:
        course += height * np.exp(-(((hours - hour) / width) ** 2))
    course /= course.mean()
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([course, course[:slots]]))])
    return course if slots == 1 else np.asarray(sums[slots : slots + DAY_SLOTS] - sums[:DAY_SLOTS])


@lru_cache(maxsize=8)
def _local_slots(day: int, timezone: str) -> NDArray[np.int64]:
    """Return the slot of the local day for each slot of a UTC day; clocks change on quarter-hours."""
    zone = ZoneInfo(timezone)
    offsets = []
    for time in range(day * DAY_S, (day + 1) * DAY_S, _QUARTER_S):
        offset = datetime.fromtimestamp(time, UTC).astimezone(zone).utcoffset() or timedelta()
        offsets.append(int(offset.total_seconds()) // SLOT_S)
    return np.asarray((np.arange(DAY_SLOTS) + np.repeat(offsets, _QUARTER_S // SLOT_S)) % DAY_SLOTS, dtype=np.int64)


@lru_cache(maxsize=16)
def _local_midnight(local_day: int, timezone: str) -> EpochSeconds:
    """Return the start of a local day, which is counted from 1970."""
    begin = _EPOCH + timedelta(days=local_day)
    return int(datetime(begin.year, begin.month, begin.day, tzinfo=ZoneInfo(timezone)).timestamp())


class Surroundings:
    """The sun and the loads of microgrids by step; without commands."""

    def __init__(self, town: Town, blocks: Sequence[Places], weather: Weather | None = None) -> None:
        """Take the town, its microgrids as arrays and, from a scenario, other weather."""
        self.blocks, self.seed = blocks, town.table.seed  # the microgrids, and what decides of chance
        self.weather = weather or Weather(town.table)  # the weather; it may be replaced between two steps
        self._loads = [
            Loads(
                [one for name in places.microgrids for one in consumers_of(town, town.microgrids[name])], places.step_s
            )
            for places in blocks
        ]

    def at(self, time: EpochSeconds) -> list[Inputs]:
        """Return the inputs of the step that starts at ``time``, one for each block."""
        inputs = []
        for places, loads in zip(self.blocks, self._loads, strict=True):
            # The mean of the temperatures at which its slots start.
            temperature = self.weather.temperature_c(time + (places.step_s - SLOT_S) // 2)
            load = loads.at(time, temperature).reshape(places.shape[0], -1)
            if places.sources:
                used, load = load, np.zeros(places.shape, dtype=np.int64)
                load[:, places.users] = used
            sun = self.weather.solar(time, places.step_s)
            inputs.append(Inputs(load=load, generation=places.generation(sun)))
        return inputs


def consumers_of(town: Town, microgrid: Microgrid) -> list[Consumer]:
    """Return the places of a microgrid that use energy, in their order, as the load model takes them."""
    return [
        Consumer(
            seed=town.table.seed,
            place=f"{microgrid.id}/{place.location}",
            function=place.incoming.function,
            average_w=average_w(town.table, place.incoming.function),
            timezone=town.table.timezone,
        )
        for place in places_of(microgrid)
        if place.incoming is not None
    ]
