"""A version of a tariff: prices, the period of each quarter-hour, and what controllers receive of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.config.files import check_table, parse_toml, place_in, read_text
from commonwatt.model.calendar import Quarters, month_after, month_quarters, to_local
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from commonwatt.protocol.controller_commands import MAX_CHANGES
from utility.tariffs.file import (
    DAY_QUARTERS,
    DAYS,
    PolicySettings,
    PricePeriod,
    TariffFile,
    clock,
    faults,
    season_days,
    table_of,
    year_place,
)

_HOLIDAY = DAYS.index("holiday")
_EPOCH = date(1970, 1, 1)
_THURSDAY = 3


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """A version of a tariff."""

    file: TariffFile = field(repr=False)  # its checked content
    version: int  # its version, from 1; 0: a file that is not stored
    effective: Quarter  # its first quarter

    @property
    def name(self) -> str:
        """Its name."""
        return self.file.tariff.name

    @property
    def base(self) -> Decimal:
        """The base, dollars a month."""
        return self.file.tariff.base

    @property
    def prices(self) -> tuple[PricePeriod, ...]:
        """The periods with their prices."""
        return self.file.period

    @property
    def policy(self) -> PolicySettings:
        """The settings of its policy."""
        return self.file.policy

    @cached_property
    def label(self) -> str:
        """Name and version, as bills show them."""
        return f"{self.name} v{self.version}"

    @cached_property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.file.tariff.timezone)

    @cached_property
    def _year(self) -> Quarters:
        return np.array(season_days(self.file.season), np.int64)

    @cached_property
    def _table(self) -> Quarters:
        return table_of(self.file).astype(np.int64)

    @cached_property
    def _holidays(self) -> Quarters:
        return np.array([(date.fromisoformat(each.date) - _EPOCH).days for each in self.file.holiday], np.int64)

    def periods_of(self, quarters: Quarters) -> Quarters:
        """Return the number of the period of each quarter, whether this version is in force then or not."""
        local = to_local(quarters, self.zone)
        days, places = local // DAY_QUARTERS, local % DAY_QUARTERS
        every, at = np.unique(days, return_inverse=True)
        kinds = np.where(np.isin(every, self._holidays), _HOLIDAY, (every + _THURSDAY) % 7)
        dates = [_EPOCH + timedelta(days=int(day)) for day in every]
        seasons = self._year[[year_place(day.month, day.day) for day in dates]]
        return np.asarray(self._table[seasons[at], kinds[at], places], np.int64)

    def canonical(self) -> str:
        """Return its content as JSON, the same text for the same content."""
        return json.dumps(self.file.canonical() | {"version": self.version}, sort_keys=True, separators=(",", ":"))

    def notes(self) -> list[str]:
        """Return what a person may not expect of a good tariff: hours that the change of the clocks skips."""
        year = datetime.fromtimestamp(self.effective * QUARTER_S, UTC).year
        skipped = _skipped(self.zone, year) | _skipped(self.zone, year + 1)
        found = []
        for number, hours in enumerate(self.file.hours):
            for day, (begin, end) in sorted(skipped.items()):
                if DAYS[day.weekday()] in hours.days and (begin < hours.from_ < end or begin < hours.until < end):
                    times = f"{clock(hours.from_)} to {clock(hours.until)}"
                    found.append(f"hours.{number}: {times}: on {day} the clocks skip {clock(begin)} to {clock(end)}")
        return found


def _skipped(zone: ZoneInfo, year: int) -> dict[date, tuple[int, int]]:
    """Return the local quarters that the clocks skip in a year, by day."""
    found = {}
    day = date(year, 1, 1)
    while day.year == year:
        noons = [datetime(d.year, d.month, d.day, 12, tzinfo=zone) for d in (day - timedelta(days=1), day)]
        before, after = ((noon.utcoffset() or timedelta()).total_seconds() for noon in noons)
        if after > before:
            lost = int(after - before) // QUARTER_S
            places = [n for n in range(DAY_QUARTERS) if not _exists(day, n, zone)]
            if places:
                found[day] = (places[0], places[0] + lost)
        day += timedelta(days=1)
    return found


def _exists(day: date, place: int, zone: ZoneInfo) -> bool:
    time = datetime(day.year, day.month, day.day, place // 4, place % 4 * 15, tzinfo=zone)
    return time.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == time.replace(tzinfo=None)


def tariff_of(content: str) -> Tariff:
    """Return the tariff that ``canonical`` wrote."""
    table = json.loads(content)
    version = table.pop("version", 0)
    file = TariffFile.model_validate(table)
    return Tariff(file=file, version=version, effective=file.effective)


def read_tariff(path: Path) -> Tariff:
    """Read and check a tariff's file.

    Raises:
        ConfigError: A line for each fault, with file, line and key.
    """
    return parse_tariff(read_text(path), str(path))


def parse_tariff(text: str, name: str = "") -> Tariff:
    """Check a tariff's TOML.

    Args:
        text: The TOML.
        name: Its file's name, for errors; empty: it has none.

    Raises:
        ConfigError: A line for each fault, with name, line and key.
    """
    place = partial(place_in, name, text)
    file = check_table(place, TariffFile, parse_toml(name, text))
    if found := faults(file):
        raise ConfigError("\n".join(f"{place(*keys)}: {fault}" for keys, fault in found))
    return Tariff(file=file, version=0, effective=file.effective)


def in_force(versions: Sequence[Tariff], quarter: Quarter) -> Tariff | None:
    """Return the version of one tariff that is in force in a quarter: the newest of those that began."""
    begun = [tariff for tariff in versions if tariff.effective <= quarter]
    return max(begun, key=lambda tariff: (tariff.effective, tariff.version), default=None)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rates of a tariff, for a controller, as the command has them."""

    tariff: str  # its name
    version: int  # the newest version that holds in the time sent
    prices: list[tuple[str, str, str]]  # period, price of import, price of credit
    changes: list[tuple[EpochSeconds, int]]  # from when which place in ``prices`` holds
    rates_until: EpochSeconds  # the end of the time sent


