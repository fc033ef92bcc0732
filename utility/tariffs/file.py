"""A tariff's file (TOML): keys and their form, settings of policies, and what its tables say together."""

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)

from commonwatt.config.settings import Zone
from commonwatt.model.calendar import END_YEAR, midnight, quarter_at
from commonwatt.model.units import Quarter


class _Part(BaseModel):
    """A part of a tariff's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Keys that later versions added: written only where they say something, so that the digests of older tariffs stay.
    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        silent = {key for key in self.later if getattr(self, key) == type(self).model_fields[key].default}
        return {key: value for key, value in write(self).items() if key not in silent}


class _Settings(_Part):
    base_of_part_month: Literal["by_quarter", "by_day", "whole"] = Field(
        "by_quarter",
        description="The base of an account that had its meters for a part of the month: `by_quarter`, the same part "
        "of the base; `by_day`, by days, each for the account that had a meter at its end; `whole`. With the first "
        "two, two accounts that follow each other in one place pay one base.",
    )
    vacant: Literal["town", "occupied"] = Field(
        "town",
        description="The credit of a place without an account: `town`, it stays with the town; `occupied`, the others "
        "get it. With the town, nobody's credit depends on the neighbours' moving.",
    )


class _PlacesSettings(_Settings):
    farm: Literal["import", "equal"] = Field(
        "import",
        description="The solar farm's credit goes to hospital, police and fire: `import`, by their import of the "
        "month; `equal`, in equal parts. The farm was built for their use, which their imports measure.",
    )


class SpecSettings(_PlacesSettings):
    """The specification's rule: max(0, base + import - credit)."""

    name: Literal["spec"]


class AcesSettings(_PlacesSettings):
    """The rule of ACES: credit at the price outside peak hours, and a base that falls and rises by a quarter."""

    name: Literal["aces"]
    off_peak: str = Field(description="The name of the period outside peak hours.")
    credit_price: Literal["import", "credit"] = Field(
        "import",
        description="The non-peak rate of the credit: `import`, the price of import in that period; `credit`, the "
        "tariff's price of credit in it. The source's table of rates has one rate for both.",
    )
    step_of: Literal["current", "initial"] = Field(
        "current",
        description="What 25% is a part of: the `current` base, or the `initial` one, which is the tariff's. The "
        "source speaks of the customer's base bill, which is the current one.",
    )
    zero_bill: Literal["keeps", "falls"] = Field(
        "keeps",
        description="The base after a bill of exactly zero: it `keeps` its value or `falls`. The source changes it "
        "after a negative or a positive bill.",
    )


class RangersSettings(_Settings):
    """The rule of Power RAnGeRS: import and credit at the regional price, the credit for the whole microgrid."""

    name: Literal["rangers"]
    import_by: Literal["own", "evenly"] = Field(
        "own",
        description="What a unit pays: its `own` import, or the microgrid's import `evenly` split. The source charges "
        "the microgrid and splits only its credit; each unit has a meter.",
    )


PolicySettings = Annotated[SpecSettings | AcesSettings | RangersSettings, Field(discriminator="name")]
"""The table ``[policy]`` of a tariff."""

