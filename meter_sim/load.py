"""The load of places: a steady part, appliances that switch on and off, and heating and cooling (T1-T3).

Each place's habits come from the town's seed: no two places are alike, and each has its configured average.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.town.town import Function
from meter_sim.sun import DAY_S, DAY_SLOTS
from meter_sim.weather import chance, seed_of

COMFORT_C = 18.0
"""Outdoor temperature without heating or cooling, degrees Celsius."""

MEAN_STRESS_C = 9.86
"""The year's mean distance of ``Weather.temperature_c`` from comfort, degrees; a test compares it with the curve."""

_NOISE = 0.02
_MWH_PER_W = 1000 * SLOT_S / 3600
"""Milliwatt-hours that one watt uses in a slot."""
_QUARTER_S = 900
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class _Appliance:
    """An appliance that switches on and off.

    Attributes:
        share: Its part of the place's average use.
        power: What it draws when on, as a multiple of the place's average use.
        minutes: Shortest and longest run.
        hours: Local hours between which a run starts; one pair is drawn for each run.
    """

    share: float
    power: float
    minutes: tuple[int, int]
    hours: tuple[tuple[float, float], ...] = ((0.0, 24.0),)

    @property
    def runs(self) -> float:
        """Runs a day with which it has its share on average."""
        return self.share * 24 / (self.power * sum(self.minutes) / 2 / 60)


@dataclass(frozen=True, kw_only=True)
class _Habits:
    """How a kind of place uses its energy; the steady part is the rest besides temperature and appliances.

    Attributes:
        temperature: Least and greatest share of heating and cooling.
        bumps: Peaks of the steady part over a floor of 1: height, local hour and width in hours.
        appliances: The appliances.
    """

    temperature: tuple[float, float]
    bumps: tuple[tuple[float, float, float], ...]
    appliances: tuple[_Appliance, ...]


_HOME = _Habits(
    temperature=(0.10, 0.25),
    bumps=((1.2, 7.3, 1.3), (2.0, 19.5, 2.4)),
    appliances=(
        _Appliance(share=0.04, power=0.125, minutes=(12, 20)),  # refrigerator
        _Appliance(share=0.14, power=3.5, minutes=(6, 18), hours=((6, 9), (18, 23))),  # hot water
        _Appliance(share=0.09, power=2.0, minutes=(15, 50), hours=((6.5, 8), (11.5, 13), (17, 19.5))),  # cooking
        _Appliance(share=0.02, power=1.6, minutes=(3, 5), hours=((6, 9), (12, 17), (19, 22))),  # kettle
        _Appliance(share=0.04, power=1.2, minutes=(60, 100), hours=((19, 22),)),  # dishwasher
        _Appliance(share=0.06, power=2.0, minutes=(35, 80), hours=((8, 11), (17, 21))),  # laundry
    ),
)

