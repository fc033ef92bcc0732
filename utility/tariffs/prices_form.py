"""The form of a tariff: its prices and the week's hours as a person types and paints them, and its TOML (pure)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from commonwatt.config.files import parse_toml, toml_table
from commonwatt.model.exceptions import ConfigError
from utility.tariffs.file import DAYS, TariffFile, faults, table_of

HOURS = 24
MOST_PERIODS = 6  # prices that the form has colours for
_WEEK = HOURS * len(DAYS)  # characters of a season's week
_HOUR_QUARTERS = 4
_WHOLE_DATE = 10  # characters of a date without a time

_WORDS = {
    "effective": "must be a date",
    "text": "needs 1 to 200 characters",
    "base": "must be an amount with at most six decimals, such as 12.00",
    "corrects": "needs at most 200 characters",
    "import": "must be an amount with at most six decimals, such as 0.2150",
    "credit": "must be an amount with at most six decimals, such as 0.1050",
    "name": "needs 1 to 32 characters",
    "from": "must be month and day, such as 06-01",
    "until": "must be month and day, such as 10-01",
}
"""What is wrong with a field whose form is wrong, by its key in the file."""

Texts = Annotated[list[str], Field(max_length=12)]
Faults = dict[str, str]  # what is wrong, by the field's id on the page; "": elsewhere in the tariff


class PricesForm(BaseModel):
    """What a person types; the fields of a list are those of its rows."""

    model_config = ConfigDict(frozen=True)

    text: str = ""  # what the tariff is, for people
    effective: str = ""  # the date from which it holds
    base: str = ""  # dollars a month
    corrects: str = ""  # of a correction back in time: why, as households read it
    name: Texts = []  # of the periods; a row without any text is none
    import_price: Texts = []  # dollars per kWh
    credit: Texts = []  # dollars per kWh
    season: Texts = []  # names of the seasons; none: the whole year
    season_from: Texts = []  # their first days
    season_until: Texts = []  # the days after their last
    week: Texts = []  # of each season the row of the period (from 1) of each hour: its kinds of days one after another
    holidays: str = Field("", max_length=40_000)  # a line each: date and name


@dataclass(frozen=True, kw_only=True)
class Written:
    """A form as a tariff's text."""

    text: str  # the TOML
    faults: Faults  # what is wrong with it


def beyond(file: TariffFile) -> list[str]:
    """Return what a tariff has that the form can't show, in words; none: the form shows all of it."""
    found = []
    if len(file.period) > MOST_PERIODS:
        found.append(f"it has more than {MOST_PERIODS} prices")
    if len(file.tariff.effective) > _WHOLE_DATE:
        found.append("it begins at a time of the day")
    hours = table_of(file).reshape(-1, HOURS, _HOUR_QUARTERS)
    if (hours != hours[:, :, :1]).any():
        found.append("a price changes within an hour")
    return found


def form_of(file: TariffFile) -> PricesForm:
    """Return the form of a tariff that has nothing ``beyond`` it."""
    hours = table_of(file)[:, :, ::_HOUR_QUARTERS] + 1
    return PricesForm(
        text=file.tariff.text,
        effective=file.tariff.effective,
        base=str(file.tariff.base),
        corrects=file.tariff.corrects or "",
        name=[each.name for each in file.period],
        import_price=[str(each.import_) for each in file.period],
        credit=[str(each.credit) for each in file.period],
        season=[each.name for each in file.season],
        season_from=[each.from_ for each in file.season],
        season_until=[each.until for each in file.season],
        week=["".join(map(str, season.T.ravel())) for season in hours],
        holidays="\n".join(f"{each.date} {each.name}" for each in file.holiday),
    )


def source_of(file: TariffFile) -> str:
    """Return the text of a tariff that has nothing ``beyond`` the form, as the form writes it."""
    kept = file.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return written(form_of(file), {**kept, "tariff": file.canonical()["tariff"]}).text


def kept_of(source: str) -> dict[str, Any]:
    """Return the tables of the text that a form began with.

    Raises:
        ConfigError: It is not TOML, or no tariff's.
    """
    tables = parse_toml("", source)
    if not all(isinstance(tables.get(name), dict) for name in ("tariff", "policy")):
        raise ConfigError("the text that the form began with is no tariff: begin again")
    return tables


def written(form: PricesForm, kept: Mapping[str, Any]) -> Written:
    """Return a form's TOML with what is wrong with it.

    Args:
        form: What a person typed.
        kept: The tables of the tariff that the form began with: name, time zone, policy and taxes are those.

    Raises:
        ConfigError: A season or a week of the page is not whole, so that the page could not be shown again.
    """
    lengths = {len(form.season), len(form.season_from), len(form.season_until)}
    if len(lengths) > 1 or len(form.week) > max(1, *lengths) or {len(each) for each in form.week} - {_WEEK}:
        raise ConfigError("a season or a week of the page was not sent whole: open the page again")
    rows = [n for n, texts in enumerate(zip(form.name, form.import_price, form.credit, strict=False)) if any(texts)]
    tables = _tables(form, kept, rows)
    text = "\n".join(_toml(tables))
    found = _own_faults(form, rows)
    try:
        file = TariffFile.model_validate(tables)
    except ValidationError as error:
        for fault in error.errors():
            place, words = _fault(fault["loc"], rows)
            has_comma = words.startswith("must be an amount") and "," in str(fault["input"])
            found.setdefault(place, "has a comma: write a point before the decimals" if has_comma else words)
        return Written(text=text, faults=found)
    for keys, words in faults(file):
        place, general = _fault(keys, rows)
        found.setdefault(place, words if keys[0] in ("tariff", "season", "period", "holiday") else general)
    return Written(text=text, faults=found)


