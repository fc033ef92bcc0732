"""Tariffs: every error with its place, periods by local time; and rates that controllers receive once (U3)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.calendar import month_before, month_quarters, quarter_at
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.controller_commands import MAX_CHANGES, ControllerCommand
from commonwatt.protocol.json_messages import unpack_json
from harness.billing.plain import Plain
from harness.billing.worlds import published, random_world, tariff
from harness.console import Browser
from harness.surroundings import databases
from utility.access.people import Role
from utility.database.database import Database
from utility.outbox.store import open_commands, tell
from utility.registry.accounts import Dated
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.tariffs.store import wanted_rates
from utility.tariffs.tariff import Tariff, rates_of, read_tariff, tariff_of

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
        texts = [made.canonical() for made in world.inputs.tariffs]
        plain = Plain(world.inputs.registry, texts, "town", {}, world.settled, world.inputs.month)
        for made in world.inputs.tariffs:
            table = next(t for t in plain.tariffs if (t["tariff"]["name"], t["version"]) == (made.name, made.version))
            quarters = np.array(plain.quarters[::7])
            expected = [plain.period(table, int(quarter))["name"] for quarter in quarters]
            assert [made.prices[n].name for n in made.periods_of(quarters)] == expected


def test_tariff_is_read_back_from_its_canonical_text(example: Tariff) -> None:
    again = tariff_of(example.canonical())
    assert again.canonical() == example.canonical()
    assert (again.effective, again.version, again.label) == (example.effective, 1, "town v1")
    assert again.effective * 900 == datetime(2026, 10, 1, 4, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        ({"name": "spec"}, "b0540bab5e4445e2"),
        ({"name": "aces", "off_peak": "off-peak"}, "526f445d96ddcc2d"),
        ({"name": "rangers"}, "9e9bad1b396d7132"),
    ],
)
def test_a_new_key_changes_no_digest_of_tariffs_that_do_not_have_it(policy: dict[str, str], made: str) -> None:
    """A person who adds a key to a tariff's file names it in `later` of its table, and changes nothing here."""
    prices = (("peak", "0.3", "0.3"), ("off-peak", "0.2", "0.2"))
    taxes = [{"name": "levy", "per_kwh": "0.005"}, {"name": "VAT", "percent": "20", "on": ["base", "levy"]}]
    season = [{"name": "s", "from": "06-01", "until": "10-01"}, {"name": "w", "from": "10-01", "until": "06-01"}]
    reminder = [{"days": 9, "fee": "1.00"}]
    rest: dict[str, Any] = {"tax": taxes, "season": season, "bill": {"numbers": "1.234,56"}, "reminder": reminder}
    full = tariff(prices=prices, policy=policy, **rest)
    assert hashlib.sha256(full.canonical().encode()).hexdigest()[:16] == made


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
        ('import = "0.3200"', 'import = "a lot"', "period.0.import: must be an amount"),
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


OCTOBER = int(datetime(2026, 10, 15, tzinfo=NEW_YORK).timestamp())
NOVEMBER = int(datetime(2026, 11, 2, tzinfo=NEW_YORK).timestamp())
publish = published


def tell_rates(database: Database, now: int) -> Mapping[str, list[ControllerCommand]]:
    """Tell what is wanted; return the commands that wait, by controller."""
    found: dict[str, list[ControllerCommand]] = {}
    with database.writes.begin() as connection:
        tell(connection, wanted_rates(connection, "town", now), now)
        for each in open_commands(connection):
            message = unpack_json(ControllerCommand, each.message.encode())
            found.setdefault(each.controller, []).append(message)
    return found


