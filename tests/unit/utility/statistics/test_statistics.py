"""Usage by month beside sums in plain Python: late days, moves, changed clocks, kills; local months and years."""

import asyncio
import csv
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import select

from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S
from commonwatt.town.town import Function, Town
from harness.commands import run_as, shown
from harness.settlement.emulated import small_town
from harness.surroundings import databases
from harness.surroundings.messages import append, exchange
from harness.surroundings.stored import random_day, settle, store_batteries, store_months
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY, Quantity
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.jobs.tables import usage_due
from utility.readings.store.reads import numbers_of
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.registry.accounts import Account, Holding, Installed
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.registry.tables import controller
from utility.settlement.store.readings import owners
from utility.settlement.store.settled import load_settled
from utility.statistics.jobs import take_in
from utility.statistics.months import Span, columns_of, month_number, months_of_day, span_around, span_text
from utility.statistics.packed import packed, unpacked
from utility.statistics.series import SHAPES
from utility.statistics.store.usage import Scope, load_town_usage, mark_settled, refresh_classes
from utility.statistics.store.usage_projection import year_before
from utility.statistics.store.usage_view import load_shape, panel_of, usage_history, usage_page
from utility.statistics.tables import usage_month
from utility.statistics.usage import BitChange, seconds_on

kind = databases.both_kinds
one_kind = pytest.mark.parametrize("kind", ["sqlite"])

NEW_YORK = ZoneInfo("America/New_York")
NAMES = {quantity: quantity.name.lower() for quantity in Quantity}


@pytest.fixture
def town() -> Town:
    return small_town()


class CrashError(Exception):
    """A kill."""


def run(database: Database, now: int = 1_800_000_000, die_at: int | None = None) -> int:
    """Run the job; return how many months it reported."""
    steps = 0
    told: list[object] = []

    async def here(work: Callable[..., Any], *arguments: object) -> Any:
        nonlocal steps
        steps += 1
        if steps == die_at:
            raise CrashError
        return work(*arguments)

    turn = Turn(job="statistics", period=Period(start=now, end=now, name=""), attempt=1, now=now)
    asyncio.run(take_in(database, HERE, turn, tell=told.append))
    return len(told)