def _tables(form: PricesForm, kept: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    seasons = zip(form.season, form.season_from, form.season_until, strict=False)
    holidays = [line.strip().partition(" ") for line in form.holidays.splitlines() if line.strip()]
    head = {"text": form.text, "effective": _date(form.effective), "base": form.base, "corrects": form.corrects}
    # Tables that the form does not edit stay as they are, each that a tariff has or will have.
    tables = dict(kept) | {
        "tariff": {key: value for key, value in (kept["tariff"] | head).items() if value or key != "corrects"},
        "season": [{"name": name, "from": first, "until": until} for name, first, until in seasons],
        "period": [{"name": form.name[n], "import": form.import_price[n], "credit": form.credit[n]} for n in rows],
        "hours": list(_hours(form)),
        "holiday": [{"date": _date(day), "name": name.strip()} for day, _, name in holidays],
    }
    return {name: tables[name] for name in TariffFile.model_fields if name in tables}


def _hours(form: PricesForm) -> Iterator[dict[str, Any]]:
    """Yield the hours: days alike together, and seasons alike as the whole year."""
    found: dict[tuple[str, int, int], list[tuple[str, ...]]] = {}
    for place, week in enumerate(form.week):
        for key, some in _runs(week).items():
            found.setdefault(key, [()] * len(form.week))[place] = tuple(some)
    for (row, begin, end), by_season in found.items():
        is_same = len(set(by_season)) == 1
        for place, days in enumerate(by_season[:1] if is_same else by_season):
            if days:
                name = form.name[int(row) - 1] if row.isdecimal() and 0 < int(row) <= len(form.name) else ""
                season = {} if is_same or place >= len(form.season) else {"season": form.season[place]}
                times = {"from": f"{begin:02d}:00", "until": f"{end:02d}:00"}
                yield {"period": name, **season, "days": _day_words(days), **times}


def _runs(week: str) -> dict[tuple[str, int, int], list[str]]:
    """Return the days that have a period from an hour to another one, by its row and these hours."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for place, day in enumerate(DAYS):
        by_hour = week[place :: len(DAYS)][:HOURS]
        for row, hours in groupby(range(len(by_hour)), key=by_hour.__getitem__):
            run = list(hours)
            found.setdefault((row, run[0], run[-1] + 1), []).append(day)
    return found


def _day_words(days: tuple[str, ...]) -> list[str]:
    if days == DAYS:
        return ["every"]
    left = list(days)
    words = []
    for word, some in (("weekday", DAYS[:5]), ("weekend", DAYS[5:7])):
        if set(some) <= set(left):
            words.append(word)
            left = [day for day in left if day not in some]
    return [*words, *left]


def _own_faults(form: PricesForm, rows: list[int]) -> Faults:
    """Return what the tables can't say: hours whose price was removed, and lines that are no holidays."""
    known = {str(n + 1) for n in rows}
    found = {}
    for place, week in enumerate(form.week):
        if lost := sum(cell not in known for cell in week):
            found[f"week-{place}"] = f"{lost} hours have a price that was removed; paint them with another one"
    for number, line in enumerate(form.holidays.splitlines(), 1):
        day, _, name = line.strip().partition(" ")
        if line.strip() and (isinstance(_date(day), str) or not name.strip()):
            found["holidays"] = f"line {number} must be a date and a name, such as 2026-12-25 Christmas Day"
    return found


def _fault(keys: tuple[str | int, ...], rows: list[int]) -> tuple[str, str]:
    """Return the id of the field of a key in the file, and what is wrong if the field's form is."""
    words = _WORDS.get(str(keys[-1] if keys else ""), "is wrong")
    match keys:
        case ("tariff", "effective" | "text" | "base" | "corrects" as name, *_):
            return str(name), words
        case ("period", int(n), "name" | "import" | "credit" as name, *_) if n < len(rows):
            return f"{name}-{rows[n]}", words
        case ("period", *_):
            return "name-0", "there must be a price"
        case ("season", int(n), "name" | "from" | "until" as name, *_):
            return f"season-{name}-{n}", words
        case ("season", *_):
            return "season-from-0", words
        case ("holiday", *_):
            return "holidays", "each line must be a date and a name of at most 64 characters, once"
        case ("hours", *_):
            return "week-0", "the week needs a price in each hour"
    return "", "The policy or the name in the text does not fit these prices; see the text"


def _date(text: str) -> date | str:
    """Return a date, or the text if it is none."""
    try:
        return date.fromisoformat(text) if len(text) == _WHOLE_DATE else text
    except ValueError:
        return text


def _toml(tables: Mapping[str, Any]) -> Iterator[str]:
    for name, content in tables.items():
        for table in content if isinstance(content, list) else [content]:
            yield toml_table(f"[[{name}]]" if isinstance(content, list) else f"[{name}]", table)
