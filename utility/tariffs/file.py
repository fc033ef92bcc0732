"""A tariff's file (TOML): its keys and their form. What its tables say together is checked in ``week``."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo

from commonwatt.config.settings import Zone
from commonwatt.model.time.local_calendar import midnight, quarter_at
from commonwatt.model.units import Quarter
from utility.tariffs.policy_settings import PolicySettings

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
        raise ValueError('must be dollars with at most six decimals, such as "0.2150"')
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


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class TariffTable(_Table):
    """The table ``[tariff]``."""

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


class Period(_Table):
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


_FIRST_TABLES = ("tariff", "policy", "season", "period", "hours", "holiday")  # of the first version of a tariff's file


class TariffFile(_Table):
    """A tariff's file."""

    tariff: TariffTable = Field(description="Name, date, base.")
    policy: PolicySettings = Field(description="The policy, and what its source leaves open.")
    season: tuple[Season, ...] = Field((), max_length=12, description="The seasons; without them, the whole year.")
    period: tuple[Period, ...] = Field(min_length=1, max_length=24, description="The prices.")
    hours: tuple[Hours, ...] = Field(min_length=1, max_length=400, description="When each period is in force.")
    holiday: tuple[Holiday, ...] = Field((), max_length=400, description="The holidays.")
    tax: tuple[Tax, ...] = Field((), max_length=12, description="Taxes and levies, in the order of their lines.")
    bill: BillTable | None = Field(None, description="Currency, numbers and language of bills.")
    reminder: tuple[Reminder, ...] = Field((), max_length=6, description="Reminders of overdue bills.")

    def canonical(self) -> dict[str, Any]:
        """Return the file's content as JSON can keep it; ``model_validate`` reads it again."""
        # What later versions added is left out where it says nothing: the digests of older tariffs stay.
        found = self.model_dump(mode="json", by_alias=True)
        found = {key: value for key, value in found.items() if value or key in _FIRST_TABLES}
        found["tariff"] = {key: value for key, value in found["tariff"].items() if value or key != "corrects"}
        return found

    @property
    def effective(self) -> Quarter:
        """The first quarter of this version."""
        zone = ZoneInfo(self.tariff.timezone)
        text = self.tariff.effective
        if len(text) == 10:
            return midnight(date.fromisoformat(text), zone)
        return quarter_at(datetime.fromisoformat(text), zone)