@databases.on_both_kinds
def test_each_controller_is_told_once_and_again_at_a_new_version_and_a_new_month(
    database: Database, browser: Callable[..., Browser]
) -> None:  # req: U3
    assert tell_rates(database, OCTOBER) == {}, "nothing is published"
    publish(database, tariff())
    told = tell_rates(database, OCTOBER)
    assert {name: [each.tariff for each in of] for name, of in told.items()} == {"r001": ["town"], "r002": ["town"]}
    assert tell_rates(database, OCTOBER) == told
    first = told["r001"][0]
    assert (first.version, first.until) == (1, first.rates_until)
    publish(database, tariff(effective="2026-11-15", prices=(("peak", "0.5", "0.1"), ("low", "0.1", "0.1"))))
    (second,) = tell_rates(database, OCTOBER + 60)["r001"]
    assert second.version == 2, "the older command is not sent any more"
    (third,) = tell_rates(database, NOVEMBER)["r001"]
    assert third.rates_until is not None
    assert second.rates_until is not None
    assert third.rates_until > second.rates_until
    page = browser(Role.VIEWER).get("/console/rates/told?tariff=town").text
    assert page.count("town v2</td>") == page.count("2026-11</td>") == 2
    assert "town v1" not in page
    assert 'href="/console/rates/told?tariff=town">town v2</a></th>' in browser(Role.VIEWER).get("/console/rates").text


def test_controller_is_told_the_tariffs_that_its_accounts_have_when_they_begin_to_have_them(database: Database) -> None:
    publish(database, tariff())
    publish(database, tariff("night"))
    begin = OCTOBER // QUARTER_S + 4
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        meters = {i: m for i, m in before.meters.items() if m.microgrid == "r002"}
        (ours, other) = sorted({h.account for m in meters.values() for h in m.holdings})
        terms = {ours: (Dated(start=0, value="day"), Dated(start=begin, value="night")), other: ()}
        accounts = {n: replace(before.accounts[n], tariffs=dated) for n, dated in terms.items()}
        after = replace(before, accounts=dict(before.accounts) | accounts)
        save_dated_registry(connection, before, after, "anna", OCTOBER, NEW_YORK)
    for quarter, expected in ((begin - 1, ["town"]), (begin, ["night", "town"]), (begin + 1, ["night", "town"])):
        told = tell_rates(database, quarter * QUARTER_S)
        assert sorted(str(each.tariff) for each in told["r002"]) == expected, "of `day` there are no rates"
        assert [each.tariff for each in told["r001"]] == ["town"]


def test_rates_told_are_those_that_bills_use() -> None:
    versions = [tariff(), replace(tariff(effective="2026-11-15", peak=("07:00", "09:30")), version=2)]
    found = rates_of(versions, "2026-10", NEW_YORK)
    assert found is not None
    begin, end = (int(datetime(2026, month, 1, tzinfo=NEW_YORK).timestamp()) for month in (10, 12))
    assert (found.changes[0][0], found.rates_until, found.version) == (begin, end, 2)
    place = 0
    for quarter in range(begin // QUARTER_S, end // QUARTER_S):
        while place + 1 < len(found.changes) and found.changes[place + 1][0] <= quarter * QUARTER_S:
            place += 1
        local = datetime.fromtimestamp(quarter * QUARTER_S, NEW_YORK)
        peak = ("07:00", "09:30") if local.strftime("%m-%d") >= "11-15" else ("15:00", "21:00")
        is_peak = local.weekday() < 5 and peak[0] <= local.strftime("%H:%M") < peak[1]
        is_peak = is_peak and local.strftime("%m-%d") != "11-26"
        name = "peak" if is_peak else "off-peak"
        assert found.prices[found.changes[place][1]][0] == name, local


def test_rates_that_change_all_the_time_fit_a_message() -> None:
    names = [f"period {n}" for n in range(2)]
    hours = [
        {"period": names[n % 2], "days": ["every"], "from": f"{n // 4:02d}:{n % 4 * 15:02d}",
         "until": f"{(n + 1) // 4:02d}:{(n + 1) % 4 * 15:02d}"}
        for n in range(96)
    ]  # fmt: skip
    busy = tariff(prices=tuple((name, "1234.123456", "0.1") for name in names), hours=hours)
    found = rates_of([busy], "2026-10", NEW_YORK)
    assert found is not None
    assert (len(found.changes), found.rates_until) == (MAX_CHANGES, found.changes[0][0] + MAX_CHANGES * QUARTER_S)
    message = ControllerCommand(
        id="x", cmd="rates", until=1, tariff="town", version=1, prices=found.prices, changes=found.changes,
        rates_until=found.rates_until,
    ).pack()  # fmt: skip
    assert len(message) < 12_000
    assert unpack_json(ControllerCommand, message).changes == found.changes
    assert rates_of([tariff(effective="2027-01-01")], "2026-10", NEW_YORK) is None