def rates_of(versions: Sequence[Tariff], month: str, zone: ZoneInfo) -> Rates | None:
    """Return the rates of a tariff from the start of a local month to the end of the next one.

    A tariff that changes more than ``MAX_CHANGES`` times in it is sent until its next change after so many.
    ``None``: no version holds in that time.

    Args:
        versions: The published versions of one name.
    """
    first, until = month_quarters(month, zone)[0], month_quarters(month_after(month), zone)[1]
    prices: list[tuple[str, str, str]] = []
    changes: list[tuple[EpochSeconds, int]] = []
    for quarter, price in prices_in(versions, first, until):
        row = price.name, str(price.import_), str(price.credit)
        if row not in prices:
            prices.append(row)
        if not changes or changes[-1][1] != prices.index(row):
            changes.append((quarter * QUARTER_S, prices.index(row)))
    starts = {first, *(tariff.effective for tariff in versions if first < tariff.effective < until)}
    held = [tariff.version for start in starts if (tariff := in_force(versions, start)) is not None]
    if not held:
        return None
    told_until = until * QUARTER_S if len(changes) <= MAX_CHANGES else changes[MAX_CHANGES][0]
    return Rates(
        tariff=versions[0].name,
        version=max(held),
        prices=prices,
        changes=changes[:MAX_CHANGES],
        rates_until=told_until,
    )


def prices_in(versions: Sequence[Tariff], first: Quarter, until: Quarter) -> list[tuple[Quarter, PricePeriod]]:
    """Return the quarters in ``[first, until)`` from which another price of a tariff may hold, each with the price.

    Args:
        versions: The published versions of one name; before the first of them no price holds.
    """
    begins = sorted({first, *(tariff.effective for tariff in versions if first < tariff.effective < until)})
    found = []
    for begin, end in zip(begins, [*begins[1:], until], strict=True):
        tariff = in_force(versions, begin)
        if tariff is not None:
            found += [(quarter, tariff.prices[period]) for quarter, period in _changes(tariff, begin, end)]
    return found


def _changes(tariff: Tariff, begin: Quarter, end: Quarter) -> list[tuple[Quarter, int]]:
    """Return the quarters from which another period holds, the first one included."""
    periods = tariff.periods_of(np.arange(begin, end))
    places = [0, *(np.flatnonzero(np.diff(periods)) + 1).tolist()]
    return [(begin + place, int(periods[place])) for place in places]
