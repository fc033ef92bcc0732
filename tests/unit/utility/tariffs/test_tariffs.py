"""Tariffs: every error with its place; periods by local time, weekday, season and holiday; days of 23 and 25 hours."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import month_before, month_quarters, quarter_at
from harness.billing.plain import Plain
from harness.billing.worlds import random_world
from utility.tariffs.tariff import Tariff, read_tariff, tariff_of

EXAMPLE = Path(__file__).parents[4] / "docs/examples/tariff.toml"
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(name="example")
def _example() -> Tariff:
    return replace(read_tariff(EXAMPLE), version=1)


@pytest.mark.parametrize(("month", "quarters"), [("2026-10", 2976), ("2026-11", 2884), ("2027-03", 2972)])
def test_month_has_as_many_quarters_as_its_days_have(example: Tariff, month: str, quarters: int) -> None:  # req: U2
    first, until = month_quarters(month, NEW_YORK)
    assert until - first == quarters
    assert example.periods_of(np.arange(first, until)).min() == 0, "each quarter has a period"
    assert month_before("2026-01") == "2025-12"
    assert month_before("2026-11") == "2026-10"


@pytest.mark.parametrize(
    ("time", "period"),
    [
        ("2026-10-05T20:00+00:00", "peak"),  # Monday 4 pm
        ("2026-10-05T19:45+00:00", "off-peak"),
        ("2026-10-06T01:00+00:00", "off-peak"),  # 9 pm
        ("2026-11-02T21:00+00:00", "peak"),  # 4 pm after the clocks changed
        ("2026-11-26T21:00+00:00", "off-peak"),  # Thanksgiving, a Thursday
        ("2026-07-06T19:00+00:00", "peak"),  # 3 pm in summer
        ("2026-07-04T19:00+00:00", "off-peak"),  # Saturday
        ("2026-05-29T19:00+00:00", "off-peak"),  # the last working day before summer
        ("2026-06-01T19:00+00:00", "peak"),
        ("2026-09-30T19:00+00:00", "peak"),  # the last day of summer
        ("2026-10-01T19:00+00:00", "off-peak"),
    ],
)
def test_period_follows_local_time_season_and_holidays(example: Tariff, time: str, period: str) -> None:
    quarter = quarter_at(datetime.fromisoformat(time), NEW_YORK)
    assert example.prices[int(example.periods_of(np.array([quarter]))[0])].name == period


def test_periods_are_those_of_a_plain_calculation() -> None:
    for seed in range(4):
        world = random_world(seed)
        texts = [tariff.canonical() for tariff in world.inputs.tariffs]
        plain = Plain(world.inputs.registry, texts, "town", {}, world.settled, world.inputs.month)
        for tariff in world.inputs.tariffs:
            table = next(
                t for t in plain.tariffs if (t["tariff"]["name"], t["version"]) == (tariff.name, tariff.version)
            )
            quarters = np.array(plain.quarters[::7])
            expected = [plain.period(table, int(quarter))["name"] for quarter in quarters]
            assert [tariff.prices[n].name for n in tariff.periods_of(quarters)] == expected


def test_tariff_is_read_back_from_its_canonical_text(example: Tariff) -> None:
    again = tariff_of(example.canonical())
    assert again.canonical() == example.canonical()
    assert (again.effective, again.version, again.label) == (example.effective, 1, "town v1")
    assert again.effective * 900 == datetime(2026, 10, 1, 4, tzinfo=UTC).timestamp()


def changed(tmp_path: Path, old: str, new: str) -> str:
    """Return the error of the example with a part of it replaced."""
    text = EXAMPLE.read_text()
    assert old in text
    path = tmp_path / "tariff.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_tariff(path)
    return str(error.value).replace(str(tmp_path) + "/", "")


def line_of(text: str) -> int:
    return EXAMPLE.read_text().split(text, 1)[0].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('base = "12.00"', 'base = "-1"', "tariff.base: must not be negative"),
        ('import = "0.3200"', "import = 0.32", 'period.0.import: must be text, such as "0.2150"'),
        ('import = "0.3200"', 'import = "a lot"', "period.0.import: must be dollars"),
        ('until = "21:00"', 'until = "20:50"', "hours.0.until: must be on a quarter-hour"),
        ('until = "21:00"', 'until = "25:00"', "hours.0.until: must be a time of the day"),
        ('until = "21:00"', "until = 21", "hours.0.until: must be a time of the day"),
        ('until = "21:00"', 'until = "14:00"', "hours.0.until: must be after `from`"),
        ('period = "peak"', 'period = "peek"', "hours.0.period: unknown period 'peek'; periods are: peak, off-peak"),
        ('season = "summer"', 'season = "somer"', "hours.0.season: unknown season 'somer'"),
        ('days = ["weekday"]', 'days = ["workday"]', "hours.0.days: 'workday' is no day"),
        ('name = "off-peak"', 'name = "peak"', "period.1.name: 'peak' is there twice"),
        ('from = "06-01"', 'from = "06-31"', "season.0.from: there is no day 06-31"),
        ("date = 2026-12-25", "date = 2026-11-26", "holiday.1.date: 2026-11-26 is there twice"),
        ("date = 2026-12-25", 'date = "Christmas"', "holiday.1.date: "),
        ('name = "spec"', 'name = "free"', "policy"),
        ('name = "spec"', 'name = "aces"', "policy.aces.off_peak: missing"),
        ('name = "spec"', 'name = "rangers"', "period.0.credit: must be 0.3200, the price of import"),
        ("effective = 2026-10-01", "effective = 2027-03-14T02:00:00", "2027-03-14T02:00 does not exist"),
        ("effective = 2026-10-01", "effective = 2026-11-01T01:30:00", "2026-11-01T01:30 exists twice"),
        ("effective = 2026-10-01", "effective = 2026-10-01T00:05:00", "00:05:00 begins no quarter-hour"),
        ("effective = 2026-10-01", "effective = 9999-12-31", "tariff.effective: must be before the year 2100"),
        ("effective = 2026-10-01", "effective = 20261001", "must be a date without quotation marks"),
        ('timezone = "America/New_York"', 'timezone = "Mars"', "tariff.timezone: must be a time zone"),
    ],
)
def test_tariff_with_a_fault_is_refused_with_its_place(tmp_path: Path, old: str, new: str, error: str) -> None:
    found = changed(tmp_path, old, new)
    assert error in found
    lines = [line_of(old), line_of('credit = "0.1600"'), line_of("[policy]")]
    assert any(found.startswith(f"tariff.toml: line {line}: ") for line in lines), found


def test_week_with_holes_and_overlaps_is_refused_with_days_and_times(tmp_path: Path) -> None:
    hole = changed(tmp_path, 'from = "00:00"\nuntil = "15:00"', 'from = "06:00"\nuntil = "15:00"')
    assert "hours: no period from 00:00 to 06:00 on mon, tue, wed, thu, fri in summer" in hole
    overlap = changed(tmp_path, 'from = "00:00"\nuntil = "15:00"', 'from = "00:00"\nuntil = "15:30"')
    assert "hours.1.from: overlaps hours.0 from 15:00 to 15:30 on mon, tue, wed, thu, fri in summer" in overlap
    assert "no period from 00:00 to 24:00 on holiday in summer; on holiday in winter" in changed(
        tmp_path, '"weekend", "holiday"', '"weekend"'
    )
    year = changed(tmp_path, 'until = "10-01"', 'until = "09-30"')
    assert "season: no season on 09-30" in year
    assert "season.1.from: overlaps season 'summer' on 10-01" in changed(tmp_path, 'until = "10-01"', 'until = "10-02"')


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    found = changed(tmp_path, 'base = "12.00"', 'base = "-1"\ncolour = "red"')
    assert len(found.splitlines()) == 2
    assert "tariff.colour: unknown key" in found


def test_hours_that_the_clocks_skip_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "tariff.toml"
    night = '[[hours]]\nperiod = "peak"\ndays = ["weekend", "holiday"]\nfrom = "00:00"\nuntil = "02:30"\n\n'
    text = EXAMPLE.read_text().replace('"holiday"]\nfrom = "00:00"', '"holiday"]\nfrom = "02:30"')
    path.write_text(text.replace("[[holiday]]", night + "[[holiday]]", 1))
    notes = read_tariff(path).notes()
    assert any("on 2027-03-14 the clocks skip 02:00 to 03:00" in note for note in notes), notes
    assert read_tariff(EXAMPLE).notes() == []
    assert read_tariff(EXAMPLE).version == 0, "it is not in force yet"