_SERVICE = _Habits(
    temperature=(0.10, 0.20),
    bumps=((0.6, 12.5, 4.5),),
    appliances=(
        _Appliance(share=0.06, power=0.10, minutes=(20, 60), hours=((7, 19),)),  # kitchens, laundry
        _Appliance(share=0.08, power=0.15, minutes=(10, 40)),  # machines, doors, compressors
    ),
)


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A place that uses energy.

    Attributes:
        seed: The town's seed.
        place: Its name, unique in the town.
        function: Its function, which decides its habits.
        average_w: Its mean load over a year, watts.
        timezone: Time zone of its local hours.
    """

    seed: int
    place: str
    function: Function
    average_w: int
    timezone: str

    @property
    def habits(self) -> _Habits:
        """The habits of its function."""
        return _HOME if self.function in (Function.HOUSE, Function.APARTMENT) else _SERVICE

    @property
    def temperature_share(self) -> float:
        """The share of heating and cooling in its load, mean over a year."""
        least, greatest = self.habits.temperature
        return least + (greatest - least) * chance(self.seed, self.place, "temperature")


class Loads:
    """The loads of a list of places by slot; keeps one UTC day in memory, 23 kB a place."""

    def __init__(self, consumers: tuple[Consumer, ...]) -> None:
        self._consumers = consumers
        shares = [consumer.average_w * consumer.temperature_share for consumer in consumers]
        self._per_degree = np.array(shares, dtype=np.float64) * _MWH_PER_W / MEAN_STRESS_C
        self._day = -1
        self._slots = np.zeros((DAY_SLOTS, len(consumers)), dtype=np.int32)

    def at(self, time: EpochSeconds, temperature: float) -> list[MilliwattHours]:
        """Return each place's load in the slot that starts at ``time``, at a temperature in degrees Celsius."""
        day = time // DAY_S
        if day != self._day:
            for column, consumer in enumerate(self._consumers):
                self._slots[:, column] = day_mwh(consumer, day)
            self._day = day
        stress = np.rint(self._per_degree * abs(temperature - COMFORT_C)).astype(np.int64)
        total: list[int] = (self._slots[time % DAY_S // SLOT_S] + stress).tolist()
        return total


def load_mwh(consumer: Consumer, time: EpochSeconds, temperature: float) -> MilliwattHours:
    """Return one place's load in the slot that starts at ``time``; ``Loads`` is faster for many slots or places."""
    return Loads((consumer,)).at(time, temperature)[0]


def day_mwh(consumer: Consumer, day: int) -> NDArray[np.int32]:
    """Return a place's load without heating and cooling in each slot of a UTC day, milliwatt-hours."""
    habits = consumer.habits
    steady = 1 - consumer.temperature_share - sum(appliance.share for appliance in habits.appliances)
    shift = int((chance(consumer.seed, consumer.place, "shift") - 0.5) * 2 * 3600 / SLOT_S)
    shape = _shape(habits.bumps)[(_local_slots(day, consumer.timezone) + shift) % DAY_SLOTS]
    noise = np.random.default_rng(seed_of(consumer.seed, consumer.place, "noise", day)).random(DAY_SLOTS)
    power = steady * shape * (1 + _NOISE * (2 * noise - 1))
    # Runs belong to local days: the runs within a UTC day start in the same or a neighbouring local day.
    for local_day in range(day - 1, day + 2):
        _add_runs(power, consumer, day, local_day)
    return np.rint(power * (consumer.average_w * _MWH_PER_W)).astype(np.int32)


def _add_runs(power: NDArray[np.float64], consumer: Consumer, day: int, local_day: int) -> None:
    """Add to a UTC day's slots the appliance runs that start in a local day."""
    midnight = (_local_midnight(local_day, consumer.timezone) - day * DAY_S) / SLOT_S
    draws = np.random.default_rng(seed_of(consumer.seed, consumer.place, "runs", local_day))
    per_hour = 3600 // SLOT_S
    for appliance in consumer.habits.appliances:
        # The integer part of the runs is certain and the rest random: the mean is exact, and days differ little.
        count = int(appliance.runs + draws.random())
        shortest, longest = appliance.minutes
        for which, start, length in draws.random((count, 3)).tolist():
            begin, end = appliance.hours[int(which * len(appliance.hours))]
            first = round(midnight + (begin + (end - begin) * start) * per_hour)
            last = first + round((shortest + (longest - shortest) * length) * per_hour / 60)
            if last > 0:
                power[max(first, 0) : last] += appliance.power


@lru_cache(maxsize=8)
def _shape(bumps: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    """Return the steady part in each slot of a local day, with a mean of 1."""
    hours = np.arange(DAY_SLOTS) * SLOT_S / 3600
    course = np.ones(DAY_SLOTS)
    for height, hour, width in bumps:
        course += height * np.exp(-(((hours - hour) / width) ** 2))
    return np.asarray(course / course.mean())


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