def days_of(month: str) -> range:
    year, number = map(int, month.split("-"))
    first = datetime(year, number, 1, tzinfo=NEW_YORK)
    after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=NEW_YORK)
    return range(int(first.timestamp()) // 86_400, (int(after.timestamp()) - 1) // 86_400 + 1)


def settle_month(database: Database, month: str, *, lost: float = 0.0, seed: int = 0) -> None:
    with database.reads.begin() as connection:
        members = list(owners(connection).values())
    for day in days_of(month):
        settle(database, members, random_day(members, day, seed, lost=lost))


def rows(database: Database, scope: Scope) -> dict[tuple[int, int], Any]:
    with database.reads.begin() as connection:
        found = connection.execute(select(usage_month).where(usage_month.c.scope == scope)).all()
    return {(row.month, row.subject): row for row in found}


def in_plain_python(database: Database, month: str) -> dict[str, Any]:
    """The month's sums quarter by quarter, with the calendar of datetime."""
    sums: Counter[tuple[str, int, str]] = Counter()
    town_peak: Counter[int] = Counter()
    with database.reads.begin() as connection:
        known = owners(connection)
        day = days_of(month)
        settled = load_settled(connection, None, day.start * 96, day.stop * 96)
    meters = {m.id: (number, m) for number, owner in known.items() for m in owner.meters}
    quarters = [settled.first + column for column in range(settled.quality.shape[1])]
    is_ours = [datetime.fromtimestamp(q * 900, UTC).astimezone(NEW_YORK).strftime("%Y-%m") == month for q in quarters]
    for row, meter_id in enumerate(settled.meters.tolist()):
        number, meter = meters[meter_id]
        quality = settled.quality[row].tolist()
        energies = {quantity: settled.of(quantity)[row].tolist() for quantity in Quantity}
        for column, quarter in enumerate(quarters):
            if not is_ours[column]:
                continue
            account = meter.account_at(quarter)
            for quantity, values in energies.items():
                sums["microgrid", number, NAMES[quantity]] += values[column]
                sums["town", 0, NAMES[quantity]] += values[column]
                sums["account", account or 0, NAMES[quantity]] += values[column]
            town_peak[quarter] += energies[Quantity.IMPORTED][column]
            sums["microgrid", number, "quarters"] += 1
            sums["microgrid", number, "missing"] += quality[column] == 0
    return {"sums": sums, "peak": max(town_peak.values())}


@pytest.mark.parametrize(("kind", "month"), [("sqlite", "2026-03"), ("postgresql", "2026-11")])
def test_a_month_with_a_change_of_clocks_adds_up(database: Database, town: Town, month: str) -> None:
    settle_month(database, month, lost=0.01)
    run(database)
    plain = in_plain_python(database, month)
    at = month_number(month)
    for scope, what in ((Scope.ACCOUNT, "account"), (Scope.MICROGRID, "microgrid"), (Scope.TOWN, "town")):
        found = {subject: row for (of, subject), row in rows(database, scope).items() if of == at}
        assert found
        for subject, row in found.items():
            for name in NAMES.values():
                assert getattr(row, name) == plain["sums"][what, subject, name], (what, subject, name)
    for subject, row in {s: r for (of, s), r in rows(database, Scope.MICROGRID).items() if of == at}.items():
        assert row.quarters == plain["sums"]["microgrid", subject, "quarters"] == row.settled
        assert row.missing == plain["sums"]["microgrid", subject, "missing"] > 0
        assert row.quarters % {"2026-03": 2972, "2026-11": 2884}[month] == 0
    assert rows(database, Scope.TOWN)[at, 0].peak == plain["peak"]
    classes = [row for (of, _), row in rows(database, Scope.CLASS).items() if of == at]
    assert len(classes) == 3
    assert sum(row.imported for row in classes) == rows(database, Scope.TOWN)[at, 0].imported


def snapshot(database: Database) -> dict[tuple[int, ...], tuple[Any, ...]]:
    c = usage_month.c
    with database.reads.begin() as connection:
        found = connection.execute(select(usage_month)).all()
        assert not connection.execute(select(usage_due)).all()
    names = [column.name for column in c if column.name != "computed"]
    return {(r.month, r.scope, r.subject, r.owner_no): tuple(getattr(r, name) for name in names) for r in found}


@one_kind
def test_a_day_that_is_settled_again_changes_what_it_touches_and_nothing_else(database: Database) -> None:
    settle_month(database, "2026-10")
    run(database)
    before = snapshot(database)
    with database.reads.begin() as connection:
        one = next(owner for owner in owners(connection).values() if owner.microgrid == "r002")
    day = days_of("2026-10")[10]
    settle(database, [one], random_day([one], day, seed=7))
    assert run(database, now=1_900_000_000) == 1
    after = snapshot(database)
    accounts = {held.account for meter in one.meters for held in meter.holdings}
    changed = {key for key in before if before[key] != after[key]}
    touched = {(Scope.MICROGRID, one.number), (Scope.CLASS, 1), (Scope.TOWN, 0)} | {
        (Scope.ACCOUNT, n) for n in accounts
    }
    assert {(scope, subject) for _, scope, subject, _ in changed} == touched
    # From the beginning, the same comes out.
    with database.writes.begin() as connection:
        connection.execute(usage_month.delete())
        mark_settled(connection, 0, 10**6)
    run(database)
    assert snapshot(database) == after


@one_kind
def test_a_kill_at_any_step_loses_and_doubles_nothing(database: Database) -> None:
    settle_month(database, "2026-10")
    run(database)
    whole = snapshot(database)
    with database.writes.begin() as connection:
        connection.execute(usage_month.delete())
        mark_settled(connection, 0, 10**6)
    for step in range(3, 80, 9):
        with suppress(CrashError):
            run(database, die_at=step)
    run(database)
    assert snapshot(database) == whole


def test_an_account_that_moves_has_the_energy_of_its_days(database: Database) -> None:
    settle_month(database, "2026-10")
    run(database)
    middle = days_of("2026-10")[15] * QUARTERS_A_DAY
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        ours = {m.id: m for m in before.meters.values() if m.account_at(middle) == 1}
        parts = (Holding(account=1, start=0, end=middle), Holding(account=900, start=middle))
        meters = {**before.meters, **{i: replace(m, holdings=parts) for i, m in ours.items()}}
        accounts = {**before.accounts, 900: Account(number=900, function=Function.HOUSE)}
        after = replace(before, meters=meters, accounts=accounts)
        save_dated_registry(connection, before, after, "anna", 0, NEW_YORK)
    was = rows(database, Scope.ACCOUNT)
    assert run(database) >= 1
    found, at = rows(database, Scope.ACCOUNT), month_number("2026-10")
    with database.reads.begin() as connection:
        quarters = days_of("2026-10")
        # Until midnight of 1 November in New York, 04:00 UTC.
        late = load_settled(connection, list(ours), middle, quarters.stop * 96 - 80)
    assert found[at, 900].imported == late.of(Quantity.IMPORTED).sum()
    assert found[at, 1].imported + found[at, 900].imported == was[at, 1].imported
    others = {key for key in was if key[1] != 1}
    assert {key: was[key].imported for key in others} == {key: found[key].imported for key in others}


@one_kind
def test_load_shape_of_an_account_in_two_microgrids_is_the_sum_of_both(database: Database) -> None:
    settle_month(database, "2026-10")
    run(database)
    month = month_number("2026-10")
    row, span = rows(database, Scope.ACCOUNT)[month, 1], range(month, month + 1)
    with database.writes.begin() as connection:
        one = load_shape(connection, Scope.ACCOUNT, 1, span)
        connection.execute(usage_month.insert().values({**row._mapping, "owner_no": 99}))
        assert np.array_equal(load_shape(connection, Scope.ACCOUNT, 1, span), 2 * one)


@one_kind
def test_a_controller_without_meters_has_no_usage_and_stops_nothing(database: Database) -> None:
    with database.writes.begin() as connection:
        connection.execute(controller.insert().values(id="spare", number=99, kind="public", address="10.0.0.9"))
        known = list(owners(connection).values())
    settle(database, known, random_day(known, days_of("2026-10")[0], 0))
    run(database)
    assert {subject for _, subject in rows(database, Scope.MICROGRID)} == {owner.number for owner in known}
    assert rows(database, Scope.TOWN)


@one_kind
@pytest.mark.parametrize(("case", "is_known"), [("battery gone before", True), ("incoming since the 20th", False)])
def test_meters_that_come_and_go_leave_no_hole_and_no_half_month(database: Database, case: str, is_known: bool) -> None:
    with database.reads.begin() as connection:
        known = owners(connection)
    members = [meter for owner in known.values() for meter in owner.meters]
    battery = next(m for m in members if m.function is Function.HOUSE and m.capacity)
    incoming = next(m for m in members if (m.microgrid, m.place) == (battery.microgrid, battery.place) and m != battery)
    gone, come = days_of("2026-09")[9] * 96, days_of("2026-10")[19] * 96
    if case == "battery gone before":
        changed = replace(battery, end=gone, holdings=tuple(replace(h, end=gone) for h in battery.holdings))
    else:
        changed = replace(incoming, start=come, holdings=tuple(replace(h, start=come) for h in incoming.holdings))
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        after = replace(before, meters={**before.meters, changed.id: changed})
        save_dated_registry(connection, before, after, "anna", 5, NEW_YORK)
    settle_month(database, "2026-10")
    store_batteries(database, range(days_of("2026-10")[0] - 1, days_of("2026-10")[-1] + 1))
    if case == "battery gone before":
        with database.writes.begin() as connection:
            number = numbers_of(connection, [battery.id])[battery.id]
            connection.execute(compacted.delete().where(compacted.c.meter_no == number))
    run(database)
    at = month_number("2026-10")
    microgrid = next(number for number, owner in known.items() if battery in owner.meters)
    assert (rows(database, Scope.MICROGRID)[at, microgrid].used is not None) == is_known
    assert (rows(database, Scope.ACCOUNT)[at, incoming.holdings[0].account].used is not None) == is_known
    if is_known:
        shape = unpacked(rows(database, Scope.TOWN)[at, 0].payload, "the town")
        assert shape[SHAPES.index("generated")].any(), "the town's is known without the meter that is gone"


@one_kind
def test_use_is_what_was_taken_and_generated_less_what_was_sent_and_stored(database: Database) -> None:
    settle_month(database, "2026-10")
    days = days_of("2026-10")
    readings = store_batteries(database, days)
    run(database)
    at = month_number("2026-10")
    with database.reads.begin() as connection:
        known = owners(connection)
    first, until = days.start * 96 + 16, days.stop * 96 - 80
    microgrids, accounts = rows(database, Scope.MICROGRID), rows(database, Scope.ACCOUNT)
    for number, owner in known.items():
        batteries = [meter.id for meter in owner.meters if meter.capacity is not None]
        made = sum(readings[i, q][0] for i in batteries for q in range(first, until))
        gained = sum(readings[i, until - 1][1] - readings[i, first - 1][1] for i in batteries)
        row = microgrids[at, number]
        assert row.generated == made
        assert row.used == row.imported + row.shared_in - row.exported - row.shared_out + made - gained
        assert row.slots == row.wanted > 0
    apartment = next(m for owner in known.values() for m in owner.meters if m.function is Function.APARTMENT)
    row = accounts[at, apartment.holdings[0].account]
    assert (row.generated, row.used) == (0, row.imported + row.shared_in)
    town = rows(database, Scope.TOWN)[at, 0]
    assert town.generated == sum(microgrids[at, number].generated for number in known)
    assert town.generated == sum(row.generated for (m, _), row in rows(database, Scope.CLASS).items() if m == at)
    shape = unpacked(town.payload, "town")
    assert shape[SHAPES.index("generated")].sum() == town.generated
    # The shape of use telescopes over the month, as its sum does.
    assert shape[SHAPES.index("used")].sum() == town.used


@one_kind
def test_use_of_a_town_that_lacks_a_microgrids_is_of_the_others_and_not_projected(database: Database) -> None:
    first, c = month_number("2026-01"), usage_month.c
    store_months(database, first, 12)
    lost = (c.scope == Scope.MICROGRID) & (c.subject == 1) & (c.month == first)
    with database.writes.begin() as connection:
        assert year_before(connection, first + 12) is not None
        connection.execute(usage_month.update().where(lost).values(used=None, generated=None))
        refresh_classes(connection, load_town_usage(connection), first, 0)
    others = [row for (month, n), row in rows(database, Scope.MICROGRID).items() if month == first and n != 1]
    taken, used = sum(row.imported for row in others), sum(row.used for row in others)
    with database.reads.begin() as connection:
        (town,) = usage_page(connection, Scope.TOWN, range(first, first + 1))
        (again,) = usage_history(connection, Scope.TOWN, 0, first, Span.MONTH, 1)
        panel, _ = panel_of(connection, "used", Scope.TOWN, first + 12, 12)
        assert year_before(connection, first + 12) is None
    assert again == town
    assert (town.totals.used, town.totals.self_sufficiency) == (used, 1 - taken / used)
    assert town.totals.imported > taken
    assert town.totals.use_known == taken / town.totals.imported
    assert np.isnan(panel.values).tolist() == [[True, *[False] * 11]]


@one_kind
def test_the_month_in_which_an_account_or_a_microgrid_came_is_not_projected_from(database: Database) -> None:
    first = month_number("2026-01")
    store_months(database, first, 12)
    begin = columns_of(first + 5, NEW_YORK).first
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        account = next(m.holdings[0].account for m in before.meters.values() if m.holdings and m.microgrid == "r001")

        def come(one: Installed) -> Installed:
            held = (replace(one.holdings[0], start=begin + 960),) if one.account_at(0) == account else one.holdings
            return replace(one, holdings=held, start=begin + 96 if one.microgrid == "r002" else None)

        after = replace(before, meters={meter: come(one) for meter, one in before.meters.items()})
        save_dated_registry(connection, before, after, "ben", 0, NEW_YORK)
        owner = connection.execute(select(controller.c.number).where(controller.c.id == "r002")).scalar_one()
        for scope, subject in ((Scope.ACCOUNT, account), (Scope.MICROGRID, owner)):
            panel, subjects = panel_of(connection, "imported", scope, first + 12, 12)
            unknown = np.isnan(panel.values)
            assert unknown[subjects.index(subject)].tolist() == [month < 6 for month in range(12)]
            assert not np.delete(unknown, subjects.index(subject), axis=0).all(axis=1).any()


@one_kind
def test_a_boundary_meter_that_was_removed_is_islanded_no_longer(database: Database) -> None:
    with database.reads.begin() as connection:
        known = owners(connection)
    boundary = next(m for owner in known.values() for m in owner.meters if m.function is Function.BOUNDARY)
    gone = days_of("2026-10")[9] * 96
    off = 1 | State.OFF_GRID
    dark = EventRecord(previous_state=1, new_state=off, record_id=1, meter_id=boundary.id, time=gone * QUARTER_S - 600)
    Writer(database).commit([append(events=[(1, dark)])])
    exchange(database, {boundary.id: 77_001}, gone)
    for month in ("2026-10", "2026-11"):
        settle_month(database, month)
    run(database)
    number = next(number for number, owner in known.items() if boundary in owner.meters)
    usage = rows(database, Scope.MICROGRID)
    islanded = [usage[month_number(month), number].islanded_s for month in ("2026-10", "2026-11")]
    assert islanded == [600, 0]


def test_hours_of_reduced_demand_are_those_between_the_meters_events() -> None:
    on, off = BitChange(time=50, is_on=True), BitChange(time=150, is_on=False)
    assert seconds_on([on, off], 100, 200) == 50
    assert seconds_on([off], 100, 200) == 50
    assert seconds_on([on], 100, 200) == 100
    assert seconds_on([], 100, 200) == 0
    assert seconds_on([on, off, BitChange(time=190, is_on=True)], 100, 200) == 60


@given(arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 50)), elements=st.integers(-(2**40), 2**40)))
def test_a_packed_table_comes_back(values: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    assert np.array_equal(unpacked(packed(values * 100), "it"), values * 100)


def test_a_damaged_table_is_named() -> None:
    payload = bytearray(packed(np.arange(48).reshape(1, 48)))
    payload[-1] ^= 1
    with pytest.raises(StoreError, match="account 7: its checksum"):
        unpacked(bytes(payload), "account 7")
    payload = bytearray(packed(np.arange(480).reshape(10, 48)))
    payload[4] ^= 128  # The frame's size then is a number of many terabytes.
    with pytest.raises(StoreError, match="account 7: damaged"):
        unpacked(bytes(payload), "account 7")


@one_kind
def test_commands_show_and_export_months_quarters_years_and_five_years(
    database: Database, tmp_path: Path, url: str
) -> None:
    for month in ("2026-09", "2026-10"):
        settle_month(database, month)
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')

    assert "4 months computed" in run_as(config, "statistics", "run")
    assert "0 months computed" in run_as(config, "statistics", "run")
    table = run_as(config, "show", "statistics", "scope=account", "month=2026-10", "--format", "csv")
    exported = {row["name"]: row for row in csv.DictReader(table.splitlines())}
    assert len(exported) == 26
    row = rows(database, Scope.ACCOUNT)[month_number("2026-10"), 17]
    assert int(exported["17"]["imported"]) == row.imported
    assert exported["17"]["missing"] == "0"
    months = shown(config, "statistics", "scope=account", "name=17")["usage"]
    assert [each["period"] for each in months] == ["2026-11", "2026-10", "2026-09", "2026-08"]
    for span in ("year", "five_years"):
        (whole,) = shown(config, "statistics", "scope=account", "name=17", f"by={span}")["usage"]
        assert whole["imported"] == sum(each["imported"] for each in months)
        assert whole["peak"] == max(each["peak"] for each in months)
    (quarter, third) = shown(config, "statistics", "scope=town", "by=quarter", "name=town")["usage"]
    assert (quarter["period"], third["period"]) == ("2026-Q4", "2026-Q3")
    with database.reads.begin() as connection:
        shape = load_shape(connection, Scope.ACCOUNT, 17, range(month_number("2026-10"), month_number("2026-10") + 1))
    # Mean watts over all hours of the month are its energy.
    weights = np.bincount(columns_of(month_number("2026-10"), NEW_YORK).cells)
    assert (shape[0] * weights).sum() / 4 == pytest.approx(row.imported / 1000)


@pytest.mark.parametrize(
    ("month", "quarters"), [("2026-03", 2972), ("2026-11", 2884), ("2028-02", 2784), ("2026-10", 2976)]
)
def test_a_month_has_the_quarters_of_its_local_days(month: str, quarters: int) -> None:
    columns = columns_of(month_number(month), NEW_YORK)
    assert len(columns.cells) == quarters == columns.until - columns.first
    hours = [datetime.fromtimestamp(q * 900, UTC).astimezone(NEW_YORK) for q in range(columns.first, columns.until)]
    assert columns.cells.tolist() == [h.hour + 24 * (h.weekday() >= 5) for h in hours]
    # The Sunday on which the clocks change has 92 or 100.
    if month == "2026-03":
        assert np.bincount(columns.cells)[24 + 2] == np.bincount(columns.cells)[24 + 3] - 4
    if month == "2026-11":
        assert np.bincount(columns.cells)[24 + 1] == np.bincount(columns.cells)[24 + 3] + 4


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"])
def test_every_month_has_a_day_with_the_hours_of_a_load_shape(zone: str) -> None:
    for month in range(month_number("2025-01"), month_number("2038-01")):
        begin = columns_of(month, ZoneInfo(zone)).plain_day * 900
        hours = [datetime.fromtimestamp(begin + 3600 * hour, ZoneInfo(zone)) for hour in range(24)]
        assert [(h.hour, h.minute) for h in hours] == [(hour, 0) for hour in range(24)], month


def test_spans_hold_a_month_and_have_names() -> None:
    month = month_number("2026-11")
    names = {span: span_text(span_around(month, span), span) for span in Span}
    assert names == {"month": "2026-11", "quarter": "2026-Q4", "year": "2026", "five_years": "2021-12 to 2026-11"}
    assert all(month in span_around(month, span) and len(span_around(month, span)) == span.months for span in Span)


def test_a_day_of_utc_at_a_months_edge_is_in_both_months() -> None:
    day = (datetime(2026, 11, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert [len(months_of_day(each, NEW_YORK)) for each in (day - 1, day, day + 1)] == [1, 2, 1]
