"""Whether the hours of a tariff cover every quarter-hour of every day exactly once, and its other tables agree."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_calendar import END_YEAR
from utility.tariffs.file import DAYS, Hours, Season, TariffFile, clock
from utility.tariffs.policy_settings import AcesSettings, RangersSettings

DAY_QUARTERS = 96

Fault = tuple[tuple[str | int, ...], str]  # the keys of a fault in the file, and what is wrong
Table = NDArray[np.int8]  # the period's number by season, kind of day and quarter of the day; -1: none

_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEAR = [f"{month:02d}-{day:02d}" for month, days in enumerate(_MONTH_DAYS, 1) for day in range(1, days + 1)]
_PLACES = {day: place for place, day in enumerate(_YEAR)}


def faults(file: TariffFile) -> list[Fault]:
    """Return everything that the tables of a tariff say wrongly together, in the order of the file."""
    found = [*_begin(file), *_names(file), *_unknown(file), *_policy(file), *_taxes(file), *_season_faults(file.season)]
    if not found:
        found += _hours_faults(file)
    return found


def season_days(seasons: Sequence[Season]) -> list[int]:
    """Return the number of the season of each day of a year of 366 days; without seasons all are of number 0."""
    found = [0] * len(_YEAR)
    for number, season in enumerate(seasons):
        for place in _days_of(season):
            found[place] = number
    return found


def year_place(month: int, day: int) -> int:
    """Return the place of a date in ``season_days``."""
    return _PLACES[f"{month:02d}-{day:02d}"]


def table_of(file: TariffFile) -> Table:
    """Return the period of each quarter of each kind of day; of several hours the last is taken."""
    numbers = {period.name: number for number, period in enumerate(file.period)}
    table = np.full((max(1, len(file.season)), len(DAYS), DAY_QUARTERS), -1, np.int8)
    for each in file.hours:
        for season, day in _kinds(file, each):
            table[season, day, each.from_ : each.until] = numbers[each.period]
    return table


def _begin(file: TariffFile) -> Iterator[Fault]:
    if int(file.tariff.effective[:4]) >= END_YEAR:
        yield ("tariff", "effective"), f"must be before the year {END_YEAR}"


def _names(file: TariffFile) -> Iterator[Fault]:
    for key, tables in (("season", file.season), ("period", file.period)):
        names = [table.name for table in tables]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield (key, number, "name"), f"{name!r} is there twice"
    dates = [holiday.date for holiday in file.holiday]
    for number, date in enumerate(dates):
        if date in dates[:number]:
            yield ("holiday", number, "date"), f"{date} is there twice"


def _unknown(file: TariffFile) -> Iterator[Fault]:
    periods, seasons = [each.name for each in file.period], [each.name for each in file.season]
    for number, each in enumerate(file.hours):
        if each.period not in periods:
            yield ("hours", number, "period"), f"unknown period {each.period!r}; periods are: {', '.join(periods)}"
        if each.season is not None and each.season not in seasons:
            known = ", ".join(seasons) or "none"
            yield ("hours", number, "season"), f"unknown season {each.season!r}; seasons are: {known}"
        if each.from_ >= each.until:
            yield ("hours", number, "until"), "must be after `from`; split hours over midnight at 24:00"


def _policy(file: TariffFile) -> Iterator[Fault]:
    match file.policy:
        case AcesSettings(off_peak=name) if name not in [each.name for each in file.period]:
            yield ("policy", "off_peak"), f"unknown period {name!r}"
        case RangersSettings():
            for number, period in enumerate(file.period):
                if period.import_ != period.credit:
                    yield (
                        ("period", number, "credit"),
                        f"must be {period.import_}, the price of import: `rangers` has the regional price for both",
                    )


def _taxes(file: TariffFile) -> Iterator[Fault]:
    known = ["base", "import"]
    for number, tax in enumerate(file.tax):
        given = tax.model_dump(exclude_defaults=True).keys()
        if len({"percent", "per_kwh"} & given) != 1 or ("per_kwh" in given and {"on", "credit"} & given):
            yield ("tax", number), f"{tax.name!r} needs `percent`, and may have `on` and `credit`; or `per_kwh` alone"
        for name in tax.on:
            if name not in known or tax.on.count(name) > 1:
                yield ("tax", number, "on"), f"{name!r} must be one of these, once: {', '.join(known)}"
        if tax.name in known:
            yield ("tax", number, "name"), f"{tax.name!r} is there twice, or names other lines"
        known.append(tax.name)


def _season_faults(seasons: Sequence[Season]) -> Iterator[Fault]:
    if not seasons:
        return
    owner: dict[int, int] = {}
    for number, season in enumerate(seasons):
        days = _days_of(season)
        taken = [place for place in days if place in owner]
        if taken:
            other = seasons[owner[taken[0]]].name
            yield ("season", number, "from"), f"overlaps season {other!r} on {_YEAR[taken[0]]}"
        owner |= {place: number for place in days if place not in owner}
    if holes := [day for place, day in enumerate(_YEAR) if place not in owner]:
        yield ("season",), f"no season on {holes[0]}" + (f" and {len(holes) - 1} more days" if holes[1:] else "")


def _days_of(season: Season) -> list[int]:
    first, until = _PLACES[season.from_], _PLACES[season.until]
    length = (until - first) % len(_YEAR) or len(_YEAR)
    return [(first + n) % len(_YEAR) for n in range(length)]


def _kinds(file: TariffFile, hours: Hours) -> list[tuple[int, int]]:
    """Return the seasons and kinds of days of hours, as numbers."""
    names = [season.name for season in file.season]
    seasons = range(max(1, len(names))) if hours.season is None else [names.index(hours.season)]
    return [(season, DAYS.index(day)) for season in seasons for day in hours.days]


def _hours_faults(file: TariffFile) -> Iterator[Fault]:
    """Yield holes and overlaps, each once for all kinds of days that have it."""
    owners = np.full((max(1, len(file.season)), len(DAYS), DAY_QUARTERS), -1, np.int16)
    clashes: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
    for number, each in enumerate(file.hours):
        for season, day in _kinds(file, each):
            row = owners[season, day]
            for begin, end, other in _runs(row, each.from_, each.until):
                if other >= 0:
                    clashes.setdefault((number, other, begin, end), []).append((season, day))
            row[each.from_ : each.until] = number
    for (number, other, begin, end), kinds in clashes.items():
        where = _words(file, kinds)
        yield ("hours", number, "from"), f"overlaps hours.{other} from {clock(begin)} to {clock(end)} {where}"
    holes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for season, day in np.ndindex(owners.shape[:2]):
        for begin, end, owner in _runs(owners[season, day], 0, DAY_QUARTERS):
            if owner < 0:
                holes.setdefault((begin, end), []).append((season, day))
    for (begin, end), kinds in holes.items():
        yield ("hours",), f"no period from {clock(begin)} to {clock(end)} {_words(file, kinds)}"


def _runs(row: NDArray[np.int16], first: int, until: int) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end and value of each run of equal values in a part of a row."""
    for value, places in groupby(range(first, until), key=lambda place: int(row[place])):
        run = list(places)
        yield run[0], run[-1] + 1, value


def _words(file: TariffFile, kinds: Sequence[tuple[int, int]]) -> str:
    """Return seasons and days for people."""
    by_season: dict[int, list[str]] = {}
    for season, day in kinds:
        by_season.setdefault(season, []).append(DAYS[day])
    return "; ".join(
        f"on {', '.join(days)}" + (f" in {file.season[season].name}" if file.season else "")
        for season, days in by_season.items()
    )