POLICY_WORDS = {"spec": "the town's", "aces": "ACES", "rangers": "Rangers"}
"""Each policy's name for people."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")  # the kinds of days

_GROUPS = {"weekday": DAYS[:5], "weekend": DAYS[5:7], "every": DAYS}

_PRICE = re.compile(r"\d{1,4}(\.\d{1,6})?")


def _price(value: object) -> object:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError('must be text, such as "0.2150": a price has to be exact')
    if value.startswith("-"):
        raise ValueError("must not be negative")
    if not _PRICE.fullmatch(value):
        raise ValueError('must be an amount with at most six decimals, such as "0.2150"')
    return Decimal(value)


Price = Annotated[Decimal, BeforeValidator(_price), PlainSerializer(str)]  # dollars, written as text


def _clock(value: object) -> object:
    found = re.fullmatch(r"(\d\d):(\d\d)", value) if isinstance(value, str) else None
    minutes = int(found[1]) * 60 + int(found[2]) if found else -1
    if found is None or int(found[2]) > 59 or not 0 <= minutes <= 1440:
        raise ValueError('must be a time of the day as text, "00:00" to "24:00"')
    if minutes % 15:
        raise ValueError("must be on a quarter-hour: :00, :15, :30 or :45")
    return minutes // 15


def clock(quarter: int) -> str:
    """Return a time of the day, in quarter-hours since midnight, as text."""
    return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}"


Clock = Annotated[int, BeforeValidator(_clock), PlainSerializer(clock)]
"""A time of the day, in quarter-hours since midnight; in the file as text."""


def _day_of_year(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d\d-\d\d", value):
        try:
            date(2000, int(value[:2]), int(value[3:]))
        except ValueError as error:
            raise ValueError(f"there is no day {value}") from error
        return value
    raise ValueError('must be a day of the year as text, month first, such as "06-01"')


DayOfYear = Annotated[str, BeforeValidator(_day_of_year)]


def _days(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise ValueError(f"must be a list of: {', '.join((*_GROUPS, *DAYS))}")
    if unknown := [name for name in names if name not in _GROUPS and name not in DAYS]:
        raise ValueError(f"{unknown[0]!r} is no day; days are: {', '.join((*_GROUPS, *DAYS))}")
    wanted = {day for name in names for day in _GROUPS.get(name, (name,))}
    return [day for day in DAYS if day in wanted]


def _moment(value: object, info: ValidationInfo) -> object:
    zone = ZoneInfo(info.data.get("timezone", "America/New_York"))
    if isinstance(value, str):  # stored, or in quotation marks
        value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        quarter_at(value, zone)
        return value.isoformat()
    if isinstance(value, date):
        midnight(value, zone)
        return value.isoformat()
    raise ValueError("must be a date without quotation marks, such as 2026-10-01, or a date and time")


class _Table(_Part):
    model_config = ConfigDict(populate_by_name=True, allow_inf_nan=False)


class TariffTable(_Table):
    """The table ``[tariff]``."""

    later = frozenset({"corrects"})

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="Its name; each version has the same.")
    text: str = Field(min_length=1, max_length=200, description="What it is, for people.")
    timezone: Zone = Field("America/New_York", description="The time zone of its dates and times.")
    effective: Annotated[str, BeforeValidator(_moment)] = Field(
        description="The local date, or date and time, from which this version holds."
    )
    base: Price = Field(description="The base, dollars a month.")
    corrects: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only of a version that corrects published prices back in time: why, as households read it.",
    )


class Season(_Table):
    """A table ``[[season]]``."""

    name: str = Field(min_length=1, max_length=32, description="Its name.")
    from_: DayOfYear = Field(alias="from", description="Its first day.")
    until: DayOfYear = Field(description="The day after its last.")


class Holiday(_Table):
    """A table ``[[holiday]]``."""

    date: Annotated[str, BeforeValidator(lambda value: _date(value))] = Field(description="Its date.")
    name: str = Field(min_length=1, max_length=64, description="Its name.")


def _date(value: object) -> object:
    if isinstance(value, str):
        return date.fromisoformat(value).isoformat()
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise ValueError("must be a date without quotation marks, such as 2026-11-26")


class PricePeriod(_Table):
    """A table ``[[period]]``: a name and its prices."""

    name: str = Field(min_length=1, max_length=32, description="Its name, as bills show it.")
    import_: Price = Field(alias="import", description="The price of energy taken from the town, dollars per kWh.")
    credit: Price = Field(description="The price of energy given to the town, dollars per kWh.")


class Hours(_Table):
    """A table ``[[hours]]``: when a period is in force."""

    period: str = Field(description="The name of its period.")
    season: str | None = Field(None, description="The season; without it, the whole year.")
    days: Annotated[tuple[str, ...], BeforeValidator(_days)] = Field(
        description="`mon` to `sun`, `holiday`, `weekday` (mon to fri), `weekend`, `every` (all of them). A holiday is "
        "no other day."
    )
    from_: Clock = Field(alias="from", description="The local time at which it begins.")
    until: Clock = Field(description='The local time at which it ends; "24:00" is the end of the day.')


class Tax(_Table):
    """A table `[[tax]]`: a tax or levy, a line of its own on each bill."""

    name: str = Field(min_length=1, max_length=60, description="Its name, as bills show it.")
    percent: Price | None = Field(None, description="Percent of the amounts of the lines that it is on.")
    per_kwh: Price | None = Field(None, description="Or dollars per kWh taken from the town.")
    on: tuple[str, ...] = Field(
        ("base", "import"), max_length=12, description="With `percent`: `base`, `import`, and names of taxes above it."
    )
    credit: Literal["untaxed", "taxed"] = Field(
        "untaxed", description="With `percent`: `taxed`, credit lowers what it is on; never below zero."
    )


class BillTable(_Table):
    """The table `[bill]`: how bills are written."""

    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="The currency of all amounts, ISO 4217.")
    numbers: Literal["1,234.56", "1.234,56", "1 234,56", "1'234.56"] = Field(
        "1,234.56", description="How numbers are written."
    )
    language: Literal["en", "de", "es"] = Field(
        "en", description="The language of accounts that have none of their own."
    )


class Reminder(_Table):
    """A table `[[reminder]]`: a reminder of an overdue bill; the first one is the first reminder."""

    days: int = Field(ge=1, le=365, description="Days after the due date, or after the reminder before it.")
    fee: Price = Field(Decimal(0), decimal_places=2, description="What it costs the account, dollars.")


class TariffFile(_Table):
    """A tariff's file."""

    later = frozenset({"tax", "bill", "reminder"})

    tariff: TariffTable = Field(description="Name, date, base.")
    policy: PolicySettings = Field(description="The policy, and what its source leaves open.")
    season: tuple[Season, ...] = Field((), max_length=12, description="The seasons; without them, the whole year.")
    period: tuple[PricePeriod, ...] = Field(min_length=1, max_length=24, description="The prices.")
    hours: tuple[Hours, ...] = Field(min_length=1, max_length=400, description="When each period is in force.")
    holiday: tuple[Holiday, ...] = Field((), max_length=400, description="The holidays.")
    tax: tuple[Tax, ...] = Field((), max_length=12, description="Taxes and levies, in the order of their lines.")
    bill: BillTable | None = Field(None, description="Currency, numbers and language of bills.")
    reminder: tuple[Reminder, ...] = Field((), max_length=6, description="Reminders of overdue bills.")

    def canonical(self) -> dict[str, Any]:
        """Return the file's content as JSON can keep it; ``model_validate`` reads it again."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def effective(self) -> Quarter:
        """The first quarter of this version."""
        zone = ZoneInfo(self.tariff.timezone)
        text = self.tariff.effective
        if len(text) == 10:
            return midnight(date.fromisoformat(text), zone)
        return quarter_at(datetime.fromisoformat(text), zone)


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
    for number, day in enumerate(dates):
        if day in dates[:number]:
            yield ("holiday", number, "date"), f"{day} is there twice"


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
